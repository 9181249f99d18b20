"""Other libraries' metrics under this project's contracts, for parity and timing."""

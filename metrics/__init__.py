"""What it is measured with: pure functions on arrays; imports nothing from bench or implementations."""

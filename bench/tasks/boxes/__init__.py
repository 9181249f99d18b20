"""Tasks of box losses and suppressions."""

"""Tasks of metrics."""

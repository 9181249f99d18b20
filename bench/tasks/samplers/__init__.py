"""Tasks of samplers."""

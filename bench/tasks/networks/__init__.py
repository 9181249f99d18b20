"""Tasks of networks: what a pass costs."""

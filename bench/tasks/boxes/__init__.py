"""Tasks of box losses and NMS."""

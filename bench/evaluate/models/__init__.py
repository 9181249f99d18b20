"""``fidmap evaluate model``: samplers on a model of one's own, by distance to data, solver error and latency."""

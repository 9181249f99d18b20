"""Models of one's own: where a model comes from, and whether it is asked by the convention that it was trained on."""

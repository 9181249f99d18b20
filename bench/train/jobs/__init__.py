"""What is trained: one module a kind of model."""

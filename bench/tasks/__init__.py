"""Tasks: one file each, typed parameters in, measurements out."""

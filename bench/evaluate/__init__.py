"""``fidmap evaluate``: the metrics on files of one's own; ``cli`` holds its commands, one module each does the work."""

"""``fidmap evaluate``: metrics on the user's own images and detections; ``cli`` has the commands."""

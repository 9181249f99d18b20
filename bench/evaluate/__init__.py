"""``fidmap evaluate``: metrics on the user's own files; ``cli`` has the commands."""

"""Tasks that measure metrics: what they respond to, their bias, their intervals, their time."""

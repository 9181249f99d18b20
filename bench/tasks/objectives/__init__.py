"""Tasks of training objectives: what they teach a small network in the plane, and what their gradients cost."""

"""What is measured: reference implementations, readable against their papers; imports nothing from bench or metrics."""

"""What is measured: reference implementations, readable against their papers; imports nothing from bench or metrics."""

from implementations import moved  # noqa: F401  (its finder names the new place of a module)

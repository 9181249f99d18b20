"""Cells are run: workers, what they may leave behind, and progress."""

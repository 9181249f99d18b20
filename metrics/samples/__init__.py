"""Distances and qualities of two sets of samples."""

"""Figures of detections against ground truth."""

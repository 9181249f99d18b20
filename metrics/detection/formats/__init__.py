"""What detections and ground truths are read from."""

"""From a checkpoint to detections and their average precision."""

"""Any images, and trainings that lie in a folder: detections drawn and written (`python -m experiments predict`)."""

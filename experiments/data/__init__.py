"""Images: made, checked, fetched, and read as mmdet datasets."""

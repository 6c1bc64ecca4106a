"""Images in a folder of one's own: checked, cut into splits, and indexed in the data folder of a suite."""

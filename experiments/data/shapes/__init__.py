"""The generated `shapes` set."""

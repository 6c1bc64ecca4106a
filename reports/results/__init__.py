"""Results and published numbers, read and checked."""

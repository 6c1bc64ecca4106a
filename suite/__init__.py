"""The description of a suite, and where its results lie: no torch, no mmdet; everything may import it."""

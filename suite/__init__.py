"""The description of a suite, and where its results lie: plain data, without torch or mmdet; everything may import it."""

"""What pictures have in common, the report's and those of `python -m experiments predict`: colours, fonts, boxes."""

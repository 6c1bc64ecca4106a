"""Figures: each from a frame of data."""

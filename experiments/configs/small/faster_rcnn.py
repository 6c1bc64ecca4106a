"""Faster R-CNN, the baseline."""

_base_ = ["base.py"]

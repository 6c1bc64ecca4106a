"""Cascade R-CNN: the baseline with three box heads, each trained on the boxes of the one before it."""

from experiments.configs._base_.parts import cascade

_base_ = ["base.py"]
model = cascade(channels=48, hidden=256, num_classes=80, num=128)

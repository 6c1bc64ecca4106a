"""Faster R-CNN + IoU-Net: what the IoU-Net variants share, with the hyper-parameters of the published reproduction.

The suite maps loss weight, SmoothL1 beta, RoI counts and lambda to the miniature (`scale:`, experiments/config.py).
"""

from experiments.configs._base_.parts import assigner, iou_branch

_base_ = ["base.py"]
custom_imports = dict(imports=["iounet"], allow_failed_imports=False)
channels = 32
threshold_half = assigner(0.5)
model = iou_branch(channels, [4, 8, 16], hidden=128, num_classes=5, num=64)

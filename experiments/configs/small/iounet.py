"""Faster R-CNN + IoU-Net: what the IoU-Net variants share, with the hyper-parameters of the published reproduction."""

from experiments.configs._base_.parts import assigner, iou_branch

_base_ = ["base.py"]
custom_imports = dict(imports=["iounet"], allow_failed_imports=False)
channels = 48
threshold_half = assigner(0.5)
model = iou_branch(channels, [4, 8, 16, 32], hidden=256, num_classes=80, num=128)

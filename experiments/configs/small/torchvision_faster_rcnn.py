"""torchvision's Faster R-CNN for photographs on a CPU, of the size of the baseline, from random weights as that."""

from experiments.configs._base_.parts import torchvision_faster_rcnn

_base_ = ["base.py"]
custom_imports = dict(imports=["experiments.detectors.faster_rcnn"], allow_failed_imports=False)
model = torchvision_faster_rcnn(
    dict(depth=18, base_channels=24, norm_eval=False),
    channels=48,
    hidden=256,
    num_classes=80,
    num=128,
    proposals=((600, 300), (600, 300)),
)

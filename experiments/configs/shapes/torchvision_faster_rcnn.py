"""torchvision's Faster R-CNN in miniature, of the size of the baseline."""

from experiments.configs._base_.parts import torchvision_faster_rcnn

_base_ = ["base.py"]
custom_imports = dict(imports=["experiments.detectors.faster_rcnn"], allow_failed_imports=False)
model = torchvision_faster_rcnn(
    dict(depth=18, base_channels=16, num_stages=3, norm_eval=True),
    channels=32,
    hidden=128,
    num_classes=5,
    num=64,
    proposals=((300, 150), (400, 200)),
)

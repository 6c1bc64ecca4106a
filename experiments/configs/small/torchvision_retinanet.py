"""torchvision's RetinaNet for photographs on a CPU, from random weights as the other variants."""

_base_ = ["base.py"]
custom_imports = dict(imports=["experiments.detectors.retinanet"], allow_failed_imports=False)
model = dict(
    _delete_=True,
    type="TorchvisionRetinaNet",
    backbone=dict(depth=18, base_channels=24, norm_eval=False),
    channels=48,
    num_classes=80,
    test_cfg=dict(score_thr=0.05, nms_pre=1000, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100),
)

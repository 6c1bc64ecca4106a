"""torchvision's RetinaNet in miniature, by the suite's own schedule.

torchvision's reference recipe for it (SGD, 26 epochs), scaled to 8 images at a time and five epochs, still has an AP of
0 on `tune` after two of them: this many images are too few for it.
"""

_base_ = ["base.py"]
custom_imports = dict(imports=["experiments.detectors.retinanet"], allow_failed_imports=False)
model = dict(
    _delete_=True,
    type="TorchvisionRetinaNet",
    backbone=dict(depth=18, base_channels=16, num_stages=3, norm_eval=True),
    channels=32,
    num_classes=5,
    test_cfg=dict(score_thr=0.05, nms_pre=1000, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100),
)

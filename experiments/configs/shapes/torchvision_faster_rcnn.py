"""torchvision's Faster R-CNN in miniature, of the size of the baseline, trained by torchvision's own reference recipe.

That is SGD with a learning rate of 0.02 for 16 images, linear warm-up in the first epoch, and steps after 16 and 22 of
26 epochs; here for 8 images, after 3 and 4 of 5.
"""

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
optimizer = dict(_delete_=True, type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4)
optimizer_config = dict(_delete_=True, grad_clip=None)
lr_config = dict(_delete_=True, policy="step", warmup="linear", warmup_iters=249, warmup_ratio=0.001, step=[3, 4])

"""torchvision's Faster R-CNN for photographs on a CPU, of the size of the baseline, from random weights as that.

It is trained by torchvision's own reference recipe: SGD with a learning rate of 0.02 for 16 images, linear warm-up in
the first epoch, and steps after 16 and 22 of 26 epochs; here for 8 images, after 12 and 17 of 20.
"""

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
optimizer = dict(_delete_=True, type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4)
optimizer_config = dict(_delete_=True, grad_clip=None)
lr_config = dict(_delete_=True, policy="step", warmup="linear", warmup_iters=22, warmup_ratio=0.001, step=[12, 17])

"""Faster R-CNN with FPN for photographs on a CPU: a narrow ResNet-18 that starts from random weights.

For a few hundred images with a few thousand objects, at about 320 x 240 (`training.image_size` of the suite). Data and
heads are those of the coco configs.
"""

from experiments.configs._base_.parts import bbox_head, proposals, rcnn_training, roi_align, rpn_head, rpn_training

_base_ = ["../coco/base.py"]
channels = 48
strides = [4, 8, 16, 32]
channels_last = True  # the layout of weights and feature maps; the faster one on a CPU

model = dict(
    # from random weights: nothing is frozen, and batch statistics are learnt
    backbone=dict(depth=18, base_channels=24, stem_channels=24, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=channels),
    rpn_head=rpn_head(channels, [8], [*strides, 64]),
    roi_head=dict(
        bbox_roi_extractor=roi_align(channels, strides, sampling_ratio=2, use_torchvision=True),
        bbox_head=bbox_head(channels, 256, 80),
    ),
    train_cfg=dict(rpn=rpn_training(128), rpn_proposal=proposals(600, 300, 0.7), rcnn=rcnn_training(128)),
    test_cfg=dict(rpn=proposals(600, 300, 0.7)),
)
data = dict(samples_per_gpu=8, workers_per_gpu=0)
runner = dict(max_epochs=20)
optimizer = dict(_delete_=True, type="AdamW", lr=1e-3, weight_decay=0.01, fused=True)
optimizer_config = dict(_delete_=True, grad_clip=dict(max_norm=10, norm_type=2))
lr_config = dict(_delete_=True, policy="OneCycle", max_lr=1e-3, pct_start=0.2)
auto_scale_lr = dict(enable=False)
log_interval = 10

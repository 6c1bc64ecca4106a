"""Faster R-CNN with FPN in miniature, for 96 x 96 images on a CPU: data, model, schedule shared by every variant."""

from experiments.configs._base_.parts import bbox_head, proposals, rcnn_training, roi_align, rpn_head, rpn_training

classes = ("circle", "triangle", "cross", "bar", "ring")
num_classes = len(classes)
channels = 32
strides = [4, 8, 16]
channels_last = True  # the layout of weights and feature maps; the faster one on a CPU

model = dict(
    type="FasterRCNN",
    backbone=dict(
        type="ResNet",
        depth=18,
        base_channels=16,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=True,  # the statistics of the start, as with ImageNet's on COCO; see pretraining.py
        style="pytorch",
    ),
    neck=dict(type="FPN", in_channels=[16, 32, 64], out_channels=channels, num_outs=3),
    rpn_head=rpn_head(channels, [4], strides),
    roi_head=dict(
        type="StandardRoIHead",
        # torchvision's kernel gives the same numbers as mmcv's, and its forward pass is four times as fast on a CPU
        bbox_roi_extractor=roi_align(channels, strides, sampling_ratio=2, use_torchvision=True),
        bbox_head=bbox_head(channels, 128, num_classes),
    ),
    train_cfg=dict(rpn=rpn_training(64), rpn_proposal=proposals(300, 150, 0.7), rcnn=rcnn_training(64)),
    test_cfg=dict(
        rpn=proposals(400, 200, 0.7),
        rcnn=dict(score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100),
    ),
)

normalize = dict(type="Normalize", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type="LoadImageOnce"),  # every image is drawn in every epoch, and all of them fit in memory
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", flip_ratio=0.75, direction=["horizontal", "vertical", "diagonal"]),
    normalize,
    dict(type="DefaultFormatBundle"),
    dict(
        type="Collect",
        keys=["img", "gt_bboxes", "gt_labels"],
        meta_keys=(
            "filename",
            "ori_shape",
            "img_shape",
            "pad_shape",
            "scale_factor",
            "flip",
            "flip_direction",
            "img_norm_cfg",
        ),
    ),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        scale_factor=1.0,
        flip=False,
        transforms=[
            dict(type="Resize", keep_ratio=True),
            normalize,
            dict(type="ImageToTensor", keys=["img"]),
            dict(
                type="Collect",
                keys=["img"],
                meta_keys=(
                    "filename",
                    "ori_shape",
                    "img_shape",
                    "pad_shape",
                    "scale_factor",
                    "flip",
                    "img_norm_cfg",
                ),
            ),
        ],
    ),
]
data = dict(
    samples_per_gpu=8,
    workers_per_gpu=0,
    train=dict(
        type="CocoDataset", classes=classes, ann_file="train.json", img_prefix="train/", pipeline=train_pipeline
    ),
    val=dict(type="CocoDataset", classes=classes, ann_file="tune.json", img_prefix="tune/", pipeline=test_pipeline),
    test=dict(type="CocoDataset", classes=classes, ann_file="val.json", img_prefix="val/", pipeline=test_pipeline),
)

runner = dict(type="EpochBasedRunner", max_epochs=5)
optimizer = dict(type="AdamW", lr=2e-3, weight_decay=0.01, fused=True)
optimizer_config = dict(grad_clip=dict(max_norm=10, norm_type=2))
lr_config = dict(policy="OneCycle", max_lr=2e-3, pct_start=0.2)
log_interval = 10

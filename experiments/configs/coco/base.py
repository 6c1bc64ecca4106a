"""Faster R-CNN, R-50-FPN, 1x on COCO, as mmdet 2.x defines it: data, model, schedule shared by every variant."""

from experiments.configs._base_.parts import bbox_head, proposals, rcnn_training, roi_align, rpn_head, rpn_training

num_classes = 80  # the suite sets it to the number of classes of its data
channels = 256
strides = [4, 8, 16, 32]

model = dict(
    type="FasterRCNN",
    backbone=dict(
        type="ResNet",
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=True,
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    neck=dict(type="FPN", in_channels=[256, 512, 1024, 2048], out_channels=channels, num_outs=5),
    rpn_head=rpn_head(channels, [8], [*strides, 64]),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=roi_align(channels, strides, sampling_ratio=0),
        bbox_head=bbox_head(channels, 1024, num_classes),
    ),
    train_cfg=dict(rpn=rpn_training(256), rpn_proposal=proposals(2000, 1000, 0.7), rcnn=rcnn_training(512)),
    test_cfg=dict(
        rpn=proposals(1000, 1000, 0.7),
        rcnn=dict(score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100),
    ),
)

image_size = (1333, 800)
normalize = dict(type="Normalize", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", img_scale=image_size, keep_ratio=True),
    dict(type="RandomFlip", flip_ratio=0.5),
    normalize,
    dict(type="Pad", size_divisor=32),
    dict(type="DefaultFormatBundle"),
    dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"]),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        img_scale=image_size,
        flip=False,
        transforms=[
            dict(type="Resize", keep_ratio=True),
            dict(type="RandomFlip"),
            normalize,
            dict(type="Pad", size_divisor=32),
            dict(type="ImageToTensor", keys=["img"]),
            dict(type="Collect", keys=["img"]),
        ],
    ),
]
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=2,
    train=dict(type="CocoDataset", ann_file="train.json", img_prefix="train/", pipeline=train_pipeline),
    val=dict(type="CocoDataset", ann_file="tune.json", img_prefix="tune/", pipeline=test_pipeline),
    test=dict(type="CocoDataset", ann_file="val.json", img_prefix="val/", pipeline=test_pipeline),
)

runner = dict(type="EpochBasedRunner", max_epochs=12)
optimizer = dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy="step", warmup="linear", warmup_iters=500, warmup_ratio=0.001, step=[8, 11])
auto_scale_lr = dict(enable=True, base_batch_size=16)  # lr is for 16 images: scaled to what the machine has
log_interval = 50

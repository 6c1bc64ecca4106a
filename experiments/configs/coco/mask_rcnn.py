"""Mask R-CNN + IoU-Net: masks are predicted on the refined boxes. Needs `dataset.masks: true`."""

from experiments.configs._base_.parts import roi_align

_base_ = ["iounet.py"]
channels = 256
model = dict(
    type="MaskRCNN",
    roi_head=dict(
        type="MaskIoURoIHead",
        mask_roi_extractor=roi_align(channels, [4, 8, 16, 32], output_size=14, sampling_ratio=0),
        mask_head=dict(
            type="FCNMaskHead",
            num_convs=4,
            in_channels=channels,
            conv_out_channels=channels,
            num_classes=80,
            loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(rcnn=dict(bbox_assigner=dict(match_low_quality=True), mask_size=28)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)),
)
image_size = (1333, 800)
normalize = dict(type="Normalize", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="Resize", img_scale=image_size, keep_ratio=True),
    dict(type="RandomFlip", flip_ratio=0.5),
    normalize,
    dict(type="Pad", size_divisor=32),
    dict(type="DefaultFormatBundle"),
    dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels", "gt_masks"]),
]
data = dict(train=dict(pipeline=train_pipeline))

"""Cascade R-CNN + IoU-Net: three stages on RoIAlign as in mmdet, then IoU-guided NMS and refinement of their boxes."""

from experiments.configs._base_.parts import assigner, bbox_head, rcnn_training, roi_align

_base_ = ["iounet.py"]
channels = 256
strides = [4, 8, 16, 32]
threshold_half = assigner(0.5)
stage_heads = [
    bbox_head(
        channels,
        1024,
        num_classes=80,
        stds=stds,
        class_agnostic=True,
        loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0),
    )
    for stds in ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067])
]
stages = [rcnn_training(512, threshold) for threshold in (0.5, 0.6, 0.7)]
model = dict(
    type="CascadeRCNN",
    rpn_head=dict(loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=1 / 9, loss_weight=1.0)),
    roi_head=dict(
        type="CascadeIoURoIHead",
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_roi_extractor=dict(_delete_=True, **roi_align(channels, strides, sampling_ratio=0)),
        iou_roi_extractor=dict(
            type="PrRoIExtractor",
            roi_layer=dict(type="PrRoIPool", output_size=7),
            out_channels=channels,
            featmap_strides=strides,
        ),
        bbox_head=stage_heads,
        iou_assigner=threshold_half,
        iou_sampler=dict(type="PseudoSampler"),
    ),
    train_cfg=dict(rpn=dict(allowed_border=0), rpn_proposal=dict(max_per_img=2000), rcnn=stages),
)

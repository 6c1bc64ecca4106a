"""Cascade R-CNN + IoU-Net: three stages on RoIAlign as in mmdet, then IoU-guided NMS and refinement of their boxes."""

from experiments.configs._base_.parts import assigner, cascade, roi_align

_base_ = ["iounet.py"]
channels = 256
strides = [4, 8, 16, 32]
threshold_half = assigner(0.5)
stages = cascade(channels, 1024, num_classes=80, num=512)
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
        bbox_head=stages["roi_head"]["bbox_head"],
        iou_assigner=threshold_half,
        iou_sampler=dict(type="PseudoSampler"),
    ),
    train_cfg=dict(rpn=dict(allowed_border=0), rpn_proposal=dict(max_per_img=2000), rcnn=stages["train_cfg"]["rcnn"]),
)

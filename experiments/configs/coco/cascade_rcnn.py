"""Cascade R-CNN + IoU-Net: three stages on RoIAlign as in mmdet, then IoU-guided NMS and refinement of their boxes."""

_base_ = ["iounet.py"]
channels = 256
strides = [4, 8, 16, 32]
threshold_half = dict(
    type="MaxIoUAssigner",
    pos_iou_thr=0.5,
    neg_iou_thr=0.5,
    min_pos_iou=0.5,
    match_low_quality=False,
    ignore_iof_thr=-1,
)
stage_heads = [
    dict(
        type="Shared2FCBBoxHead",
        in_channels=channels,
        fc_out_channels=1024,
        roi_feat_size=7,
        num_classes=80,
        bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=stds),
        reg_class_agnostic=True,
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0),
    )
    for stds in ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067])
]
stages = [
    dict(
        assigner=dict(
            type="MaxIoUAssigner",
            pos_iou_thr=threshold,
            neg_iou_thr=threshold,
            min_pos_iou=threshold,
            match_low_quality=False,
            ignore_iof_thr=-1,
        ),
        sampler=dict(type="RandomSampler", num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
        pos_weight=-1,
        debug=False,
    )
    for threshold in (0.5, 0.6, 0.7)
]
model = dict(
    type="CascadeRCNN",
    rpn_head=dict(loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=1 / 9, loss_weight=1.0)),
    roi_head=dict(
        type="CascadeIoURoIHead",
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_roi_extractor=dict(
            _delete_=True,
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0),
            out_channels=channels,
            featmap_strides=strides,
        ),
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

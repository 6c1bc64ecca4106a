"""Parts that the suites' configs share, as functions of what they differ in; the rest is mmdet's own default."""


def assigner(threshold, low_quality=False, negative=None, least=None):
    """RoIs or anchors to ground truth by IoU; `low_quality`: the best one of each object too, down to `least`."""
    return dict(
        type="MaxIoUAssigner",
        pos_iou_thr=threshold,
        neg_iou_thr=threshold if negative is None else negative,
        min_pos_iou=threshold if least is None else least,
        match_low_quality=low_quality,
        ignore_iof_thr=-1,
    )


def sampler(num, positive, add_gt):
    """`num` of an image, at most the share `positive` of them positive; `add_gt`: ground truth among them."""
    return dict(type="RandomSampler", num=num, pos_fraction=positive, neg_pos_ub=-1, add_gt_as_proposals=add_gt)


def box_coder(stds):
    """Boxes as offsets from RoIs or anchors, divided by `stds`."""
    return dict(type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=stds)


def rpn_head(channels, scales, strides):
    """The RPN: anchors of three shapes."""
    return dict(
        type="RPNHead",
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(type="AnchorGenerator", scales=scales, ratios=[0.5, 1.0, 2.0], strides=strides),
        bbox_coder=box_coder([1.0] * 4),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    )


def bbox_head(channels, hidden, num_classes, stds=(0.1, 0.1, 0.2, 0.2), class_agnostic=False, loss_bbox=None):
    """The box head: two hidden layers."""
    return dict(
        type="Shared2FCBBoxHead",
        in_channels=channels,
        fc_out_channels=hidden,
        roi_feat_size=7,
        num_classes=num_classes,
        bbox_coder=box_coder(list(stds)),
        reg_class_agnostic=class_agnostic,
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_bbox=loss_bbox or dict(type="L1Loss", loss_weight=1.0),
    )


def cascade(channels, hidden, num_classes, num):
    """Faster R-CNN's `model` with three box heads in a row, as mmdet's Cascade R-CNN has them.

    `num`: RoIs of an image that each box head is trained on.
    """
    stages = [([0.1, 0.1, 0.2, 0.2], 0.5), ([0.05, 0.05, 0.1, 0.1], 0.6), ([0.033, 0.033, 0.067, 0.067], 0.7)]
    loss = dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0)
    heads = [bbox_head(channels, hidden, num_classes, stds, class_agnostic=True, loss_bbox=loss) for stds, _ in stages]
    return dict(
        type="CascadeRCNN",
        roi_head=dict(type="CascadeRoIHead", num_stages=3, stage_loss_weights=[1, 0.5, 0.25], bbox_head=heads),
        train_cfg=dict(rcnn=[rcnn_training(num, threshold) for _, threshold in stages]),
    )


def torchvision_faster_rcnn(backbone, channels, hidden, num_classes, num, proposals):
    """torchvision's Faster R-CNN in the place of mmdet's (`experiments.detectors.faster_rcnn`).

    `num`: RoIs, and anchors, of an image that it is trained on; `proposals`: how many of the RPN's boxes are kept, of a
    level before NMS and of an image after it, in training and at inference.
    """
    (before, after), (before_test, after_test) = proposals
    return dict(
        _delete_=True,
        type="TorchvisionFasterRCNN",
        backbone=backbone,
        channels=channels,
        hidden=hidden,
        num_classes=num_classes,
        settings=dict(
            rpn_pre_nms_top_n_train=before,
            rpn_post_nms_top_n_train=after,
            rpn_pre_nms_top_n_test=before_test,
            rpn_post_nms_top_n_test=after_test,
            rpn_batch_size_per_image=num,
            box_batch_size_per_image=num,
        ),
        test_cfg=dict(score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100),
    )


def rpn_training(num):
    """How the RPN is trained: on `num` anchors of an image."""
    return dict(
        assigner=assigner(0.7, low_quality=True, negative=0.3, least=0.3),
        sampler=sampler(num, 0.5, add_gt=False),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    )


def rcnn_training(num, threshold=0.5):
    """How a box head is trained: on `num` RoIs of an image, positive from `threshold` on."""
    return dict(assigner=assigner(threshold), sampler=sampler(num, 0.25, add_gt=True), pos_weight=-1, debug=False)


def proposals(before, after, threshold):
    """What of the RPN's boxes is kept: `before` of a level, `after` of an image, by NMS."""
    return dict(nms_pre=before, max_per_img=after, nms=dict(type="nms", iou_threshold=threshold), min_bbox_size=0)


def roi_align(channels, strides, output_size=7, **options):
    """RoIAlign on the level that a RoI's size calls for."""
    return dict(
        type="SingleRoIExtractor",
        roi_layer=dict(type="RoIAlign", output_size=output_size, **options),
        out_channels=channels,
        featmap_strides=strides,
    )


def iou_branch(channels, strides, hidden, num_classes, num):
    """Faster R-CNN's `model` with the IoU branch, with the hyper-parameters of the published reproduction.

    `num`: RoIs of an image that the box head is trained on.
    """
    return dict(
        roi_head=dict(
            type="IoURoIHead",
            bbox_roi_extractor=dict(
                _delete_=True,
                type="PrRoIExtractor",
                roi_layer=dict(type="PrRoIPool", output_size=7),
                out_channels=channels,
                featmap_strides=strides,
            ),
            iou_head=dict(
                type="IoUHead",
                in_channels=channels * 7 * 7,
                fc_channels=[hidden, hidden],
                num_classes=num_classes,
                class_agnostic=False,
                target_norm=dict(mean=0.5, std=0.5),
                loss_iou=dict(type="SmoothL1Loss", beta=1.0, loss_weight=5.0),
            ),
            roi_generator=dict(
                pre_sample=4000,
                xy_steps=16,
                wh_steps=16,
                xy_range=(0, 1),
                area_range=(1 / 3, 3),
                nonlinearity=2,
                per_iou=None,
                sample_num=1000,
                max_num=1000,
                compensate=None,
            ),
        ),
        train_cfg=dict(
            rcnn=dict(
                _delete_=True,
                bbox_assigner=assigner(0.5),
                bbox_sampler=sampler(num, 0.25, add_gt=True),
                iou_assigner=assigner(0.5),
                iou_sampler=dict(type="PseudoSampler"),
                pos_weight=-1,
                debug=False,
            )
        ),
        test_cfg=dict(
            rcnn=dict(
                iou=dict(
                    nms=dict(multiclass=True, iou_threshold=0.5, guide="rank"),
                    refine=dict(pre_refine=100, t=5, omega_1=0.001, omega_2=-0.01, lamb=0.5, use_iou_score=True),
                )
            )
        ),
    )

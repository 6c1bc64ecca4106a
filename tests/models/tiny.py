"""A tiny IoU-Net with the keys of the published config."""

import copy
from typing import Any

import numpy as np
import torch
from mmcv import ConfigDict
from mmdet.models import build_detector

NUM_CLASSES = 3

RCNN_TEST = {
    "score_thr": 0.05,
    "nms": {"type": "nms", "iou_threshold": 0.5},
    "max_per_img": 100,
    "iou": {
        "nms": {"multiclass": True, "iou_threshold": 0.5, "guide": "rank"},
        "refine": {
            "pre_refine": 100,
            "t": 5,
            "omega_1": 0.001,
            "omega_2": -0.01,
            "lamb": 0.5,
            "use_iou_score": True,
        },
    },
}


def assigner(pos: float, neg: float, low: float, match_low_quality: bool) -> dict[str, Any]:
    return {
        "type": "MaxIoUAssigner",
        "pos_iou_thr": pos,
        "neg_iou_thr": neg,
        "min_pos_iou": low,
        "match_low_quality": match_low_quality,
        "ignore_iof_thr": -1,
    }


def sampler(num: int, pos_fraction: float, add_gt: bool) -> dict[str, Any]:
    return {
        "type": "RandomSampler",
        "num": num,
        "pos_fraction": pos_fraction,
        "neg_pos_ub": -1,
        "add_gt_as_proposals": add_gt,
    }


def detector_config(channels: int = 16) -> ConfigDict:
    """The published detector's keys, all of them, on a small backbone."""
    coder = {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0, 0.0, 0.0, 0.0]}
    proposals = {"nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0}
    return ConfigDict(
        type="FasterRCNN",
        backbone={
            "type": "ResNet",
            "depth": 18,
            "base_channels": 8,
            "stem_channels": 8,
            "num_stages": 3,
            "strides": (1, 2, 2),
            "dilations": (1, 1, 1),
            "out_indices": (0, 1, 2),
            "norm_cfg": {"type": "BN", "requires_grad": True},
            "norm_eval": True,
            "style": "pytorch",
        },
        neck={"type": "FPN", "in_channels": [8, 16, 32], "out_channels": channels, "num_outs": 4},
        rpn_head={
            "type": "RPNHead",
            "in_channels": channels,
            "feat_channels": channels,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": [4],
                "ratios": [0.5, 1.0, 2.0],
                "strides": [4, 8, 16, 32],
            },
            "bbox_coder": {**coder, "target_stds": [1.0, 1.0, 1.0, 1.0]},
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
            "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
        },
        roi_head={
            "type": "IoURoIHead",
            "bbox_roi_extractor": {
                "type": "PrRoIExtractor",
                "roi_layer": {"type": "PrRoIPool2D", "pooled_height": 7, "pooled_width": 7},
                "out_channels": channels,
                "featmap_strides": [4, 8, 16],
            },
            "roi_generator": {
                "pre_sample": 4000,
                "xy_steps": 16,
                "wh_steps": 16,
                "xy_range": (0, 1),
                "area_range": (1 / 3, 3),
                "nonlinearity": 2,
                "per_iou": None,
                "sample_num": 64,
                "max_num": 64,
                "compensate": None,
            },
            "iou_head": {
                "type": "IoUHead",
                "in_channels": channels * 7 * 7,
                "fc_channels": [32, 32],
                "num_classes": NUM_CLASSES,
                "class_agnostic": False,
                "target_norm": {"mean": 0.5, "std": 0.5},
                "loss_iou": {"type": "SmoothL1Loss", "loss_weight": 5.0},
            },
            "bbox_head": {
                "type": "Shared2FCBBoxHead",
                "in_channels": channels,
                "fc_out_channels": 32,
                "roi_feat_size": 7,
                "num_classes": NUM_CLASSES,
                "bbox_coder": {**coder, "target_stds": [0.1, 0.1, 0.2, 0.2]},
                "reg_class_agnostic": False,
                "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
                "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
            },
        },
        train_cfg={
            "rpn": {
                "assigner": assigner(0.7, 0.3, 0.3, True),
                "sampler": sampler(64, 0.5, False),
                "allowed_border": -1,
                "pos_weight": -1,
                "debug": False,
            },
            "rpn_proposal": {"nms_pre": 200, "max_per_img": 100, **proposals},
            "rcnn": {
                "bbox_assigner": assigner(0.5, 0.5, 0.5, False),
                "bbox_sampler": sampler(32, 0.25, True),
                "iou_assigner": assigner(0.5, 0.5, 0.5, False),
                "iou_sampler": {"type": "PseudoSampler"},
                "pos_weight": -1,
                "debug": False,
            },
        },
        test_cfg={
            "rpn": {"nms_pre": 100, "max_per_img": 50, **proposals},
            "rcnn": copy.deepcopy(RCNN_TEST),
        },
    )


def build(config: ConfigDict, seed: int = 0) -> Any:
    """The detector with weights that make it say something: distinct classes, boxes that move, IoUs that vary."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        detector = build_detector(copy.deepcopy(config))
        detector.init_weights()
        head = detector.roi_head
        with torch.no_grad():
            torch.nn.init.normal_(head.bbox_head.fc_cls.weight, std=0.5)
            torch.nn.init.normal_(head.bbox_head.fc_reg.weight, std=0.2)
            if hasattr(head, "iou_head"):
                torch.nn.init.normal_(head.iou_head.fc_iou.weight, std=0.2)
    return detector.eval()


def image_meta(height: int, width: int, scale: float = 1.0) -> dict[str, Any]:
    return {
        "img_shape": (height, width, 3),
        "ori_shape": (round(height / scale), round(width / scale), 3),
        "pad_shape": (96, 96, 3),
        "scale_factor": np.array([scale, scale, scale, scale], dtype=np.float32),
        "flip": False,
        "filename": "none.png",
    }

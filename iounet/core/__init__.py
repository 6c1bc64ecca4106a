"""The algorithms of IoU-Net on plain tensors: RoI generation, the IoU head, NMS, refinement; needs torch only."""

from iounet.core.boxes import apply_deltas, box_iou, clip_boxes
from iounet.core.detections import Candidates, Detections, suppress
from iounet.core.iou_head import IoUPredictor
from iounet.core.nms import iou_guided_nms
from iounet.core.pyramid import PyramidPool
from iounet.core.refine import refine_boxes, refine_rois
from iounet.core.roi_generator import RoIGenerator
from iounet.core.targets import iou_targets

__all__ = [
    "Candidates",
    "Detections",
    "IoUPredictor",
    "PyramidPool",
    "RoIGenerator",
    "apply_deltas",
    "box_iou",
    "clip_boxes",
    "iou_guided_nms",
    "iou_targets",
    "refine_boxes",
    "refine_rois",
    "suppress",
]

"""The algorithms of IoU-Net on plain tensors: RoI generation, IoU-guided NMS, refinement; needs torch only."""

from iounet.core.boxes import apply_deltas, box_iou, clip_boxes
from iounet.core.nms import iou_guided_nms
from iounet.core.refine import refine_boxes
from iounet.core.roi_generator import RoIGenerator

__all__ = ["RoIGenerator", "apply_deltas", "box_iou", "clip_boxes", "iou_guided_nms", "refine_boxes"]

"""IoU-Net as mmdet modules: importing this registers them."""

from iounet.models.cascade_iou_roi_head import CascadeIoURoIHead
from iounet.models.detections import Candidates, Detections, suppress
from iounet.models.iou_head import IoUHead
from iounet.models.iou_roi_head import IoURoIHead
from iounet.models.mask_iou_roi_head import MaskIoURoIHead
from iounet.models.prroi_extractor import PrRoIExtractor

__all__ = [
    "Candidates",
    "CascadeIoURoIHead",
    "Detections",
    "IoUHead",
    "IoURoIHead",
    "MaskIoURoIHead",
    "PrRoIExtractor",
    "suppress",
]

"""IoU-Net as mmdet modules: importing this registers them."""

from iounet.models.detections import Candidates, Detections, suppress
from iounet.models.iou_head import IoUHead
from iounet.models.iou_roi_head import IoURoIHead
from iounet.models.prroi_extractor import PrRoIExtractor

__all__ = ["Candidates", "Detections", "IoUHead", "IoURoIHead", "PrRoIExtractor", "suppress"]

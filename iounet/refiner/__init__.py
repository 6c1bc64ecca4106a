"""IoU-Net by itself, trained alone (paper, section 4), for the boxes of any detector; needs torch and torchvision.

    refiner = IoURefiner.load("refiner.pth")
    (refined,) = refiner.refine([image], [boxes], [scores], [labels], guide="rank")

The op, the RoI generator, the IoU head, NMS and the refinement are those of the mmdet plug-in, :mod:`iounet.core`.
"""

from iounet.refiner.images import Prepared
from iounet.refiner.model import IoURefiner

__all__ = ["IoURefiner", "Prepared"]

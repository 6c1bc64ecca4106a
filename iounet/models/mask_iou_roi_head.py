"""IoU-Net on Mask R-CNN (paper, section 4): masks are predicted on the refined boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmdet.models import HEADS

from iounet.models.iou_roi_head import IoURoIHead


@HEADS.register_module()
class MaskIoURoIHead(IoURoIHead):
    """`IoURoIHead` with mmdet's mask branch.

    Args:
        mask_roi_extractor: as in mmdet; ``None`` = pool masks with the box branch's extractor.
        mask_head: as in mmdet.
        kwargs: of :class:`iounet.models.IoURoIHead`; ``train_cfg`` also needs mmdet's ``mask_size``, ``test_cfg`` its
            ``mask_thr_binary``.
    """

    def __init__(self, mask_head: Mapping[str, Any], mask_roi_extractor: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.init_mask_head(mask_roi_extractor, mask_head)

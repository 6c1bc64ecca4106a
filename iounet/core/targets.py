"""What an IoU head learns: the IoUs of RoIs around ground truth with their objects (IoU-Net, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iounet.core.boxes import box_iou


@torch.no_grad()
def iou_targets(
    rois: Tensor, gt_boxes: Sequence[Tensor], gt_labels: Sequence[Tensor], threshold: float = 0.5
) -> tuple[Tensor, Tensor, Tensor]:
    """Assigns RoIs to the ground truth of their image by IoU, and leaves out those that overlap none by enough.

    Args:
        rois: ``Tensor[R, 5]`` of (image index, x1, y1, x2, y2), of :meth:`iounet.core.RoIGenerator.generate_rois`.
        gt_boxes: per image ``Tensor[G, 4]``.
        gt_labels: per image ``LongTensor[G]``.
        threshold: smallest IoU with the ground truth that a RoI is assigned to, which is the one of its largest IoU.

    Returns:
        ``Tensor[R', 5]`` RoIs, ``Tensor[R']`` their IoUs with their ground truth, and ``LongTensor[R']`` its labels.
    """
    boxes, labels = torch.cat(list(gt_boxes)), torch.cat(list(gt_labels))
    if len(boxes) == 0:
        return rois[:0], rois[:0, 0], labels[:0]
    owner = torch.cat([own.new_full((len(own),), image) for image, own in enumerate(gt_boxes)])
    overlaps = box_iou(boxes[:, None], rois[:, 1:]).masked_fill(owner[:, None] != rois[:, 0], -1)
    best, index = overlaps.max(dim=0)
    (taken,) = torch.where(best >= threshold)
    return rois[taken], best[taken], labels[index[taken]]

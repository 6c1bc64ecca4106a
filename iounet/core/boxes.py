"""Boxes as (x1, y1, x2, y2) in continuous pixels: width is x2 - x1, no ``+ 1`` (the first pixel is 0, 0, 1, 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of boxes paired by broadcasting.

    ``box_iou(a, b)`` pairs two aligned ``Tensor[K, 4]``; ``box_iou(a[:, None], b)`` gives all pairs, ``Tensor[N, M]``.

    Args:
        boxes1: ``Tensor[..., 4]``.
        boxes2: ``Tensor[..., 4]``, broadcastable against ``boxes1``.

    Returns:
        ``Tensor[...]`` in [0, 1]; 0 where the union is empty.
    """
    left, top, right, bottom = boxes1.unbind(-1)
    other_left, other_top, other_right, other_bottom = boxes2.unbind(-1)
    width = (torch.minimum(right, other_right) - torch.maximum(left, other_left)).clamp(min=0)
    height = (torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)).clamp(min=0)
    intersection = width * height
    area, other_area = (right - left) * (bottom - top), (other_right - other_left) * (other_bottom - other_top)
    union = area + other_area - intersection
    return torch.where(union > 0, intersection / union, torch.zeros_like(union))


def clip_boxes(boxes: Tensor, max_shape: Sequence[int] | Tensor) -> Tensor:
    """Clip boxes to their image.

    Args:
        boxes: ``Tensor[K, 4]``.
        max_shape: (height, width, ...) of one image, as in mmdet's ``img_shape``, or a ``Tensor[K, 2]`` of one
            (height, width) per box.

    Returns:
        ``Tensor[K, 4]``: a new tensor.
    """
    limit = torch.as_tensor(max_shape, dtype=boxes.dtype, device=boxes.device)
    height, width = limit[..., 0], limit[..., 1]
    return torch.minimum(boxes.clamp(min=0), torch.stack([width, height, width, height], dim=-1))


def apply_deltas(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Move and scale boxes relative to their own size.

    Args:
        boxes: ``Tensor[..., 4]``.
        deltas: ``Tensor[..., 4]`` of (dx, dy, sw, sh), broadcastable against ``boxes``: the centre moves by dx widths
            and dy heights, the width is multiplied by sw and the height by sh.

    Returns:
        ``Tensor[..., 4]``.
    """
    size = boxes[..., 2:] - boxes[..., :2]
    center = (boxes[..., :2] + boxes[..., 2:]) / 2 + deltas[..., :2] * size
    half = deltas[..., 2:] * size / 2
    return torch.cat([center - half, center + half], dim=-1)


def as_rois(image_index: Tensor, boxes: Tensor) -> Tensor:
    """Boxes of a batch with their images: ``Tensor[K, 5]`` of (image index, x1, y1, x2, y2).

    Args:
        image_index: ``LongTensor[K]``.
        boxes: ``Tensor[K, 4]``.
    """
    return torch.cat([image_index[:, None].to(boxes.dtype), boxes], dim=1)

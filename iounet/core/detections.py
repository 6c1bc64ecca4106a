"""Candidates, detections, and the NMS between them, for a batch at once.

Shapes: N images, K candidates (boxes) of all images, C foreground classes, M detections of all images.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from iounet.core.nms import iou_guided_nms


class Candidates(NamedTuple):
    """What R-CNN proposes for a batch, before NMS.

    Attributes:
        boxes: ``Tensor[K, 4]``, image by image; the box regressed for its RoI's highest-scoring class, clipped.
        class_scores: ``Tensor[K, C]``, softmax over the classes and the background, without the background.
        image_index: ``LongTensor[K]``, ascending.
        num_images: N.
    """

    boxes: Tensor
    class_scores: Tensor
    image_index: Tensor
    num_images: int


class Detections(NamedTuple):
    """Detected boxes, of one image or of several.

    Attributes:
        boxes: ``Tensor[M, 4]``.
        scores: ``Tensor[M]``.
        labels: ``LongTensor[M]``.
        ious: ``Tensor[M]``, the IoU predicted for the label at this position.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    ious: Tensor

    def take(self, rows: Tensor) -> Detections:
        """The rows of an index or a mask."""
        return Detections(*(field[rows] for field in self))


@torch.no_grad()
def suppress(
    candidates: Candidates,
    ious: Tensor,
    *,
    multiclass: bool = True,
    iou_threshold: float = 0.5,
    guide: str = "rank",
    score_thr: float = 0.05,
) -> tuple[Detections, Tensor]:
    """IoU-guided NMS per image and class; see :func:`iounet.core.iou_guided_nms`.

    Args:
        candidates: K boxes.
        ious: ``Tensor[K, C]``, their predicted IoUs.
        multiclass: enter a box for each class that scores ``score_thr`` or more, else for its best class only.
        iou_threshold: overlap above which a box is suppressed.
        guide: ``'rank'``, ``'weight'`` or ``'none'``.
        score_thr: smallest class score.

    Returns:
        Detections image by image, highest score first, and ``LongTensor[M]``: which of the candidates they are.
    """
    scores, num_classes = candidates.class_scores, candidates.class_scores.shape[1]
    if multiclass:
        box, label = (scores >= score_thr).nonzero(as_tuple=True)
    else:
        best, best_label = scores.max(1)
        (box,) = (best >= score_thr).nonzero(as_tuple=True)
        label = best_label[box]
    image_index = candidates.image_index[box]
    boxes, ious = candidates.boxes[box], ious[box, label]
    keys = image_index * num_classes + label
    keep, kept_scores = iou_guided_nms(boxes, scores[box, label], ious, keys, iou_threshold, guide=guide)
    if candidates.num_images > 1:
        by_image = image_index[keep].argsort(stable=True)
        keep, kept_scores = keep[by_image], kept_scores[by_image]
    return Detections(boxes[keep], kept_scores, label[keep], ious[keep]), box[keep]


@torch.no_grad()
def suppress_in_images(
    detections: Detections, image_index: Tensor, iou_threshold: float, guide: str = "rank"
) -> tuple[Detections, Tensor]:
    """IoU-guided NMS of boxes that have one label each, per image and label; see :func:`iounet.core.iou_guided_nms`.

    Args:
        detections: K boxes.
        image_index: ``LongTensor[K]``.
        iou_threshold: overlap above which a box is suppressed.
        guide: ``'rank'``, ``'weight'`` or ``'none'``.

    Returns:
        The M boxes that are kept, highest score first, and ``LongTensor[M]``: their images.
    """
    boxes, scores, labels, ious = detections
    number = int(labels.max()) + 1 if len(labels) else 1
    keep, scores = iou_guided_nms(boxes, scores, ious, image_index * number + labels, iou_threshold, guide=guide)
    return detections.take(keep)._replace(scores=scores), image_index[keep]


def rank_in_image(image_index: Tensor) -> Tensor:
    """``LongTensor[M]``: how many rows of the same image precede each row; the rows come image by image."""
    position = torch.arange(len(image_index), device=image_index.device)
    return position - torch.searchsorted(image_index, image_index)


def in_order(detections: Detections, image_index: Tensor, *, rescore: bool) -> tuple[Detections, Tensor]:
    """Detections image by image, highest score first.

    Args:
        detections: M boxes.
        image_index: ``LongTensor[M]``.
        rescore: multiply the scores with the predicted IoUs first.

    Returns:
        The same M detections; and ``LongTensor[M]``, their images.
    """
    scores = detections.scores * detections.ious if rescore else detections.scores
    order = scores.argsort(descending=True, stable=True)
    order = order[image_index[order].argsort(stable=True)]
    return detections._replace(scores=scores).take(order), image_index[order]


def best_of_each_image(detections: Detections, image_index: Tensor, most: int) -> tuple[Detections, Tensor]:
    """At most so many detections of an image, those of the highest scores; ordered as by :func:`in_order`."""
    detections, image_index = in_order(detections, image_index, rescore=False)
    first = rank_in_image(image_index) < most
    return detections.take(first), image_index[first]


def of_each_image(
    detections: Detections, image_index: Tensor, num_images: int, max_per_img: int = 100
) -> list[Detections]:
    """The first detections of each image.

    Args:
        detections: M boxes image by image, highest score first.
        image_index: ``LongTensor[M]``, ascending.
        num_images: N.
        max_per_img: largest number of detections per image; negative for all.
    """
    if 0 <= max_per_img < len(image_index):  # else there are no more of any image
        first = rank_in_image(image_index) < max_per_img
        detections, image_index = detections.take(first), image_index[first]
    counts = image_index.bincount(minlength=num_images).tolist()
    return [Detections(*fields) for fields in zip(*(field.split(counts) for field in detections), strict=True)]

"""Whether detections are those before or after NMS: what a file's boxes say for and against it."""

from __future__ import annotations

from typing import NamedTuple

import torch

from experiments.refinement.annotations import Annotations
from experiments.refinement.results import Results
from iounet.core import box_iou
from suite.errors import SuiteError

BEFORE, AFTER = "before-nms", "after-nms"
STAGES = (BEFORE, AFTER)
ROUNDING = 0.01  # of an IoU: files have rounded coordinates, and NMS may count pixels in other ways
_AT_ONCE = 1 << 22  # pairs


class Overlap(NamedTuple):
    """Two boxes of one image and class, by their entries in the file, and their IoU."""

    image: int
    first: int
    second: int
    iou: float


def require_stage(found: Results, annotations: Annotations, stage: str, iou_threshold: float) -> str | None:
    """Holds a file against what it is said to be.

    Args:
        found: the detections.
        annotations: of the images.
        stage: one of `STAGES`.
        iou_threshold: of the NMS that was, or is to be.

    Returns:
        A warning: the boxes are said to be those before NMS, and nothing in them says so. None without one.

    Raises:
        SuiteError: they are said to be those after NMS, and two of them cannot both be; names image and entries.
    """
    overlap = first_overlap(found, iou_threshold + ROUNDING)
    if stage == AFTER and overlap is not None:
        name = annotations.names[found.category[overlap.first]]
        raise SuiteError(
            f"{found.path}: entries {overlap.first} and {overlap.second}, both of image_id "
            f"{annotations.image_ids[overlap.image]!r} and of class '{name}', overlap by an IoU of {overlap.iou:.2f}: "
            f"no NMS at {iou_threshold:g} keeps both. Say --input {BEFORE}, or name the threshold of the detector's "
            "own NMS by --iou-threshold (1 for a detector that has none, or Soft-NMS)"
        )
    if stage == BEFORE and overlap is None:
        return (
            f"{found.path}: no two boxes of one image and class overlap by an IoU above {iou_threshold:g}. These look "
            f"like boxes after NMS: guided NMS has nothing to choose from, and --input {AFTER} says so"
        )
    return None


def first_overlap(found: Results, iou_threshold: float) -> Overlap | None:
    """The first two boxes of one image and class with a larger IoU; None without any."""
    for image, rows in found.by_image():
        boxes, labels = torch.from_numpy(found.boxes[rows]), torch.from_numpy(found.category[rows])
        at_once = max(1, _AT_ONCE // len(rows))
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            ious = box_iou(boxes[part, None], boxes)
            ious = ious.masked_fill(labels[part, None] != labels, 0).triu(start + 1)
            above = (ious > iou_threshold).nonzero()
            if len(above):
                first, second = above[0].tolist()
                return Overlap(image, int(rows[start + first]), int(rows[second]), float(ious[first, second]))
    return None

"""Weights of a detector under a refiner's names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# mmdet's name of a part to a refiner's
NAMES = (
    (re.compile(r"^backbone\."), "backbone."),
    (re.compile(r"^neck\.lateral_convs\.(\d+)\.conv\."), r"fpn.inner_blocks.\1.0."),
    (re.compile(r"^neck\.fpn_convs\.(\d+)\.conv\."), r"fpn.layer_blocks.\1.0."),
    (re.compile(r"^roi_head\.iou_head\."), "iou_head."),
)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What of an mmdet detector's state dict a refiner has, too: backbone, FPN and, of an IoU-Net, the IoU head."""
    found = {}
    for key, value in state.items():
        for pattern, name in NAMES:
            own, count = pattern.subn(name, key)
            if count:
                found[own] = value
    return found

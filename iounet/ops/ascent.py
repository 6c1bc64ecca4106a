"""One step of IoU-Net's optimization-based bounding box refinement (algorithm 2), for all boxes at once."""

from __future__ import annotations

import torch
from torch import Tensor

from iounet.ops import _extension
from iounet.ops._arguments import ascent_arguments


def ascent_step_(
    boxes: Tensor,
    stopped: Tensor,
    gradient: Tensor,
    ious: Tensor,
    previous: Tensor | None,
    step_size: float,
    omega_1: float,
    omega_2: float,
) -> None:
    """Stop the boxes whose last step changed their IoU too little or for the worse; move the others. In place.

    A box stops where ``|ious − previous| < omega_1`` or ``ious − previous < omega_2``; NaN does not stop one. A
    box that has not stopped moves by ``step_size × gradient × (w, h, w, h)``. The host never waits for a value.

    Args:
        boxes: contiguous ``Tensor[K, D]``, float32 or float64, D ≥ 4; the last four columns are x1, y1, x2, y2 in
            pixels, those before stay as they are.
        stopped: contiguous ``BoolTensor[K]``: which boxes have stopped before.
        gradient: ``Tensor[K, D]``: of each box's predicted IoU; only the last four columns are used.
        ious: ``Tensor[K]``: predicted at ``boxes``.
        previous: ``Tensor[K]``: predicted where the boxes were before the last step; ``None`` before the first.
        step_size: λ; finite.
        omega_1: early-stop threshold; not NaN.
        omega_2: tolerance of degradation; negative, not NaN.

    Raises:
        TypeError: for another dtype than float32 or float64, or several of them; if an argument is no tensor, or no
            real number (a bool is none).
        ValueError: if shapes or devices do not go together, what is written to is not contiguous, or a number is not
            as said above.
    """
    step_size, omega_1, omega_2 = ascent_arguments(
        boxes, stopped, gradient, ious, previous, step_size, omega_1, omega_2
    )
    if _extension.available(boxes.device.type):
        torch.ops.iounet.ascent_step_(boxes, stopped, gradient, ious, previous, step_size, omega_1, omega_2)
        return
    if previous is not None:
        change = ious - previous
        stopped |= (change.abs() < omega_1) | (change < omega_2)
    corners = boxes[:, -4:]
    size = (corners[:, 2:] - corners[:, :2]).repeat(1, 2)
    corners.add_((gradient[:, -4:] * size).masked_fill(stopped[:, None], 0), alpha=step_size)

"""Optimization-based bounding box refinement (IoU-Net, section 3.2, algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def refine_boxes(
    predict_iou: Callable[[Tensor, Tensor], Tensor],
    boxes: Tensor,
    labels: Tensor,
    step_size: float = 0.5,
    num_steps: int = 5,
    omega_1: float = 0.001,
    omega_2: float = -0.01,
    *,
    keep_shape: bool | None = None,
    trace: list[tuple[Tensor, Tensor]] | None = None,
) -> tuple[Tensor, Tensor]:
    """Move boxes uphill on their predicted IoU.

    One step adds ``step_size × gradient × (w, h, w, h)``: the gradient is taken in units of the box, and becomes pixels
    again. A box stops after a step where ``|new − old| < omega_1`` (converged) or ``new − old < omega_2`` (degraded);
    it keeps the position which that step gave it. Works under ``torch.no_grad()``; leaves parameters' ``.grad`` and the
    inputs alone. The result has no gradient.

    Args:
        predict_iou: called as ``predict_iou(boxes, labels)`` with K' ≤ K of the boxes and their labels (in order);
            returns ``Tensor[K']``, each value differentiable in its own box and independent of the other boxes.
        boxes: ``Tensor[K, 4]`` in pixels.
        labels: ``LongTensor[K]``, passed on to ``predict_iou``: a class, or any other index that it needs per box.
        step_size: λ. The paper uses 0.5.
        num_steps: T, the largest number of steps.
        omega_1: early-stop threshold.
        omega_2: tolerance of degradation; negative.
        keep_shape: compute stopped boxes along, under a mask, instead of dropping them. The result is the same.
            ``None``: only on a GPU, where choosing rows would make the host wait for the device in every step.
        trace: if given, ``num_steps + 1`` pairs ``(boxes, ious)`` of all K boxes are appended: the start, then the
            state after each step. A stopped box stays as it is.

    Returns:
        ``Tensor[K, 4]`` boxes and ``Tensor[K]`` their predicted IoUs, in the order of the input.

    Raises:
        ValueError: if ``num_steps`` is negative, or ``predict_iou`` returns another shape than ``[K']`` or is not
            differentiable in the boxes.
    """
    if num_steps < 0:
        raise ValueError(f"num_steps={num_steps} must not be negative")
    boxes = boxes.detach().clone()
    if len(boxes) == 0:
        ious = boxes.new_zeros(0)
        if trace is not None:
            trace.extend([(boxes, ious)] * (num_steps + 1))
        return boxes, ious

    if keep_shape is None:
        keep_shape = boxes.device.type != "cpu"
    rows = torch.arange(len(boxes), device=boxes.device)
    moving = torch.ones_like(rows, dtype=torch.bool)
    position = boxes.clone()
    differentiable, iou = _predict(predict_iou, position, labels, num_steps > 0)
    ious = iou.detach().clone()
    if trace is not None:
        trace.append((boxes.clone(), ious.clone()))

    for step in range(num_steps):
        if not keep_shape and not bool(moving.any()):
            if trace is not None:
                trace.extend([trace[-1]] * (num_steps - step))
            break
        gradient = _gradient(iou, differentiable)
        iou = iou.detach()
        if not keep_shape:
            rows, labels, position, iou, gradient = (t[moving] for t in (rows, labels, position, iou, gradient))
            moving = moving[moving]
        size = (position[:, 2:] - position[:, :2]).repeat(1, 2)
        position = torch.where(moving[:, None], position + step_size * gradient * size, position)
        old = iou
        differentiable, iou = _predict(predict_iou, position, labels, step + 1 < num_steps)
        change = iou.detach() - old
        boxes[rows] = position
        ious[rows] = torch.where(moving, iou.detach(), old)
        moving = moving & ~((change.abs() < omega_1) | (change < omega_2))
        if trace is not None:
            trace.append((boxes.clone(), ious.clone()))
    return boxes, ious


def _predict(
    predict_iou: Callable[[Tensor, Tensor], Tensor], boxes: Tensor, labels: Tensor, differentiate: bool
) -> tuple[Tensor, Tensor]:
    """The leaf that stands for ``boxes``, and the predicted IoUs, with their graph only if a step follows."""
    leaf = boxes.detach().requires_grad_(differentiate)
    with torch.set_grad_enabled(differentiate):
        ious = predict_iou(leaf, labels)
    if ious.shape != boxes.shape[:1]:
        raise ValueError(f"predict_iou must return shape [{len(boxes)}], one IoU per box, got {list(ious.shape)}")
    return leaf, ious


def _gradient(ious: Tensor, boxes: Tensor) -> Tensor:
    gradient = None
    if ious.requires_grad:
        (gradient,) = torch.autograd.grad(ious, boxes, torch.ones_like(ious), allow_unused=True)
    if gradient is None:
        raise ValueError(
            "predict_iou has no gradient with respect to the boxes: pool with PrRoIPool (RoIAlign does not pass one on)"
        )
    return gradient

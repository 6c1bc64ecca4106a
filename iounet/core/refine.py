"""Optimization-based bounding box refinement (IoU-Net, section 3.2, algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

NO_GRADIENT = (
    "predict_iou has no gradient with respect to the boxes: pool with PrRoIPool (RoIAlign does not pass one on)"
)

Predict = Callable[[Tensor, Tensor], Tensor]
PredictWithGradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Trace = list[tuple[Tensor, Tensor]]


def refine_boxes(
    predict_iou: Predict,
    boxes: Tensor,
    labels: Tensor,
    step_size: float = 0.5,
    num_steps: int = 5,
    omega_1: float = 0.001,
    omega_2: float = -0.01,
    *,
    predict_with_gradient: PredictWithGradient | None = None,
    keep_shape: bool | None = None,
    trace: Trace | None = None,
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
        predict_with_gradient: called like ``predict_iou`` wherever a step follows; returns the same IoUs and their
            gradients ``Tensor[K', 4]``. ``None``: by autograd from ``predict_iou``, which then only serves the last
            position.
        keep_shape: compute stopped boxes along, under a mask, instead of dropping them. The result is the same, up to
            rounding. ``None``: only on a GPU, where choosing rows would make the host wait for the device in every
            step.
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
    model = _Model(predict_iou, predict_with_gradient)
    ascend = _ascend_all if keep_shape else _ascend_moving
    with torch.no_grad():
        return ascend(model, boxes, labels, _Rule(step_size, num_steps, omega_1, omega_2), trace)


class _Rule(NamedTuple):
    step_size: float
    num_steps: int
    omega_1: float
    omega_2: float

    def stops(self, change: Tensor) -> Tensor:
        """Which boxes stop after their predicted IoU changed by so much (written so that NaN does not stop one)."""
        return (change.abs() < self.omega_1) | (change < self.omega_2)


class _Model(NamedTuple):
    predict_iou: Predict
    predict_with_gradient: PredictWithGradient | None

    def __call__(self, boxes: Tensor, labels: Tensor, differentiate: bool) -> tuple[Tensor, Tensor]:
        """IoUs and, if asked for, their gradients (else something without meaning)."""
        if not differentiate:
            ious = gradient = self.predict_iou(boxes, labels).detach()
        elif self.predict_with_gradient is not None:
            ious, gradient = self.predict_with_gradient(boxes, labels)
        else:
            leaf = boxes.detach().requires_grad_()
            with torch.enable_grad():
                ious = self.predict_iou(leaf, labels)
            gradient = gradient_of(ious, leaf, torch.ones_like(ious))
            ious = ious.detach()
        if ious.shape != boxes.shape[:1]:
            raise ValueError(f"predict_iou must return shape [{len(boxes)}], one IoU per box, got {list(ious.shape)}")
        return ious, gradient


def gradient_of(output: Tensor, input: Tensor, weight: Tensor) -> Tensor:
    """The gradient of ``(output × weight).sum()`` to ``input``. Raises ``ValueError`` if there is none."""
    gradient = None
    if output.requires_grad:
        (gradient,) = torch.autograd.grad(output, input, weight, allow_unused=True)
    if gradient is None:
        raise ValueError(NO_GRADIENT)
    return gradient


def _ascend_all(
    model: _Model, boxes: Tensor, labels: Tensor, rule: _Rule, trace: Trace | None
) -> tuple[Tensor, Tensor]:
    """All boxes in every step, those that stopped by a step of zero: nothing waits for a value. Moves ``boxes``.

    A stopped box is where it was, so its IoU comes out as it was.
    """
    low, high, corners = boxes[:, :2], boxes[:, 2:], boxes.view(-1, 2, 2)
    stopped = torch.zeros_like(labels, dtype=torch.bool)
    stays = stopped[:, None, None]
    size = torch.empty_like(low, memory_format=torch.contiguous_format)
    sizes = size[:, None]
    ious, gradient = model(boxes, labels, rule.num_steps > 0)
    if trace is not None:
        trace.append((boxes.clone(), ious))
    for step in range(rule.num_steps):
        torch.sub(high, low, out=size)
        step_taken = (gradient.reshape(-1, 2, 2) * sizes).masked_fill_(stays, 0)
        corners.add_(step_taken, alpha=rule.step_size)
        old = ious
        ious, gradient = model(boxes, labels, step + 1 < rule.num_steps)
        stopped |= rule.stops(ious - old)
        if trace is not None:
            trace.append((boxes.clone(), ious))
    return boxes, ious


def _ascend_moving(
    model: _Model, boxes: Tensor, labels: Tensor, rule: _Rule, trace: Trace | None
) -> tuple[Tensor, Tensor]:
    """Only the boxes that have not stopped: less to compute, and the host looks which those are. Moves ``boxes``."""
    rows = torch.arange(len(boxes), device=boxes.device)
    position = boxes
    iou, gradient = model(position, labels, rule.num_steps > 0)
    ious = iou.clone()
    if trace is not None:
        trace.append((boxes.clone(), ious.clone()))
    for step in range(rule.num_steps):
        if len(rows) == 0:
            if trace is not None:
                trace.extend([trace[-1]] * (rule.num_steps - step))
            break
        size = (position[:, 2:] - position[:, :2]).repeat(1, 2)
        position = torch.add(position, gradient * size, alpha=rule.step_size)
        old = iou
        iou, gradient = model(position, labels, step + 1 < rule.num_steps)
        boxes[rows], ious[rows] = position, iou
        if trace is not None:
            trace.append((boxes.clone(), ious.clone()))
        if step + 1 < rule.num_steps:
            (kept,) = torch.where(~rule.stops(iou - old))
            rows, labels, position, iou, gradient = (t[kept] for t in (rows, labels, position, iou, gradient))
    return boxes, ious

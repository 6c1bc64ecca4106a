"""Optimization-based bounding box refinement (IoU-Net, section 3.2, algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from iounet.core.iou_head import LabelledIoU
from iounet.ops import ascent_step_

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
    start: tuple[Tensor, Tensor] | None = None,
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
        boxes: ``Tensor[K, 4]`` in pixels; or ``Tensor[K, 5]`` RoIs, whose first column (the image index) is handed to
            ``predict_iou`` and back as it is.
        labels: ``LongTensor[K]``, passed on to ``predict_iou``: a class, or any other index that it needs per box.
        step_size: λ. The paper uses 0.5.
        num_steps: T, the largest number of steps.
        omega_1: early-stop threshold.
        omega_2: tolerance of degradation; negative.
        predict_with_gradient: called like ``predict_iou`` wherever a step follows; returns the same IoUs and their
            gradients, of the shape of the boxes. ``None``: by autograd from ``predict_iou``, which then only serves the
            last position.
        start: what ``predict_with_gradient`` would return for ``boxes`` and ``labels``, where it is known already.
        keep_shape: compute stopped boxes along, under a mask, instead of dropping them. The result is the same, up to
            rounding. ``None``: only on a GPU, where choosing rows would make the host wait for the device in every
            step.
        trace: if given, ``num_steps + 1`` pairs ``(boxes, ious)`` of all K boxes are appended: the start, then the
            state after each step. A stopped box stays as it is.

    Returns:
        ``Tensor[K, 4 or 5]`` boxes and ``Tensor[K]`` their predicted IoUs, in the order of the input.

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

    def predict(boxes: Tensor, labels: Tensor, differentiate: bool) -> tuple[Tensor, Tensor]:
        return _predict(predict_iou, predict_with_gradient, boxes, labels, differentiate)

    with torch.no_grad():
        iou, gradient = predict(boxes, labels, num_steps > 0) if start is None else start
        position, ious, rows = boxes, iou, None  # rows: which boxes are still here; None: all of them
        if trace is not None:
            trace.append((boxes.clone(), ious.clone()))
        stopped = torch.zeros_like(labels, dtype=torch.bool)
        previous = None
        for step in range(num_steps):
            ascent_step_(position, stopped, gradient, iou, previous, step_size, omega_1, omega_2)
            if not keep_shape and step > 0:
                (kept,) = torch.where(~stopped)
                if len(kept) < len(position):
                    rows, ious = (kept, ious.clone()) if rows is None else (rows[kept], ious)
                    labels, position, iou, stopped = (t[kept] for t in (labels, position, iou, stopped))
                if len(position) == 0:
                    if trace is not None:
                        trace.extend([trace[-1]] * (num_steps - step))
                    break
            previous = iou
            iou, gradient = predict(position, labels, step + 1 < num_steps)
            if rows is None:
                ious = iou
            else:
                boxes[rows], ious[rows] = position, iou
            if trace is not None:
                trace.append((boxes.clone(), ious.clone()))
        return boxes, ious


def refine_rois(
    pool: Callable[[Sequence[Tensor], Tensor], Tensor],
    maps: Sequence[Tensor],
    rois: Tensor,
    model: LabelledIoU,
    *,
    coordinate_gradient: Callable[[Sequence[Tensor], Tensor, Tensor], Tensor] | None = None,
    known: tuple[Tensor, Sequence[Tensor]] | None = None,
    step_size: float = 0.5,
    num_steps: int = 5,
    omega_1: float = 0.001,
    omega_2: float = -0.01,
    trace: Trace | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`refine_boxes` on feature maps, by an IoU head; the gradient in closed form where the pooling has one.

    Args:
        pool: called as ``pool(maps, rois)``; returns ``Tensor[K', C, h, w]`` pooled features.
        maps: ``Tensor[N, C, Hl, Wl]`` per level; constants here.
        rois: ``Tensor[K, 5]`` of (image index, x1, y1, x2, y2), in pixels of the network's input.
        model: the IoU head, of the K labels.
        coordinate_gradient: called as ``coordinate_gradient(maps, rois, gradient)`` with the gradient to the pooled
            features, flattened from the second dimension on or not; returns that to the RoIs. ``None``: by autograd.
        known: IoUs ``Tensor[K]`` and hidden activations ``Tensor[K, width]`` per layer of a pass over ``rois``: it is
            then not repeated for the first step.
        step_size: see :func:`refine_boxes`, like the rest.
        num_steps: see there.
        omega_1: see there.
        omega_2: see there.
        trace: see there.

    Returns:
        ``Tensor[K, 5]`` RoIs and ``Tensor[K]`` their predicted IoUs.
    """
    # In this layout they are pooled time and again without being copied.
    maps = [level.detach().to(rois.dtype, memory_format=torch.channels_last) for level in maps]

    def some(rows: Tensor) -> Tensor | None:  # which of the RoIs: None for all
        return None if len(rows) == len(rois) else rows

    def predict_iou(rois: Tensor, rows: Tensor) -> Tensor:
        return model(pool(maps, rois), some(rows))

    def predict_with_gradient(rois: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        assert coordinate_gradient is not None
        ious, gradient = model.with_gradient(pool(maps, rois), some(rows))
        return ious, coordinate_gradient(maps, rois, gradient)

    start = None
    with torch.autocast(rois.device.type, enabled=False):
        # Of another precision, what was predicted before cannot be compared with what follows to within omega_1.
        if coordinate_gradient and num_steps > 0 and known is not None and known[1][0].dtype == model.layers.dtype:
            start = known[0], coordinate_gradient(maps, rois, model.gradient(*known))
        return refine_boxes(
            predict_iou,
            rois,
            torch.arange(len(rois), device=rois.device),
            step_size=step_size,
            num_steps=num_steps,
            omega_1=omega_1,
            omega_2=omega_2,
            predict_with_gradient=None if coordinate_gradient is None else predict_with_gradient,
            start=start,
            trace=trace,
        )


def _predict(
    predict_iou: Predict,
    predict_with_gradient: PredictWithGradient | None,
    boxes: Tensor,
    labels: Tensor,
    differentiate: bool,
) -> tuple[Tensor, Tensor]:
    """IoUs and, if asked for, their gradients (else something without meaning)."""
    if not differentiate:
        ious = gradient = predict_iou(boxes, labels).detach()
    elif predict_with_gradient is not None:
        ious, gradient = predict_with_gradient(boxes, labels)
    else:
        leaf = boxes.detach().requires_grad_()
        with torch.enable_grad():
            ious = predict_iou(leaf, labels)
        gradient = gradient_of(ious, leaf, torch.ones_like(ious))
        ious = ious.detach()
    if ious.shape != boxes.shape[:1]:
        raise ValueError(f"predict_iou must return shape [{len(boxes)}], one IoU per box, got {list(ious.shape)}")
    return ious, gradient


def gradient_of(output: Tensor, boxes: Tensor, weight: Tensor) -> Tensor:
    """The gradient of ``(output × weight).sum()`` to ``boxes``. Raises ``ValueError`` if there is none."""
    gradient = None
    if output.requires_grad:
        (gradient,) = torch.autograd.grad(output, boxes, weight, allow_unused=True)
    if gradient is None:
        raise ValueError(NO_GRADIENT)
    return gradient

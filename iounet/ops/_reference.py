"""Precise RoI Pooling in plain torch: the oracle of the tests, and the fallback where there is no compiler.

Shapes: K RoIs, P bins along an axis, C channels, maps of H x W cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from iounet.ops._arguments import autocast_enabled

# Elements of the largest intermediate tensor: RoIs are taken in chunks that stay below it.
_CHUNK_ELEMENTS = 1 << 24


def _edges(start: Tensor, end: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """The edges of the bins, Tensor[K, P + 1], from an origin, Tensor[K], on; and whether all have an inside."""
    # Relative to floor(start), so that the edges keep their digits however far the RoI lies from the origin.
    origin = start.detach().floor()
    steps = torch.arange(bins + 1, dtype=start.dtype, device=start.device)
    edges = (start - origin)[:, None] + (end - start)[:, None] * steps / bins
    # False also for NaN: where the extent is beyond any number.
    not_empty = (edges[:, 1:] > edges[:, :-1]).all(dim=1)
    return torch.where(not_empty[:, None], edges, steps), origin, not_empty


def axis_weights(start: Tensor, end: Tensor, bins: int, size: int) -> Tensor:
    """Mean of every cell's hat function over every bin, along one axis.

    Args:
        start: Tensor[K], lower end of the RoIs, in feature cells.
        end: Tensor[K], upper end of the RoIs, in feature cells.
        bins: number of bins P.
        size: number of cells of the map.

    Returns:
        Tensor[K, P, size]; zero for a RoI whose bins are empty.
    """
    edges, origin, not_empty = _edges(start, end, bins)
    cells = torch.arange(size, dtype=start.dtype, device=start.device) - origin[:, None]
    distance = edges[:, :, None] - cells[:, None, :]
    lower, upper = distance[:, :-1], distance[:, 1:]
    width = (edges[:, 1:] - edges[:, :-1])[:, :, None]
    # The integral of h(t) = 1 - |t| over the part of the bin within reach of the cell, divided by the bin's width. Its
    # terms are divided one by one: their difference would lose the digits of a bin much smaller than a cell.
    low, high = lower.clamp(-1, 1), upper.clamp(-1, 1)
    share = torch.where((lower > -1) & (upper < 1), 1, (high - low) / width)
    below = torch.where(low * high >= 0, share * (high + low).abs(), (high**2 + low**2) / width)
    return torch.where(not_empty[:, None, None], share - below / 2, 0)


def _reached_cells(start: Tensor, end: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of :func:`axis_weights`, the cells that a bin reaches, M at most: their numbers, which there are, their weights.

    All three are Tensor[K, P, M].
    """
    edges, origin, not_empty = _edges(start.detach(), end.detach(), bins)
    first, last = edges[:, :-1].floor() + origin[:, None], edges[:, 1:].ceil() + 1 + origin[:, None]
    cells = torch.arange(size, dtype=start.dtype, device=start.device)
    reached = (first[:, :, None] <= cells) & (cells < last[:, :, None]) & not_empty[:, None, None]
    most = max(reached.sum(dim=2).flatten().tolist(), default=0)
    index = reached.to(torch.uint8).argsort(dim=2, descending=True, stable=True)[:, :, :most]
    found = reached.gather(2, index)
    return index, found, torch.where(found, axis_weights(start, end, bins, size).gather(2, index), 0)


def _pool_map(feature: Tensor, boxes: Tensor, pooled_height: int, pooled_width: int) -> Tensor:
    """Pools Tensor[K, 4] boxes, in cells, from one Tensor[C, H, W] map to Tensor[K, C, ph, pw]."""
    height, width = feature.shape[1:]
    weights_y = axis_weights(boxes[:, 1], boxes[:, 3], pooled_height, height).to(feature.dtype)
    weights_x = axis_weights(boxes[:, 0], boxes[:, 2], pooled_width, width).to(feature.dtype)
    rows = torch.einsum("kph,chw->kpcw", weights_y, feature)
    return torch.einsum("kpcw,kqw->kcpq", rows, weights_x)


def _pool_reached(feature: Tensor, boxes: Tensor, pooled_height: int, pooled_width: int) -> Tensor:
    """As :func:`_pool_map`, but each bin reads only what it reaches: 0 * NaN of the other cells would be NaN."""
    height, width = feature.shape[1:]
    rows, in_rows, weights_y = _reached_cells(boxes[:, 1], boxes[:, 3], pooled_height, height)
    columns, in_columns, weights_x = _reached_cells(boxes[:, 0], boxes[:, 2], pooled_width, width)
    per_roi = len(feature) * rows.shape[1:].numel() * columns.shape[1:].numel()
    pooled = []
    for k in torch.arange(len(boxes), device=boxes.device).split(max(1, _CHUNK_ELEMENTS // max(1, per_roi))):
        cells = feature[:, rows[k][:, :, :, None, None], columns[k][:, None, None]]  # C, K, P, M, P, M
        found = in_rows[k][:, :, :, None, None] & in_columns[k][:, None, None]
        weights = weights_y[k].to(feature.dtype), weights_x[k].to(feature.dtype)
        pooled.append(torch.einsum("ckpmqn,kpm,kqn->kcpq", torch.where(found, cells, 0), *weights))
    reached = in_rows.any(dim=2)[:, :, None] & in_columns.any(dim=2)[:, None]
    return torch.where(reached[:, None], torch.cat(pooled), 0)


class _Pool(torch.autograd.Function):
    """Pools RoIs from one map, as :func:`_pool_map`, and computes anew in backward what it did not keep."""

    @staticmethod
    def forward(ctx: Any, feature: Tensor, boxes: Tensor, *output_size: int) -> Tensor:
        """Arguments of :func:`_pool_map`."""
        ctx.save_for_backward(feature, boxes)
        ctx.output_size = output_size
        pool = _pool_map if feature.isfinite().all() else _pool_reached
        return pool(feature, boxes, *output_size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Differentiable again."""
        differentiable, needed = torch.is_grad_enabled(), ctx.needs_input_grad[:2]
        leaves = [
            x if differentiable else x.detach().requires_grad_(n)
            for x, n in zip(ctx.saved_tensors, needed, strict=True)
        ]
        feature, boxes = leaves
        pool = _pool_map if feature.isfinite().all() and grad.isfinite().all() else _pool_reached
        with torch.enable_grad():
            output = pool(feature, boxes, *ctx.output_size)
        wanted = [x for x, n in zip(leaves, needed, strict=True) if n]
        gradients = iter(torch.autograd.grad(output, wanted, grad, create_graph=differentiable))
        return *(next(gradients) if n else None for n in needed), None, None


def _levels_by_area(rois: Tensor, level_areas: Sequence[float]) -> Tensor:
    """Number of areas that a RoI's own reaches, in float32 where the RoIs are of half precision."""
    boxes = rois[:, 1:] if rois.dtype == torch.float64 else rois[:, 1:].float()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return torch.bucketize(area, torch.tensor(level_areas, dtype=area.dtype, device=area.device), right=True)


def check_values(rois: Tensor, batch_size: int, levels: Tensor | None, num_levels: int) -> None:
    """Raises for the values that the compiled CPU kernel refuses, in the same words."""
    finite = rois.isfinite().all(dim=1)
    if not finite.all():
        row = int((~finite).nonzero()[0])
        values = ", ".join(f"{value:g}" for value in rois[row].tolist())
        raise ValueError(f"prroi_pool: rois must be finite, got [{values}] in row {row}")
    index = rois[:, 0]
    valid = (index >= 0) & (index < batch_size) & (index == index.floor())
    if not valid.all():
        row = int((~valid).nonzero()[0])
        raise ValueError(
            f"prroi_pool: batch index must be an integer in [0, {batch_size}), got {index[row]:g} in row {row}"
        )
    if levels is not None:
        outside = (levels < 0) | (levels >= num_levels)
        if outside.any():
            row = int(outside.nonzero()[0])
            raise ValueError(f"prroi_pool: levels must be in [0, {num_levels}), got {levels[row]} in row {row}")


def prroi_pool_reference(
    inputs: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    output_size: tuple[int, int],
    spatial_scales: Sequence[float],
    level_areas: Sequence[float] | None = None,
) -> Tensor:
    """Precise RoI Pooling by two dense matrix products per RoI (arXiv 1807.11590, eqs. 3 to 5).

    Differentiable, as often as wanted, in ``inputs`` and ``rois``. The weights are always computed in float64.

    Args:
        inputs: one Tensor[N, C, Hl, Wl] per level.
        rois: Tensor[K, 5], (batch index, x1, y1, x2, y2) in image pixels.
        levels: LongTensor[K], the level of every RoI; None: by ``level_areas``, or all are of level 0.
        output_size: (ph, pw).
        spatial_scales: cells per image pixel, one per level.
        level_areas: smallest area, in square pixels, on each level but the first.

    Returns:
        Tensor[K, C, ph, pw].

    Raises:
        ValueError: on the CPU, if a RoI is not finite, or a batch index or level is out of range. On other devices
            such RoIs give 0; on "meta" there are no values.
    """
    device_type = rois.device.type
    if autocast_enabled(device_type):
        with torch.autocast(device_type, enabled=False):
            rois, *inputs = (x if x.dtype == torch.float64 else x.float() for x in (rois, *inputs))
            return prroi_pool_reference(inputs, rois, levels, output_size, spatial_scales, level_areas)
    batch_size, channels = inputs[0].shape[:2]
    pooled_height, pooled_width = output_size
    dtype = inputs[0].dtype
    # Half precision is only a storage format here, as in the compiled kernels.
    compute_dtype = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    size = (rois.shape[0], channels, pooled_height, pooled_width)
    output = torch.zeros(size, dtype=compute_dtype, device=rois.device)
    if device_type == "meta" or isinstance(rois, FakeTensor) or rois.shape[0] == 0:
        # There are shapes only, for which any differentiable function of the arguments will do.
        return (output + sum(x.sum() for x in (rois, *inputs))).to(dtype)
    if level_areas is not None:
        levels = _levels_by_area(rois.detach(), level_areas)
    if device_type == "cpu":
        check_values(rois.detach(), batch_size, levels, len(inputs))
    usable = rois.detach().isfinite().all(dim=1)
    boxes = torch.where(usable[:, None], rois[:, 1:].double(), 0)
    for level, (feature, scale) in enumerate(zip(inputs, spatial_scales, strict=True)):
        per_roi = pooled_height * channels * feature.shape[3] + (pooled_height + pooled_width) * sum(feature.shape[2:])
        chunk = max(1, _CHUNK_ELEMENTS // max(1, per_roi))
        for image in range(batch_size):
            selected = usable & (rois[:, 0] == image)
            if levels is not None:
                selected &= levels == level
            for index in selected.nonzero()[:, 0].split(chunk):
                pooled = _Pool.apply(feature[image].to(compute_dtype), boxes[index] * scale, *output_size)
                output.index_copy_(0, index, pooled)
    return output.to(dtype)

"""RoIAlign in plain torch, differentiable in the RoIs: the mean of n × n bilinear samples per bin.

The kernels of torchvision and mmcv pass no gradient on to the RoIs. This one samples the same points and has one.
Precise RoI Pooling is the integral of the same bilinear surface, so RoIAlign is its midpoint rule: exact as long as no
cell's centre line runs through a bin, and else in error by the kinks there.

Shapes: K RoIs, P bins along an axis, S samples of a bin along an axis, C channels, maps of H × W cells. Coordinates are
those of Precise RoI Pooling: a RoI times the scale, without half a pixel; cell (i, j) lies at y = i, x = j.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torchvision.ops import roi_align

ADAPTIVE = 0  # samples: as many as a bin is cells long, rounded up
_CHUNK_ELEMENTS = 1 << 22  # of the largest intermediate tensor: RoIs are taken in chunks that stay about there
_ASSUMED_SAMPLES = 8
Weights = Callable[[Tensor, Tensor, int, int], Tensor]


def sampled_weights(start: Tensor, end: Tensor, bins: int, size: int, samples: int) -> Tensor:
    """Mean of every cell's bilinear weight over the samples of every bin, along one axis; as torchvision has it.

    A sample within one cell outside the map reads the map's last cell, one farther away reads 0.

    Args:
        start: Tensor[K], lower end of the RoIs, in feature cells.
        end: Tensor[K], upper end.
        bins: P.
        size: number of cells of the map.
        samples: per bin, or `ADAPTIVE`.

    Returns:
        Tensor[K, P, size], differentiable in `start` and `end`; with `ADAPTIVE` as if the number of samples were fixed.
    """
    length = (end - start) / bins
    count = torch.full_like(length, samples) if samples else length.detach().ceil()
    most = int(count.max().clamp(min=0)) if len(count) else 0
    numbers = torch.arange(max(most, bins), dtype=start.dtype, device=start.device)
    within = (numbers[:most] + 0.5) / count.clamp(min=1)[:, None]  # K, S: as a share of the bin
    place = numbers[:bins, None] + within[:, None]  # K, P, S: in bins
    points = start[:, None, None] + place * length[:, None, None]
    read = (points >= -1) & (points <= size) & (numbers[:most] < count[:, None])[:, None]
    cells = torch.arange(size, dtype=start.dtype, device=start.device)
    weights = (1 - (points.clamp(0, size - 1)[..., None] - cells).abs()).clamp(min=0)
    return (weights * read[..., None]).sum(2) / count.clamp(min=1)[:, None, None]


def sampled_pool(
    inputs: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    output_size: tuple[int, int],
    spatial_scales: Sequence[float],
    samples: int,
) -> Tensor:
    """RoIAlign from a feature pyramid, differentiable in `inputs` and `rois`.

    Args:
        inputs: one Tensor[N, C, Hl, Wl] per level.
        rois: Tensor[K, 5], (batch index, x1, y1, x2, y2) in image pixels, of the dtype of `inputs`.
        levels: LongTensor[K].
        output_size: (ph, pw).
        spatial_scales: cells per image pixel, one per level.
        samples: per bin and axis, or `ADAPTIVE`.

    Returns:
        Tensor[K, C, ph, pw].
    """
    return pool_by_weights(inputs, rois, levels, output_size, spatial_scales, partial(sampled_weights, samples=samples))


def pool_by_weights(
    inputs: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    output_size: tuple[int, int],
    spatial_scales: Sequence[float],
    weights: Weights,
) -> Tensor:
    """Any pooling whose weights are products of one per axis, by two dense matrix products per RoI.

    Arguments and result are those of `sampled_pool`; `weights` is called as `sampled_weights`, without `samples`.
    """
    pooled, rows = [inputs[0].new_zeros(0, inputs[0].shape[1], *output_size)], [levels.new_zeros(0)]
    for level, (feature, scale) in enumerate(zip(inputs, spatial_scales, strict=True)):
        images, channels, height, width = feature.shape
        per_roi = _ASSUMED_SAMPLES * sum(output_size) * max(height, width) + output_size[0] * channels * width
        for image in range(images):
            own = ((rois[:, 0] == image) & (levels == level)).nonzero()[:, 0]
            for index in own.split(max(1, _CHUNK_ELEMENTS // per_roi)) if len(own) else ():
                x1, y1, x2, y2 = (rois[index, 1:] * scale).unbind(1)
                lines = torch.einsum("kph,chw->kpcw", weights(y1, y2, output_size[0], height), feature[image])
                pooled.append(torch.einsum("kpcw,kqw->kcpq", lines, weights(x1, x2, output_size[1], width)))
                rows.append(index)
    return torch.cat(pooled)[torch.cat(rows).argsort()]


def kernel_pool(
    inputs: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    output_size: tuple[int, int],
    spatial_scales: Sequence[float],
    samples: int,
) -> Tensor:
    """As `sampled_pool`, by torchvision's kernel: no gradient to `rois`.

    The kernel takes away half a cell (`aligned=True`), which is added first: so it reads where Precise RoI Pooling
    does. `aligned=False` has no shift either, but makes every RoI at least one cell long.
    """
    output = inputs[0].new_zeros(len(rois), inputs[0].shape[1], *output_size)
    for level, (feature, scale) in enumerate(zip(inputs, spatial_scales, strict=True)):
        index = (levels == level).nonzero()[:, 0]
        if len(index):
            moved = half_a_cell_on(rois[index], scale)
            pooled = roi_align(feature.contiguous(), moved, output_size, scale, samples, aligned=True)
            output = output.index_copy(0, index, pooled)
    return output


def half_a_cell_on(rois: Tensor, scale: float) -> Tensor:
    """RoIs moved by half a cell to the right and down: what `aligned=True` takes away."""
    return torch.cat([rois[:, :1], rois[:, 1:] + 0.5 / scale], dim=1)

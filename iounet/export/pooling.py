"""Precise RoI Pooling and its gradient to the coordinates in stock operators, which any exporter knows.

As :mod:`iounet.ops`, but dense: two matrix products per level, over all cells of the maps. So nothing depends on the
values, and N, K, H and W stay free. The price is that every RoI meets every cell, and that a cell that is not finite
reaches all RoIs.

Shapes: N images, C channels, L levels of Hl x Wl cells, K RoIs, (P, Q) bins per RoI.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from iounet.ops._reference import _edges, axis_weights


class AxisSlopes(NamedTuple):
    """Derivatives of :func:`iounet.ops._reference.axis_weights`, both Tensor[K, P, size].

    Attributes:
        by_start: with regard to the lower end of the RoI.
        by_end: with regard to its upper end.
    """

    by_start: Tensor
    by_end: Tensor


def axis_slopes(start: Tensor, end: Tensor, weights: Tensor) -> AxisSlopes:
    """How a bin's weights change as the RoI's ends move.

    A mean over a bin changes with the bin's edge by (mean - value at the edge) / width, and the edges move with the
    ends of the RoI in proportion (arXiv 1807.11590, section 3.3).

    Args:
        start: Tensor[K], lower end of the RoIs, in feature cells.
        end: Tensor[K], upper end of the RoIs, in feature cells.
        weights: Tensor[K, P, size], of :func:`iounet.ops._reference.axis_weights`.

    Returns:
        Zeros for a RoI whose bins are empty.
    """
    bins, size = weights.shape[1:]
    edges, origin, not_empty = _edges(start, end, bins)
    cells = torch.arange(size, dtype=start.dtype, device=start.device) - origin[:, None]
    distance = edges[:, :, None] - cells[:, None, :]
    lower, upper = distance[:, :-1], distance[:, 1:]
    width = (edges[:, 1:] - edges[:, :-1])[:, :, None]
    by_lower = (weights - _hat(lower)) / width
    by_upper = (_hat(upper) - weights) / width
    # Within one straight piece of the hat; the differences above would lose the digits of a small bin.
    straight = (lower > -1) & (upper < 1) & ((upper <= 0) | (lower >= 0))
    slope = torch.where(upper <= 0, 0.5, -0.5).to(start.dtype)
    by_lower, by_upper = torch.where(straight, slope, by_lower), torch.where(straight, slope, by_upper)
    number = torch.arange(bins, dtype=start.dtype, device=start.device)[:, None]
    by_start = ((bins - number) * by_lower + (bins - number - 1) * by_upper) / bins
    by_end = (number * by_lower + (number + 1) * by_upper) / bins
    inside = not_empty[:, None, None]
    return AxisSlopes(torch.where(inside, by_start, 0), torch.where(inside, by_end, 0))


class StockPool:
    """Pools K RoIs from L levels, and then knows the way back to their coordinates. Float64 where weights are made.

    Args:
        maps: one Tensor[N, C, Hl, Wl] per level; finite.
        rois: Tensor[K, 5], (batch index, x1, y1, x2, y2) in image pixels.
        output_size: (P, Q).
        spatial_scales: cells per image pixel, one per level.
        level_areas: smallest area, in square pixels, on each level but the first, in the dtype of ``rois``:
            Tensor[L - 1].

    Attributes:
        output: Tensor[K, C, P, Q] of the dtype of ``maps``. A RoI that is empty, not finite, or of no image of the
            batch gives 0 and has the gradient 0: there is nobody here to raise an error.
    """

    def __init__(
        self,
        maps: Sequence[Tensor],
        rois: Tensor,
        output_size: tuple[int, int],
        spatial_scales: Sequence[float],
        level_areas: Tensor,
    ) -> None:
        self._dtype = rois.dtype
        area = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
        level = (area[:, None] >= level_areas).sum(dim=1)
        images = torch.arange(maps[0].shape[0], dtype=rois.dtype, device=rois.device)
        of_image = rois[:, :1] == images  # K, N
        boxes = rois[:, 1:].double()
        self._levels = [
            _Level(feature, boxes, scale, of_image & (level == index)[:, None], output_size)
            for index, (feature, scale) in enumerate(zip(maps, spatial_scales, strict=True))
        ]
        self.output = sum_of([one.output for one in self._levels])

    def coordinate_gradient(self, grad_output: Tensor) -> Tensor:
        """The gradient of ``(output * grad_output).sum()`` to the RoIs.

        Args:
            grad_output: Tensor[K, C, P, Q].

        Returns:
            Tensor[K, 4] for x1, y1, x2, y2, of the dtype of ``rois``, per image pixel.
        """
        return sum_of([one.coordinate_gradient(grad_output) for one in self._levels]).to(self._dtype)


class _Level:
    """One level of :class:`StockPool`; ``here``, BoolTensor[K, N], says which RoIs are of it, and of which image."""

    def __init__(
        self, feature: Tensor, boxes: Tensor, scale: float, here: Tensor, output_size: tuple[int, int]
    ) -> None:
        images, self._channels, height, width = feature.shape
        self._bins = rows, columns = output_size
        count = boxes.shape[0]  # in each reshape: with no RoIs at all, a -1 could stand for anything
        self._boxes, self._scale, self._here = boxes * scale, scale, here
        x1, y1, x2, y2 = self._boxes.unbind(dim=1)
        self._weights_y = axis_weights(y1, y2, rows, height)
        self._weights_x = axis_weights(x1, x2, columns, width)
        # All images' rows, one below the other, so that one matrix product serves them all: N · H, C · W.
        by_row = feature.transpose(1, 2).clone(memory_format=torch.contiguous_format)
        self._map = by_row.view(images * height, self._channels * width)
        along_y = self._of_images(self._weights_y.to(feature.dtype)).flatten(0, 1)
        self._rows = torch.mm(along_y, self._map).view(count, rows * self._channels, width)  # K, P · C, W
        pooled = torch.bmm(self._rows, self._weights_x.to(feature.dtype).transpose(1, 2))  # K, P · C, Q
        self.output = pooled.reshape(count, rows, self._channels, columns).transpose(1, 2)

    def coordinate_gradient(self, grad_output: Tensor) -> Tensor:
        """Tensor[K, 4], float64, per image pixel."""
        count, (rows, columns) = self._boxes.shape[0], self._bins
        cells, values = self._map.shape
        x1, y1, x2, y2 = self._boxes.unbind(dim=1)
        grad = grad_output.transpose(1, 2).reshape(count, rows * self._channels, columns)  # K, P · C, Q
        to_weights_x = torch.bmm(grad.transpose(1, 2), self._rows).double()  # K, Q, W
        spread = torch.bmm(grad, self._weights_x.to(grad.dtype)).view(count * rows, values)  # K · P, C · W
        to_rows = torch.mm(spread, self._map.t()).view(count, rows, cells).double()  # K, P, N · H
        by_x, by_y = axis_slopes(x1, x2, self._weights_x), axis_slopes(y1, y2, self._weights_y)
        return self._scale * torch.stack(
            [
                (by_x.by_start * to_weights_x).sum(dim=(1, 2)),
                (self._of_images(by_y.by_start) * to_rows).sum(dim=(1, 2)),
                (by_x.by_end * to_weights_x).sum(dim=(1, 2)),
                (self._of_images(by_y.by_end) * to_rows).sum(dim=(1, 2)),
            ],
            dim=1,
        )

    def _of_images(self, along_y: Tensor) -> Tensor:
        """Tensor[K, P, N · H] from Tensor[K, P, H]: zero in the other images, and for RoIs of another level."""
        return torch.where(self._here[:, None, :, None], along_y[:, :, None, :], 0).flatten(2)


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of at least one tensor, without the 0 that ``sum`` begins with."""
    total = tensors[0]
    for other in tensors[1:]:
        total = total + other
    return total


def _hat(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)

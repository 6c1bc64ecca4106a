"""Precise RoI Pooling and its gradient to the coordinates in stock operators, which any exporter knows.

As :mod:`iounet.ops`, but dense: matrix products over all cells of the maps. So no shape depends on a value, and N, K, H
and W stay free. The price is that every RoI meets every cell, and that a cell that is not finite reaches all RoIs.

Shapes: N images, C channels, L levels of Hl x Wl cells, K RoIs, (P, Q) bins per RoI. H and W are the sums of Hl and Wl:
along an axis, the cells of all levels are put one after another.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class AxisMeans:
    """Mean of cells' hat functions over the bins of RoIs along one axis, and how it changes as the RoIs' ends move.

    As :func:`iounet.ops._reference.axis_weights`, and its derivatives written out: a mean over a bin changes with the
    bin's edge by (mean - value at the edge) / width, and the edges move with the ends of the RoI in proportion.

    Args:
        start: Tensor[K], lower end of the RoIs, in feature cells.
        end: Tensor[K], upper end.
        bins: number of bins P.
        cells: Tensor[M], positions of cells.
        near: BoolTensor[K, M], the cells that count for a RoI.

    Attributes:
        mean: Tensor[K, P, M]; zero for a RoI whose bins are empty, and for cells that do not count.
    """

    def __init__(self, start: Tensor, end: Tensor, bins: int, cells: Tensor, near: Tensor) -> None:
        origin = start.floor()
        steps = torch.arange(bins + 1, dtype=start.dtype, device=start.device)
        edges = (start - origin)[:, None] + (end - start)[:, None] * steps / bins
        not_empty = (edges[:, 1:] > edges[:, :-1]).all(dim=1)  # false for NaN
        edges = torch.where(not_empty[:, None], edges, steps)
        distance = edges[:, :, None] - (cells - origin[:, None])[:, None, :]
        self._bins, self._lower, self._upper = bins, distance[:, :-1], distance[:, 1:]
        self._width = (edges[:, 1:] - edges[:, :-1])[:, :, None]
        self._counts = (near & not_empty[:, None])[:, None, :]
        # The same terms as in the oracle: they keep the digits of a bin much smaller than a cell.
        low, high = self._lower.clamp(-1, 1), self._upper.clamp(-1, 1)
        self._within = (self._lower > -1) & (self._upper < 1)
        share = torch.where(self._within, 1, (high - low) / self._width)
        below = torch.where(low * high >= 0, share * (high + low).abs(), (high**2 + low**2) / self._width)
        self.mean = torch.where(self._counts, share - below / 2, 0)

    def slopes(self) -> tuple[Tensor, Tensor]:
        """The derivatives of ``mean`` with regard to the start and to the end of the RoI, both Tensor[K, P, M]."""
        by_lower = (self.mean - _hat(self._lower)) / self._width
        by_upper = (_hat(self._upper) - self.mean) / self._width
        # Within one straight piece of the hat; the differences above would lose the digits of a small bin.
        rising = self._upper <= 0
        straight = self._within & (rising | (self._lower >= 0))
        slope = torch.where(rising, 0.5, -0.5).to(self.mean.dtype)
        by_lower, by_upper = torch.where(straight, slope, by_lower), torch.where(straight, slope, by_upper)
        bins, edge = self._bins, torch.arange(self._bins, dtype=slope.dtype, device=slope.device)[:, None]
        by_start = ((bins - edge) * by_lower + (bins - edge - 1) * by_upper) / bins
        by_end = (edge * by_lower + (edge + 1) * by_upper) / bins
        return torch.where(self._counts, by_start, 0), torch.where(self._counts, by_end, 0)


class Pyramid:
    """Feature maps as :class:`Pooled` reads them.

    Args:
        maps: one Tensor[N, C, Hl, Wl] per level; finite.
        strides: image pixels per cell, one per level.
        level_areas: smallest area, in square pixels, on each level but the first.
    """

    def __init__(self, maps: Sequence[Tensor], strides: Sequence[float], level_areas: Sequence[float]) -> None:
        first = maps[0]
        self.num_images, self.channels, self.dtype = first.shape[0], first.shape[1], first.dtype
        self.heights, self.widths = [level.shape[2] for level in maps], [level.shape[3] for level in maps]
        self.rows, self.columns = _cells(self.heights, first.device), _cells(self.widths, first.device)
        self.scales = torch.tensor([1 / stride for stride in strides], dtype=torch.float64, device=first.device)
        self.level_areas = torch.tensor(list(level_areas), dtype=first.dtype, device=first.device)
        # Per level all images' rows, one below the other, so that one matrix product serves them all: N · Hl, C · Wl.
        self.flat = [
            level.transpose(1, 2)
            .clone(memory_format=torch.contiguous_format)
            .view(self.num_images * height, self.channels * width)
            for level, height, width in zip(maps, self.heights, self.widths, strict=True)
        ]


class Pooled:
    """K RoIs pooled, and the way back to their coordinates. The weights are computed in float64.

    Args:
        pyramid: the feature maps.
        rois: Tensor[K, 5], (batch index, x1, y1, x2, y2) in image pixels, of the maps' dtype.
        output_size: (P, Q).

    Attributes:
        output: Tensor[K, C, P, Q]. A RoI that is empty, not finite, or of no image of the batch gives 0 and has the
            gradient 0: a graph has no way to raise an error.
    """

    def __init__(self, pyramid: Pyramid, rois: Tensor, output_size: tuple[int, int]) -> None:
        self._pyramid, self._bins = pyramid, output_size
        rows, columns = output_size
        self._count = rois.shape[0]  # named in each reshape: with no RoIs at all, a -1 could stand for anything
        area = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
        level = (area[:, None] >= pyramid.level_areas).sum(dim=1)
        images = torch.arange(pyramid.num_images, dtype=rois.dtype, device=rois.device)
        self._of_image = (rois[:, :1] == images)[:, None, :, None]  # K, 1, N, 1
        self._scale = pyramid.scales[level]
        x1, y1, x2, y2 = (rois[:, 1:].double() * self._scale[:, None]).unbind(dim=1)
        (row, row_level), (column, column_level) = pyramid.rows, pyramid.columns
        self._along_y = AxisMeans(y1, y2, rows, row, level[:, None] == row_level)
        self._along_x = AxisMeans(x1, x2, columns, column, level[:, None] == column_level)
        weights_y = self._along_y.mean.to(pyramid.dtype).split_with_sizes(pyramid.heights, dim=2)
        self._weights_x = self._along_x.mean.to(pyramid.dtype).split_with_sizes(pyramid.widths, dim=2)
        self._reduced = []  # per level K, P · C, Wl: reduced along y
        parts = []
        for flat, height, width, own_y, own_x in zip(
            pyramid.flat, pyramid.heights, pyramid.widths, weights_y, self._weights_x, strict=True
        ):
            of_images = torch.where(self._of_image, own_y[:, :, None, :], 0)  # K, P, N, Hl
            reduced = torch.mm(of_images.view(self._count * rows, pyramid.num_images * height), flat)
            self._reduced.append(reduced.view(self._count, rows * pyramid.channels, width))
            parts.append(torch.bmm(self._reduced[-1], own_x.transpose(1, 2)))
        pooled = _sum(parts).view(self._count, rows, pyramid.channels, columns)
        self.output = pooled.transpose(1, 2).clone(memory_format=torch.contiguous_format)

    def coordinate_gradient(self, grad_output: Tensor) -> Tensor:
        """The gradient of ``(output * grad_output).sum()`` to the coordinates.

        Args:
            grad_output: Tensor[K, C, P, Q].

        Returns:
            Tensor[K, 4] for x1, y1, x2, y2, per image pixel, of the maps' dtype.
        """
        pyramid, (rows, columns) = self._pyramid, self._bins
        grad = grad_output.transpose(1, 2).clone(memory_format=torch.contiguous_format)
        grad = grad.view(self._count, rows * pyramid.channels, columns)
        to_x, to_y = [], []  # the gradient to the weights: per level K, Q, Wl, and K, P, Hl
        for flat, height, width, reduced, own_x in zip(
            pyramid.flat, pyramid.heights, pyramid.widths, self._reduced, self._weights_x, strict=True
        ):
            to_x.append(torch.bmm(grad.transpose(1, 2), reduced))
            spread = torch.bmm(grad, own_x).view(self._count * rows, pyramid.channels * width)
            of_images = torch.mm(spread, flat.t()).view(self._count, rows, pyramid.num_images, height)
            to_y.append(torch.where(self._of_image, of_images, 0).sum(dim=2))
        ends = []
        for to_weights, axis in ((to_x, self._along_x), (to_y, self._along_y)):
            together = torch.cat(to_weights, dim=2).double()
            ends.append([(slope * together).sum(dim=(1, 2)) for slope in axis.slopes()])
        (x1, x2), (y1, y2) = ends
        return (torch.stack([x1, y1, x2, y2], dim=1) * self._scale[:, None]).to(pyramid.dtype)


def _cells(sizes: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Position and level of every cell along an axis."""
    positions = [torch.arange(size, dtype=torch.float64, device=device) for size in sizes]
    levels = [torch.full_like(position, level) for level, position in enumerate(positions)]
    return torch.cat(positions), torch.cat(levels)


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    total = tensors[0]
    for other in tensors[1:]:
        total = total + other
    return total


def _hat(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)

"""Precise RoI Pooling by exact piecewise integration, cell by cell: independent of everything in iounet.ops."""

import itertools
import math

import numpy as np


def exact_pool(feature, box, pooled_height, pooled_width):
    """Pools one RoI.

    Over a rectangle inside one square of the grid the interpolant is bilinear, and the integral of a bilinear function
    over a rectangle is its value at the centre times the area. So each bin is cut at the integers, and summed exactly.

    Args:
        feature: float64 array (C, H, W).
        box: (x1, y1, x2, y2) in cells.
        pooled_height: bins along y.
        pooled_width: bins along x.

    Returns:
        float64 array (C, pooled_height, pooled_width).
    """
    x1, y1, x2, y2 = box
    output = np.zeros((feature.shape[0], pooled_height, pooled_width))
    if x2 <= x1 or y2 <= y1:
        return output
    for p in range(pooled_height):
        y_cuts = _cuts(y1, y2, p, pooled_height, feature.shape[1])
        for q in range(pooled_width):
            x_cuts = _cuts(x1, x2, q, pooled_width, feature.shape[2])
            total = sum(
                (bottom - top) * (right - left) * _value(feature, (top + bottom) / 2, (left + right) / 2)
                for top, bottom in itertools.pairwise(y_cuts)
                for left, right in itertools.pairwise(x_cuts)
            )
            output[:, p, q] = total / ((y_cuts[-1] - y_cuts[0]) * (x_cuts[-1] - x_cuts[0]))
    return output


def _cuts(start, end, index, count, size):
    lower = start + (end - start) * index / count
    upper = start + (end - start) * (index + 1) / count
    # The interpolant is zero below -1 and above size: there is nothing to cut there.
    return [lower, *range(max(math.floor(lower) + 1, -1), min(math.ceil(upper), size + 1)), upper]


def _value(feature, y, x):
    """The bilinear interpolant, zero outside the map."""
    i, j = math.floor(y), math.floor(x)
    dy, dx = y - i, x - j

    def cell(row, column):
        inside = 0 <= row < feature.shape[1] and 0 <= column < feature.shape[2]
        return feature[:, row, column] if inside else 0.0

    return (1 - dy) * ((1 - dx) * cell(i, j) + dx * cell(i, j + 1)) + dy * (
        (1 - dx) * cell(i + 1, j) + dx * cell(i + 1, j + 1)
    )

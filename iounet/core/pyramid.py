"""Precise RoI Pooling from a feature pyramid, each box from the level of its size (arXiv 1612.03144, section 4.2).

Shapes: L levels of maps Tensor[N, C, Hl, Wl], K RoIs.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from iounet.ops import prroi_pool_coordinate_gradient, prroi_pool_multilevel


def level_areas(num_levels: int, finest_scale: float = 56) -> list[float]:
    """The smallest area of a RoI, in square pixels, on each level but the first.

    A RoI's level is ⌊log₂(√area / finest_scale + 1e-6)⌋, as in mmdet.

    Args:
        num_levels: L.
        finest_scale: RoIs of less than twice this size (√area, in pixels) go to the first level.
    """
    return [(finest_scale * (2.0**level - 1e-6)) ** 2 for level in range(1, num_levels)]


class PyramidPool:
    """Pools RoIs from a pyramid, and knows the gradient to their coordinates without a forward pass.

    Args:
        strides: image pixels per cell, of each level.
        output_size: bins per RoI, one integer or (height, width).
        finest_scale: see :func:`level_areas`.
    """

    def __init__(
        self, strides: Sequence[float], output_size: int | tuple[int, int] = 7, finest_scale: float = 56
    ) -> None:
        self.output_size = output_size
        self._scales = [1 / stride for stride in strides]
        self._level_areas = level_areas(len(strides), finest_scale)

    def __call__(self, maps: Sequence[Tensor], rois: Tensor, levels: Tensor | None = None) -> Tensor:
        """Pooled features.

        Args:
            maps: ``Tensor[N, C, Hl, Wl]`` per level; the first levels of the pyramid, or all.
            rois: ``Tensor[K, 5]`` of (image index, x1, y1, x2, y2), in pixels of the network's input.
            levels: ``LongTensor[K]``: each RoI's, if not the one that its size calls for.

        Returns:
            ``Tensor[K, C, ph, pw]``, differentiable in maps and RoIs.
        """
        scales, areas = self._of(maps)
        return prroi_pool_multilevel(maps, rois, levels, self.output_size, scales, areas if levels is None else None)

    def coordinate_gradient(self, maps: Sequence[Tensor], rois: Tensor, grad_output: Tensor) -> Tensor:
        """The gradient of ``(self(maps, rois) × grad_output).sum()`` to the RoIs.

        Args:
            maps: as above.
            rois: ``Tensor[K, 5]``.
            grad_output: of the shape of the output, or with its last three dimensions flattened.

        Returns:
            ``Tensor[K, 5]``; 0 for the image index.
        """
        size = self.output_size
        height, width = (size, size) if isinstance(size, int) else size
        grad_output = grad_output.view(len(rois), maps[0].shape[1], height, width)
        return prroi_pool_coordinate_gradient(grad_output, maps, rois, None, *self._of(maps))

    def _of(self, maps: Sequence[Tensor]) -> tuple[list[float], list[float]]:
        return self._scales[: len(maps)], self._level_areas[: len(maps) - 1]

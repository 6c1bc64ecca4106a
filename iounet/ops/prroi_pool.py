"""Precise RoI Pooling: the public functions and the module.

Shapes: N images, C channels, L levels, K RoIs, (ph, pw) bins per RoI.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from iounet.ops import _extension
from iounet.ops._reference import prroi_pool_reference

_HALF = (torch.float16, torch.bfloat16)


def prroi_pool(input: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float = 1.0) -> Tensor:
    """Precise RoI Pooling of a feature map (Jiang et al., arXiv 1807.11590, section 3.3).

    The feature map is read as a continuous function: bilinear between the cells, cell (i, j) at the point x = j,
    y = i, falling to zero within one cell outside the map. A RoI is divided into ph x pw equal bins, and the output of
    a bin is the exact mean of that function over the bin, with no sampling points and no rounding of coordinates.
    So the output is differentiable in the RoI's coordinates as well as in the features.

    RoI coordinates are continuous and are only multiplied by ``spatial_scale``: there is no half-pixel shift and no
    "+1". For example, on a map of stride 16 the RoI (x1, y1, x2, y2) = (32, 32, 144, 144) covers x, y in [2, 9] of the
    map, and with ``output_size=7`` its first bin is the mean over [2, 3] x [2, 3], which touches the cells 2 and 3.

    On the CPU the result and both gradients are the same from run to run and for any number of threads. On CUDA the
    gradient to ``input`` is summed by atomic adds, in no fixed order. Second derivatives are not implemented. Under
    ``torch.autocast`` all is computed, and returned, in float32.

    Args:
        input: Tensor[N, C, H, W], float32, float64, float16 or bfloat16 (half precision is summed in float32). Memory
            format ``channels_last`` is the faster one, as it is read without a copy.
        rois: Tensor[K, 5], (batch index, x1, y1, x2, y2) in image pixels, of the dtype of ``input``, or float32 if
            ``input`` is of half precision.
        output_size: (ph, pw), or one int for both.
        spatial_scale: cells of the map per image pixel, e.g. 1/16 for stride 16.

    Returns:
        Tensor[K, C, ph, pw] of the dtype of ``input``. A RoI of zero area, or with x2 < x1 or y2 < y1, gives 0 and has
        the gradient 0.

    Raises:
        TypeError: if a dtype is not supported or the dtypes do not go together.
        ValueError: if a shape, a device, ``output_size`` or ``spatial_scale`` is wrong; on the CPU also if a batch
            index is not one of 0 ... N-1 or a coordinate is not finite. On CUDA such a RoI gives 0, as finding it
            would need a synchronization.
    """
    return prroi_pool_multilevel([input], rois, None, output_size, [spatial_scale])


def prroi_pool_multilevel(
    inputs: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    output_size: int | tuple[int, int],
    spatial_scales: Sequence[float],
    level_areas: Sequence[float] | None = None,
) -> Tensor:
    """Precise RoI Pooling from a feature pyramid, each RoI from a level of its own, in one call.

    See :func:`prroi_pool`, which is the case of one level.

    Args:
        inputs: L tensors Tensor[N, C, Hl, Wl], of one dtype and device.
        rois: Tensor[K, 5], (batch index, x1, y1, x2, y2) in image pixels.
        levels: LongTensor[K], the index into ``inputs`` for every RoI; None, if there is one level only, or if
            ``level_areas`` are given.
        output_size: (ph, pw), or one int for both.
        spatial_scales: cells per image pixel for each of the L levels.
        level_areas: L - 1 ascending areas in square pixels, to choose the levels by: a RoI's level is the number of
            them that are not above its own area (x2 - x1) * (y2 - y1), as :func:`torch.bucketize` with ``right=True``
            counts. Both are in the dtype of ``rois``, or float32 if that is of half precision.

    Returns:
        Tensor[K, C, ph, pw] of the dtype of ``inputs``, in the order of ``rois``.

    Raises:
        TypeError: as :func:`prroi_pool`.
        ValueError: as :func:`prroi_pool`; also if the levels differ in N or C, ``levels``, ``spatial_scales`` or
            ``level_areas`` is of the wrong length, both or neither of ``levels`` and ``level_areas`` are given for
            several levels, the areas do not ascend, or (on the CPU only) ``levels`` is not in 0 ... L-1.
    """
    inputs = list(inputs)
    pooled = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    spatial_scales = [float(scale) for scale in spatial_scales]
    level_areas = None if level_areas is None else [float(area) for area in level_areas]
    _check_arguments(inputs, rois, levels, pooled, spatial_scales, level_areas)
    if _extension.available(rois.device.type):
        return torch.ops.iounet.prroi_pool(inputs, rois, levels, *pooled, spatial_scales, level_areas)
    return prroi_pool_reference(inputs, rois, levels, (pooled[0], pooled[1]), spatial_scales, level_areas)


def prroi_pool_coordinate_gradient(
    grad_output: Tensor,
    inputs: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    spatial_scales: Sequence[float],
    level_areas: Sequence[float] | None = None,
) -> Tensor:
    """The gradient of ``(prroi_pool_multilevel(...) * grad_output).sum()`` to ``rois``, without a forward pass.

    Args:
        grad_output: Tensor[K, C, ph, pw].
        inputs: as for :func:`prroi_pool_multilevel`, like the rest.
        rois: see there.
        levels: see there.
        spatial_scales: see there.
        level_areas: see there.

    Returns:
        Tensor[K, 5] of the dtype of ``rois``; 0 for the batch index.

    Raises:
        TypeError: as :func:`prroi_pool_multilevel`.
        ValueError: likewise; also if ``grad_output`` is not of the output's shape.
    """
    inputs = list(inputs)
    if _extension.available(rois.device.type):
        arguments = (grad_output, inputs, rois, levels, spatial_scales, level_areas)
        return torch.ops.iounet.prroi_pool_coordinate_gradient(*arguments)
    leaf, (height, width) = rois.detach().requires_grad_(), grad_output.shape[2:]
    with torch.enable_grad():
        output = prroi_pool_multilevel(inputs, leaf, levels, (height, width), spatial_scales, level_areas)
    (gradient,) = torch.autograd.grad(output, leaf, grad_output.to(output.dtype))
    return gradient


class PrRoIPool(nn.Module):
    """See :func:`prroi_pool`."""

    def __init__(self, output_size: int | tuple[int, int], spatial_scale: float = 1.0) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """See :func:`prroi_pool`."""
        return prroi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        """Arguments shown when a model is printed."""
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"


def _check_arguments(
    inputs: list[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    output_size: tuple[int, ...],
    spatial_scales: list[float],
    level_areas: list[float] | None,
) -> None:
    """Raises for everything that can be seen without reading a tensor's values."""
    autocast = torch.is_autocast_enabled(rois.device.type)  # casts all to one dtype afterwards
    if not inputs:
        raise ValueError("prroi_pool: there must be at least one feature map")
    if len(output_size) != 2 or not all(isinstance(size, int) and size > 0 for size in output_size):
        raise ValueError(f"prroi_pool: output_size must be one or two positive integers, got {output_size}")
    if len(spatial_scales) != len(inputs):
        raise ValueError(f"prroi_pool: got {len(spatial_scales)} spatial_scales for {len(inputs)} feature maps")
    for scale in spatial_scales:
        if not 0 < scale < float("inf"):
            raise ValueError(f"prroi_pool: spatial_scale must be positive and finite, got {scale}")
    first = inputs[0]
    for feature in inputs:
        if feature.dim() != 4:
            raise ValueError(f"prroi_pool: input must have 4 dimensions (N, C, H, W), got shape {list(feature.shape)}")
        if feature.shape[:2] != first.shape[:2]:
            raise ValueError(
                f"prroi_pool: all levels must agree in N and C, got {list(first.shape)} and {list(feature.shape)}"
            )
        if feature.dtype != first.dtype and not autocast:
            raise TypeError(f"prroi_pool: all levels must have one dtype, got {first.dtype} and {feature.dtype}")
        if feature.device != rois.device:
            raise ValueError(
                f"prroi_pool: input and rois must be on one device, got {feature.device} and {rois.device}"
            )
    if first.dtype not in (torch.float32, torch.float64, *_HALF):
        raise TypeError(f"prroi_pool: input must be of a floating point dtype, got {first.dtype}")
    if not rois.is_floating_point():
        raise TypeError(f"prroi_pool: rois must be of a floating point dtype, got {rois.dtype}")
    if rois.dtype != first.dtype and not autocast and not (rois.dtype == torch.float32 and first.dtype in _HALF):
        raise TypeError(f"prroi_pool: rois must be {first.dtype} like input (or float32 for half), got {rois.dtype}")
    if rois.dim() != 2 or rois.shape[1] != 5:
        raise ValueError(
            f"prroi_pool: rois must have shape (K, 5): batch index, x1, y1, x2, y2; got {list(rois.shape)}"
        )
    if level_areas is not None:
        if levels is not None:
            raise ValueError("prroi_pool: levels and level_areas exclude each other")
        if len(level_areas) != len(inputs) - 1:
            raise ValueError(
                f"prroi_pool: got {len(level_areas)} level_areas for {len(inputs)} feature maps; there must be one less"
            )
        if not all(low <= high for low, high in pairwise((0.0, *level_areas))):
            raise ValueError(f"prroi_pool: level_areas must be ascending and not negative, got {level_areas}")
        return
    if levels is None:
        if len(inputs) > 1:
            raise ValueError(f"prroi_pool: levels or level_areas must be given for {len(inputs)} feature maps")
        return
    if levels.dtype != torch.int64:
        raise TypeError(f"prroi_pool: levels must be torch.int64, got {levels.dtype}")
    if levels.shape != rois.shape[:1]:
        raise ValueError(f"prroi_pool: levels must have shape ({len(rois)},), one per RoI; got {list(levels.shape)}")
    if levels.device != rois.device:
        raise ValueError(f"prroi_pool: levels and rois must be on one device, got {levels.device} and {rois.device}")

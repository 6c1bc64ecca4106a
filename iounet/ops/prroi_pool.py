"""Precise RoI Pooling: the public functions and the module.

Shapes: N images, C channels, L levels, K RoIs, (ph, pw) bins per RoI.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from iounet.ops import _extension, _operators
from iounet.ops._arguments import bins_of, check_grad_output, check_non_finite, pool_arguments, scales_of
from iounet.ops._reference import prroi_pool_reference

NonFinite = Literal["error", "zero"]


def prroi_pool(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    non_finite: NonFinite = "error",
) -> Tensor:
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
        output_size: (ph, pw), or one int for both; ph * pw is at most 2**29 - 1, and so are C, H, W.
        spatial_scale: cells of the map per image pixel, e.g. 1/16 for stride 16; positive and finite.
        non_finite: with "zero", a RoI that is not finite gives 0 and has the gradient 0 on every device, for what must
            go on, as a tracker that lost its object.

    Returns:
        Tensor[K, C, ph, pw] of the dtype of ``input``. A RoI of zero area, or with x2 < x1 or y2 < y1, gives 0 and has
        the gradient 0. A cell that a bin does not reach has no influence on it, even if it is NaN. On the device
        "meta" this is the shape alone, of the gradients too.

    Raises:
        TypeError: if a dtype is not supported or the dtypes do not go together; if an argument is no tensor, or no
            number of the right kind: a bool is none, and a float no integer.
        ValueError: if a shape, a device, ``output_size`` or ``spatial_scale`` is wrong; on the CPU also if a batch
            index is not one of 0 ... N-1, or with ``non_finite="error"`` a coordinate is not finite. On CUDA such a RoI
            gives 0, as finding it would need a synchronization.
    """
    return prroi_pool_multilevel([input], rois, None, output_size, [spatial_scale], non_finite=non_finite)


def prroi_pool_multilevel(
    inputs: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    output_size: int | tuple[int, int],
    spatial_scales: Sequence[float],
    level_areas: Sequence[float] | None = None,
    *,
    non_finite: NonFinite = "error",
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
        non_finite: as for :func:`prroi_pool`.

    Returns:
        Tensor[K, C, ph, pw] of the dtype of ``inputs``, in the order of ``rois``.

    Raises:
        TypeError: as :func:`prroi_pool`.
        ValueError: as :func:`prroi_pool`; also if the levels differ in N or C, ``levels``, ``spatial_scales`` or
            ``level_areas`` is of the wrong length, both or neither of ``levels`` and ``level_areas`` are given for
            several levels, the areas do not ascend, or (on the CPU only) ``levels`` is not in 0 ... L-1.
    """
    bins = bins_of(output_size)
    inputs, spatial_scales, level_areas = pool_arguments(inputs, rois, levels, spatial_scales, level_areas)
    check_non_finite(non_finite)
    if non_finite == "zero":
        rois = torch.where(rois.isfinite().all(dim=1, keepdim=True), rois, torch.zeros_like(rois))
    if _extension.available(rois.device.type):
        return _operators.pool(inputs, rois, levels, *bins, spatial_scales, level_areas)
    return prroi_pool_reference(inputs, rois, levels, bins, spatial_scales, level_areas)


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
        grad_output: Tensor[K, C, ph, pw], of any floating point dtype.
        inputs: as for :func:`prroi_pool_multilevel`, like the rest.
        rois: see there.
        levels: see there.
        spatial_scales: see there.
        level_areas: see there.

    Returns:
        Tensor[K, 5] of the dtype of ``rois``; 0 for the batch index.

    Raises:
        TypeError: as :func:`prroi_pool_multilevel`.
        ValueError: likewise; also if ``grad_output`` is not of the output's shape, or on another device.
    """
    inputs, spatial_scales, level_areas = pool_arguments(inputs, rois, levels, spatial_scales, level_areas)
    check_grad_output(grad_output, inputs[0], rois)
    if _extension.available(rois.device.type):
        return _operators.coordinate_gradient(grad_output, inputs, rois, levels, spatial_scales, level_areas)
    leaf, (height, width) = rois.detach().requires_grad_(), grad_output.shape[2:]
    with torch.enable_grad():
        output = prroi_pool_reference(inputs, leaf, levels, (height, width), spatial_scales, level_areas)
    (gradient,) = torch.autograd.grad(output, leaf, grad_output.to(output.dtype))
    return gradient


class PrRoIPool(nn.Module):
    """See :func:`prroi_pool`, whose errors it raises when it is made, too."""

    def __init__(
        self, output_size: int | tuple[int, int], spatial_scale: float = 1.0, *, non_finite: NonFinite = "error"
    ) -> None:
        super().__init__()
        bins = bins_of(output_size)
        self.output_size = bins if isinstance(output_size, (tuple, list)) else bins[0]
        (self.spatial_scale,) = scales_of([spatial_scale], 1)
        check_non_finite(non_finite)
        self.non_finite: NonFinite = non_finite

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """See :func:`prroi_pool`."""
        return prroi_pool(input, rois, self.output_size, self.spatial_scale, non_finite=self.non_finite)

    def extra_repr(self) -> str:
        """Arguments shown when a model is printed."""
        lost = "" if self.non_finite == "error" else f", non_finite={self.non_finite!r}"
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}{lost}"

"""The names and the semantics of the PyTorch module that comes with Precise RoI Pooling, on this project's op.

Trackers (ATOM, DiMP and their kin) bring a copy of that module along, which builds on old versions of torch alone and
has no CPU path. This one takes its place: ``from iounet.ops.compat import PrRoIPool2D, prroi_pool2d``. To replace a
copy in a checkout: ``python -m iounet.ops.compat PATH``.
"""

from __future__ import annotations

from torch import Tensor, nn

from iounet.ops.prroi_pool import prroi_pool

__all__ = ["PrRoIPool2D", "PrRoIPool2DFunction", "prroi_pool2d"]


def prroi_pool2d(features: Tensor, rois: Tensor, pooled_height: int, pooled_width: int, spatial_scale: float) -> Tensor:
    """:func:`iounet.ops.prroi_pool`, called as the module of the authors is.

    Differentiable in ``features`` and in the coordinates of ``rois``. A RoI whose coordinates are not all finite gives
    0 and has the gradient 0, on every device: a tracker that lost its object goes on, where `prroi_pool` by itself
    raises an error on the CPU.

    Args:
        features: Tensor[N, C, H, W] of any floating point dtype; it is pooled in float32.
        rois: Tensor[K, 5], (batch index, x1, y1, x2, y2) in image pixels, of any dtype.
        pooled_height: bins of a RoI from top to bottom.
        pooled_width: bins of a RoI from left to right.
        spatial_scale: cells of the map per image pixel.

    Returns:
        Tensor[K, C, pooled_height, pooled_width], float32.

    Raises:
        TypeError: as `prroi_pool`.
        ValueError: as `prroi_pool`, but for coordinates that are not finite.
    """
    bins = int(pooled_height), int(pooled_width)
    return prroi_pool(features.float(), rois.float(), bins, float(spatial_scale), non_finite="zero")


class PrRoIPool2DFunction:
    """What the authors' module calls its autograd function; only ``apply`` is there."""

    apply = staticmethod(prroi_pool2d)


class PrRoIPool2D(nn.Module):
    """See :func:`prroi_pool2d`."""

    def __init__(self, pooled_height: int, pooled_width: int, spatial_scale: float) -> None:
        super().__init__()
        self.pooled_height = int(pooled_height)
        self.pooled_width = int(pooled_width)
        self.spatial_scale = float(spatial_scale)

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """See :func:`prroi_pool2d`."""
        return prroi_pool2d(features, rois, self.pooled_height, self.pooled_width, self.spatial_scale)

    def extra_repr(self) -> str:
        """Arguments shown when a model is printed."""
        return (
            f"pooled_height={self.pooled_height}, pooled_width={self.pooled_width}, spatial_scale={self.spatial_scale}"
        )

"""Precise RoI Pooling, and the step of the refinement that goes uphill on it; needs torch only."""

from iounet.ops.ascent import ascent_step_
from iounet.ops.prroi_pool import PrRoIPool, prroi_pool, prroi_pool_coordinate_gradient, prroi_pool_multilevel

__all__ = [
    "PrRoIPool",
    "ascent_step_",
    "prroi_pool",
    "prroi_pool_coordinate_gradient",
    "prroi_pool_multilevel",
]

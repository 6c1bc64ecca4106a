"""Precise RoI Pooling; needs torch only."""

from iounet.ops.prroi_pool import PrRoIPool, prroi_pool, prroi_pool_multilevel

__all__ = ["PrRoIPool", "prroi_pool", "prroi_pool_multilevel"]

"""Candidates and detections, by the name that they had here: see :mod:`iounet.core.detections`."""

from iounet.core.detections import Candidates, Detections, in_order, of_each_image, rank_in_image, suppress

__all__ = ["Candidates", "Detections", "in_order", "of_each_image", "rank_in_image", "suppress"]

"""Means over seeds, paired differences, and their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.errors import ReportError

LEVEL = 0.95
RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A mean with a 95 % interval, in the unit of its values.

    Attributes:
        mean: the mean over seeds; NaN if a value is undefined.
        half_width: half the interval's width; None with a single seed.
        n: number of seeds.
    """

    mean: float
    half_width: float | None
    n: int


@dataclass(frozen=True)
class Interval:
    """A difference with the intervals known for it.

    Attributes:
        mean: mean over seeds of the paired difference.
        seeds: interval over seeds (t), or None with a single seed.
        images: interval over images (bootstrap), or None if it was not run.
        combined: both variations together; the one that verdicts use; None if there is neither.
    """

    mean: float
    n: int
    seeds: tuple[float, float] | None
    images: tuple[float, float] | None

    @property
    def combined(self) -> tuple[float, float] | None:
        """Independent variations: distances from the mean add in quadrature, side by side."""
        known = [interval for interval in (self.seeds, self.images) if interval is not None]
        if not known:
            return None
        low = math.sqrt(sum((self.mean - interval[0]) ** 2 for interval in known))
        high = math.sqrt(sum((interval[1] - self.mean) ** 2 for interval in known))
        return self.mean - low, self.mean + high


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """Mean and t interval.

    Args:
        values: one value per seed.
        level: coverage of the interval.

    Raises:
        ReportError: there are no values.
    """
    if not len(values):
        raise ReportError("a mean needs at least one value")
    array = np.asarray(values, dtype=float)
    mean = float(array.mean())
    if len(array) < 2:
        return Estimate(mean, None, len(array))
    spread = float(array.std(ddof=1) / math.sqrt(len(array)))
    return Estimate(mean, float(stats.t.ppf((1 + level) / 2, len(array) - 1)) * spread, len(array))


def paired_differences(left: Mapping[int, float], right: Mapping[int, float]) -> list[float]:
    """`left` minus `right` for each seed, in order of seeds.

    Raises:
        ReportError: the two sides have different seeds.
    """
    if set(left) != set(right):
        raise ReportError(f"paired differences need the same seeds, found {sorted(left)} and {sorted(right)}")
    return [left[seed] - right[seed] for seed in sorted(left)]


def bootstrap_interval(
    left: Sequence[NDArray[np.float64]], right: Sequence[NDArray[np.float64]], level: float = LEVEL
) -> tuple[float, float]:
    """Interval over images of the mean difference, from resampled metrics.

    Args:
        left: one Float[B] per seed, the metric on B resampled image sets.
        right: the same resamples of the other side.
        level: coverage of the percentile interval.

    Raises:
        ReportError: the sides differ in seeds or resamples.
    """
    if len(left) != len(right) or {len(values) for values in [*left, *right]} != {len(left[0])}:
        raise ReportError("a paired bootstrap needs the same seeds and resamples on both sides")
    difference = np.mean([a - b for a, b in zip(left, right, strict=True)], axis=0)
    low, high = np.nanquantile(difference, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def difference_interval(
    left: Mapping[int, float], right: Mapping[int, float], images: tuple[float, float] | None = None
) -> Interval:
    """The mean paired difference over seeds, with its interval over seeds and, if given, over images."""
    estimate = mean_interval(paired_differences(left, right))
    half = estimate.half_width
    seeds = None if half is None else (estimate.mean - half, estimate.mean + half)
    return Interval(estimate.mean, estimate.n, seeds, images)

"""Means over trainings, and one estimator for every difference, with its interval and its tests.

A metric of training s of variant v is m_v + a_vs + c_v + e_vs: the variant's mean, what the training's chance adds,
what the choice of the images adds to every training, and what they add to this one alone. The variance over trainings
holds a and e together, so the images enter only through what trainings have in common, c.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.errors import ReportError

LEVEL = 0.95
RESAMPLES = 400  # image sets; the standard deviation of 400 draws is known to 3.5 %
PRIOR = 1  # degrees of freedom that the mean of the variants' variances counts for in each variance

Values = NDArray[np.float64]


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


@dataclass(frozen=True)
class Term:
    """A quantity of one variant's trainings: a metric, or the difference of two settings on the same checkpoint.

    Attributes:
        values: Float[n], one per training.
        draws: Float[n, B], the same on B resampled image sets, the same sets for every term; None without a bootstrap.
        weight: its factor in the sum of terms.
        peers: the same quantity of other variants, a Float[n] each: their variances steady this one's.
    """

    values: Values
    draws: Values | None = None
    weight: float = 1.0
    peers: Sequence[Values] = ()


@dataclass(frozen=True)
class Interval:
    """A difference and its standard error.

    Attributes:
        mean: the difference.
        error: standard error; None where neither trainings nor images tell it.
        degrees: of freedom of the error (infinite where only images tell it).
        n: trainings per variant, the fewest.
        trainings: the part of the error that comes from trainings; None with one training.
        images: the part that comes from images; None without a bootstrap.
        over: what `n` counts.
    """

    mean: float
    n: int
    error: float | None = None
    degrees: float = math.inf
    trainings: float | None = None
    images: float | None = None
    over: str = "trainings"

    @property
    def decides(self) -> bool:
        """Whether a verdict may rest on it: it must cover the variation between trainings."""
        return self.trainings is not None

    @property
    def covers(self) -> str:
        """What the interval covers, in words; '' where there is none."""
        parts = {self.over: self.trainings, "images": self.images}
        return " and ".join(name for name, part in parts.items() if part is not None)

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval."""
        return self._half(LEVEL)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The 95 % interval."""
        return self.at(LEVEL)

    def at(self, level: float) -> tuple[float, float] | None:
        """The interval of this coverage."""
        half = self._half(level)
        return None if half is None else (self.mean - half, self.mean + half)

    def p_above(self, bound: float) -> float:
        """p value of “the difference is at most `bound`” against “it is above”; 1 where nothing is decided."""
        if not self.decides or self.error is None:
            return 1.0
        if self.error == 0:
            return 0.0 if self.mean > bound else 1.0
        return float(stats.t.sf((self.mean - bound) / self.error, self.degrees))

    def p_below(self, bound: float) -> float:
        """p value of “the difference is at least `bound`” against “it is below”."""
        return self.negative.p_above(-bound)

    @cached_property
    def negative(self) -> Interval:
        """Of the difference taken the other way round."""
        return replace(self, mean=-self.mean)

    def _half(self, level: float) -> float | None:
        if self.error is None:
            return None
        return float(stats.t.ppf((1 + level) / 2, self.degrees)) * self.error if self.error else 0.0


def estimate(terms: Sequence[Term]) -> Interval:
    """The weighted sum of terms, with its standard error.

    V = sum of w_v^2 s_v^2 / n_v  +  sum of w_v w_u K_vu

    s_v^2: variance over the trainings of v, moderated (`moderated_variance`). K_vu: covariance over resampled image
    sets of two *different* trainings, of v and of u; what images do to one training alone is in s_v^2 already. Terms
    are of different variants: their trainings are not paired, as equal seeds have nothing in common. Settings of one
    checkpoint do; their difference is one term. Degrees of freedom after Satterthwaite (1946), those of K taken as
    infinite.

    With one training the interval covers the images only, and decides nothing.

    Raises:
        ReportError: there is no term, or a term without values.
    """
    if not terms or any(not len(term.values) for term in terms):
        raise ReportError("a difference needs at least one value on each side")
    mean = float(sum(term.weight * term.values.mean() for term in terms))
    n = min(len(term.values) for term in terms)
    resampled = all(term.draws is not None for term in terms)
    if n < 2:
        images = _single_image_error(terms) if resampled else None
        return Interval(mean, n, images, images=images)
    images = math.sqrt(max(_common_variance(terms), 0.0)) if resampled else None
    parts = []
    for term in terms:
        variance, degrees = moderated_variance(term)
        parts.append((term.weight**2 * variance / len(term.values), degrees))
    trainings = sum(part for part, _ in parts)
    total = trainings + (images or 0.0) ** 2
    spread = sum(part**2 / degrees for part, degrees in parts)
    degrees = total**2 / spread if spread else math.inf
    return Interval(mean, n, math.sqrt(total), degrees, math.sqrt(trainings), images)


def moderated_variance(term: Term) -> tuple[float, float]:
    """A term's variance over trainings, drawn a little to the mean variance of its peers and itself.

    Returns:
        Variance and degrees of freedom. Of the forms that were compared (own variance, pooled, this one with several
        `PRIOR`) it is the narrowest that covers 94 to 96.5 %, on average over the variants, with 2, 3 and 5 trainings,
        whether the variants' variances are equal or not: `python -m reports.coverage`.
    """
    own, degrees = float(term.values.var(ddof=1)), len(term.values) - 1
    peers = [peer for peer in term.peers if len(peer) > 1]
    if not peers:
        return own, degrees
    mean = float(np.mean([own, *(peer.var(ddof=1) for peer in peers)]))
    return (PRIOR * mean + degrees * own) / (PRIOR + degrees), PRIOR + degrees


def _common_variance(terms: Sequence[Term]) -> float:
    """What the images do to different trainings alike: the second sum of `estimate`."""
    draws = [term.draws for term in terms if term.draws is not None]
    centred = [own - np.nanmean(own, axis=1, keepdims=True) for own in draws]

    def covariance(first: int, second: int) -> float:
        count = len(centred[first])
        pairs = combinations(range(count), 2) if first == second else product(range(count), range(len(centred[second])))
        found = [np.nanmean(centred[first][a] * centred[second][b]) for a, b in pairs]
        return float(np.mean(found))

    indices = range(len(terms))
    return sum(terms[a].weight * terms[b].weight * covariance(a, b) for a in indices for b in indices)


def _single_image_error(terms: Sequence[Term]) -> float:
    """Standard deviation over resampled image sets of the difference itself."""
    total = sum(term.weight * term.draws.mean(axis=0) for term in terms)  # type: ignore[union-attr]
    return float(np.nanstd(total))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for a family of tests (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=float)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class Design:
    """Trainings of each variant and images of the report split that decide an effect with 80 % power, if both are free.

    Attributes:
        trainings: with the images there are; None if no number does.
        images: times as many images as there are, with the trainings there are; None if no number does.
    """

    trainings: int | None
    images: float | None


@dataclass(frozen=True)
class Power:
    """What an interval would need to decide a difference of this size."""

    interval: Interval
    effect: float
    power: float = 0.8
    most: int = field(default=100, repr=False)

    def design(self) -> Design:
        """The smallest numbers.

        Raises:
            ReportError: the interval does not cover trainings.
        """
        found = self.interval
        if found.trainings is None:
            raise ReportError("the power of a comparison needs two trainings of each variant or more")
        images = found.images or 0.0
        counts = range(2, self.most + 1)
        enough = (
            count for count in counts if self._decides(found.trainings * math.sqrt(found.n / count), images, count)
        )
        factors = np.geomspace(1 / 16, 64, 121)
        fewest = (float(f) for f in factors if self._decides(found.trainings, images / math.sqrt(f), found.n))
        return Design(next(enough, None), next(fewest, None))

    def _decides(self, trainings: float, images: float, n: int) -> bool:
        """Whether an error of these two parts decides the effect with the wanted power (noncentral t)."""
        error = math.hypot(trainings, images)
        if error == 0:
            return True
        # degrees of freedom of the trainings' part grow with their number
        share = (trainings / error) ** 4
        base = self._training_degrees() * (n - 1) / max(self.interval.n - 1, 1)
        degrees = base / share if share else math.inf
        limit = stats.t.ppf((1 + LEVEL) / 2, degrees)
        if math.isinf(degrees):
            return bool(stats.norm.sf(limit - abs(self.effect) / error) >= self.power)
        return bool(stats.nct.sf(limit, degrees, abs(self.effect) / error) >= self.power)

    def _training_degrees(self) -> float:
        """Degrees of freedom of the trainings' part alone."""
        found = self.interval
        if not found.trainings or found.error is None:
            return math.inf
        return found.degrees * (found.trainings / found.error) ** 4

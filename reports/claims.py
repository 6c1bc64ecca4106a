"""Verdicts on what the paper and the published reproduction claim: data in claims.yaml, computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from reports.errors import ReportError
from reports.results.collect import Results
from reports.results.matches import Matches, average_precision, draw_image_weights
from reports.results.published import Published
from reports.results.sides import POINTS, Side
from reports.results.source import Source
from reports.statistics import RESAMPLES, Interval, bootstrap_interval, difference_interval
from suite.errors import NotInSuite

FILE = Path(__file__).parent / "claims.yaml"
REPRODUCED, CONTRADICTED, INCONCLUSIVE = "reproduced", "contradicted", "inconclusive"


@dataclass(frozen=True)
class Claim:
    """One claim: the metric of a pair's first side minus that of its second, averaged over pairs, has sign `expected`.

    Attributes:
        pairs: what is compared; one pair, or one per variant that the claim is about.
        published: for each source, the two values (table/row/column) behind the difference it reports for each pair.
    """

    id: str
    text: str
    short: str
    metric: str
    expected: str
    pairs: tuple[tuple[Side, Side], ...]
    published: Mapping[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Verdict:
    """A claim judged on a run; differences in AP points.

    Attributes:
        interval: the difference in this run.
        verdict: `reproduced` if the combined interval lies on the expected side of 0, `contradicted` if on the other,
            else `inconclusive`.
        published: the difference each published source reports.
        sources: the evaluation files behind it.
    """

    claim: Claim
    interval: Interval
    verdict: str
    published: Mapping[str, float]
    sources: tuple[Source, ...]
    published_sources: Mapping[str, tuple[Source, ...]]
    stale: bool

    def record(self) -> dict[str, Any]:
        """The verdict as plain data: what `verdicts.json` holds."""
        interval = self.interval
        return {
            "id": self.claim.id,
            "claim": self.claim.text,
            "metric": self.claim.metric,
            "expected": self.claim.expected,
            "difference": interval.mean,
            "interval": list(interval.combined) if interval.combined else None,
            "seeds": interval.n,
            "published": dict(self.published),
            "verdict": self.verdict,
            "stale": self.stale,
        }


def load_claims(path: Path = FILE) -> list[Claim]:
    """Read the claims.

    Raises:
        ReportError: a claim lacks a key, or expects something other than '+' or '-'.
    """
    claims = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["claims"]:
        try:
            texts = {key: entry[key] for key in ("id", "text", "short", "metric", "expected")}
            variants = [{"variant": variant} for variant in entry.get("variants", [])] or [{}]
            claim = Claim(
                pairs=tuple((Side(**entry["left"], **own), Side(**entry["right"], **own)) for own in variants),
                published={
                    key: tuple((above.format(**own), below.format(**own)) for own in variants)
                    for key, (above, below) in entry["published"].items()
                },
                **texts,
            )
        except (KeyError, TypeError) as error:
            raise ReportError(f"{path}: claim {entry.get('id', '?')}: {error}") from None
        if claim.expected not in ("+", "-"):
            raise ReportError(f"{path}: claim {claim.id}: 'expected' must be '+' or '-', found {claim.expected!r}")
        claims.append(claim)
    return claims


def judge(interval: tuple[float, float] | None, expected: str) -> str:
    """Verdict from an interval on the difference; without an interval nothing is decided."""
    if interval is None:
        return INCONCLUSIVE
    low, high = interval if expected == "+" else (-interval[1], -interval[0])
    if low > 0:
        return REPRODUCED
    return CONTRADICTED if high < 0 else INCONCLUSIVE


def metric_of(ap: NDArray[np.float64], thresholds: tuple[float, ...], metric: str) -> NDArray[np.float64]:
    """AP or AP at one threshold (AP50…AP95) from Float[B, T]; in [0, 1].

    Raises:
        ReportError: no such threshold among the matches.
    """
    if metric == "AP":
        return ap.mean(axis=1)
    for index, threshold in enumerate(thresholds):
        if metric == f"AP{round(100 * threshold)}":
            return ap[:, index]
    raise ReportError(f"metric {metric} cannot be computed from matches at IoU {thresholds}")


class Bootstrap:
    """AP on the same resamples of the report split's images, for any evaluation; each computed once."""

    def __init__(self, results: Results, resamples: int = RESAMPLES, seed: int = 0):
        self._results = results
        self._resamples = resamples
        self._seed = seed
        self._weights: NDArray[np.int64] | None = None
        self._reference: Matches | None = None
        self._cache: dict[tuple[str, int, str], NDArray[np.float64]] = {}

    def metric(self, variant: str, seed: int, setting: str, metric: str) -> NDArray[np.float64]:
        """A metric in points on every resample, Float[B].

        Raises:
            ReportError: this evaluation is of other images than the first one asked for.
        """
        matches = self._results.matches(variant, seed, setting)
        if self._weights is None or self._reference is None:
            self._weights = draw_image_weights(len(matches.image_ids), self._resamples, self._seed)
            self._reference = matches
        if matches.image_ids != self._reference.image_ids:
            raise ReportError(f"{variant} seed{seed} {setting}: matches of other images than the other evaluations'")
        key = (variant, seed, setting)
        if key not in self._cache:
            self._cache[key] = average_precision(matches, self._weights)
        return POINTS * metric_of(self._cache[key], matches.iou_thresholds, metric)


def judge_claims(
    results: Results, published: Mapping[str, Published], claims: list[Claim], bootstrap: Bootstrap | None
) -> tuple[list[Verdict], list[tuple[Claim, str]]]:
    """Judge the claims a suite can test.

    Args:
        bootstrap: resampled images, or None for intervals over seeds only.

    Returns:
        The verdicts, and the claims left out with the reason.
    """
    verdicts, left_out = [], []
    for claim in claims:
        try:
            verdicts.append(_judge(results, published, claim, bootstrap))
        except NotInSuite as reason:
            left_out.append((claim, str(reason)))
    return verdicts, left_out


def _judge(results: Results, published: Mapping[str, Published], claim: Claim, bootstrap: Bootstrap | None) -> Verdict:
    lefts, rights = zip(*claim.pairs, strict=True)
    sides = [side for pair in claim.pairs for side in pair]
    left, right = (_mean_per_seed(results, own, claim.metric) for own in (lefts, rights))
    images = None if bootstrap is None else _interval_over_images(results, bootstrap, lefts, rights, claim.metric)
    interval = difference_interval(left, right, images)
    differences = {key: _published_difference(published[key], claim.published[key]) for key in claim.published}
    known = {key: difference for key, difference in differences.items() if difference is not None}
    return Verdict(
        claim=claim,
        interval=interval,
        verdict=judge(interval.combined, claim.expected),
        published=known,
        sources=tuple(source for side in sides for source in side.sources(results, claim.metric)),
        published_sources={
            key: tuple(published[key].source(*path.split("/")) for pair in claim.published[key] for path in pair)
            for key in known
        },
        stale=any(side.is_stale(results) for side in sides),
    )


def _mean_per_seed(results: Results, sides: Sequence[Side], metric: str) -> dict[int, float]:
    """A metric in points for each seed, averaged over sides."""
    values = [side.per_seed(results, metric) for side in sides]
    return {seed: float(np.mean([value[seed] for value in values])) for seed in results.suite.seeds}


def _interval_over_images(
    results: Results, bootstrap: Bootstrap, lefts: Sequence[Side], rights: Sequence[Side], metric: str
) -> tuple[float, float]:
    """Bootstrap interval of the mean difference between two lists of sides."""

    def resampled(sides: Sequence[Side]) -> list[NDArray[np.float64]]:
        names = [(side.variant, side.setting(results)) for side in sides]
        return [
            np.mean([bootstrap.metric(variant, seed, setting, metric) for variant, setting in names], axis=0)
            for seed in results.suite.seeds
        ]

    return bootstrap_interval(resampled(lefts), resampled(rights))


def _published_difference(source: Published, pairs: Sequence[tuple[str, str]]) -> float | None:
    """Mean difference of pairs of published values; None where the source does not print them all."""
    values = [(source.lookup(above), source.lookup(below)) for above, below in pairs]
    known = [above - below for above, below in values if above is not None and below is not None]
    return round(sum(known) / len(known), 6) if len(known) == len(values) else None

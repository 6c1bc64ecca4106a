"""Verdicts on what the paper and the published reproduction claim: data in claims.yaml, computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from reports.errors import NotInSuite, ReportError
from reports.results.collect import Results
from reports.results.matches import Matches, average_precision, draw_image_weights
from reports.results.published import Published
from reports.statistics import RESAMPLES, Interval, bootstrap_interval, difference_interval
from reports.tables.cells import POINTS, Side, is_stale, per_seed, sources
from reports.tables.table import Cell, Row, Source, Table, format_range

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
    pairs = [[(side.variant, side.setting(results)) for side in pair] for pair in claim.pairs]
    left, right = (_mean_per_seed(results, names, claim.metric) for names in zip(*pairs, strict=True))
    images = None
    if bootstrap is not None:
        above, below = (
            [
                np.mean([bootstrap.metric(variant, seed, setting, claim.metric) for variant, setting in names], axis=0)
                for seed in results.suite.seeds
            ]
            for names in zip(*pairs, strict=True)
        )
        images = bootstrap_interval(above, below)
    interval = difference_interval(left, right, images)
    differences: dict[str, float] = {}
    origins: dict[str, tuple[Source, ...]] = {}
    for key, paths in claim.published.items():
        source = published[key]
        values = [(source.lookup(above), source.lookup(below)) for above, below in paths]
        known = [above - below for above, below in values if above is not None and below is not None]
        if len(known) == len(values):
            differences[key] = round(sum(known) / len(known), 6)
            origins[key] = tuple(
                Source(source.file, path, True, source.table(path.split("/")[0])["url"])
                for pair in paths
                for path in pair
            )
    names = [name for pair in pairs for name in pair]
    return Verdict(
        claim=claim,
        interval=interval,
        verdict=judge(interval.combined, claim.expected),
        published=differences,
        sources=tuple(source for name in names for source in sources(results, *name, claim.metric)),
        published_sources=origins,
        stale=any(is_stale(results, *name) for name in names),
    )


def _mean_per_seed(results: Results, names: Sequence[tuple[str, str]], metric: str) -> dict[int, float]:
    """A metric in points for each seed, averaged over (variant, setting) pairs."""
    values = [per_seed(results, *name, metric) for name in names]
    return {seed: float(np.mean([value[seed] for value in values])) for seed in results.suite.seeds}


def scoreboard(verdicts: list[Verdict], published: Mapping[str, Published]) -> Table:
    """The claims as a table: published differences, this run's difference with its interval, the verdict."""
    has_images = any(verdict.interval.images for verdict in verdicts)
    columns = ("metric", *published, "this run", "95 % interval", "verdict")
    rows = []
    for verdict in verdicts:
        interval = verdict.interval
        cells: dict[str, Any] = {"metric": Cell(verdict.claim.metric, kind="text")}
        for key, value in verdict.published.items():
            cells[key] = Cell(value, kind="difference", sources=verdict.published_sources[key])
        rest: dict[str, Any] = {"seeds": interval.n, "sources": verdict.sources}
        cells["this run"] = Cell(interval.mean, kind="difference", stale=verdict.stale, **rest)
        combined = interval.combined
        cells["95 % interval"] = Cell(format_range(*combined) if combined else None, kind="text", **rest)
        cells["verdict"] = Cell(verdict.verdict, kind="text", **rest)
        rows.append(Row("", verdict.claim.text, cells, emphasis=verdict.verdict == CONTRADICTED))
    return Table(
        "claims",
        "What the publications claim, and what happened here",
        _scoreboard_caption(verdicts, has_images),
        columns,
        tuple(rows),
        stub="claim",
    )


def _scoreboard_caption(verdicts: list[Verdict], has_images: bool) -> str:
    n = max((verdict.interval.n for verdict in verdicts), default=0)
    parts = []
    if n > 1:
        parts.append(f"variation over {n} seeds (t interval of paired differences)")
    if has_images:
        parts.append(f"variation over images (bootstrap, {RESAMPLES} resamples)")
    basis = " combined with ".join(parts) if parts else "nothing: one seed and no bootstrap give no interval"
    text = f"Differences in points. The interval is on the difference and covers {basis}. "
    if n == 1:
        text += "With one seed, the variation between trainings is not covered. "
    return text + (
        "*Reproduced*: the whole interval lies on the claimed side of zero; *contradicted*: on the other side; "
        "*inconclusive*: it contains zero."
    )

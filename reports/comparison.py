"""The one interval of a difference: whatever table, figure or claim shows it, it is computed here, once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.errors import ReportError
from reports.results.collect import Results
from reports.results.matches import average_precision, metric_of, whole
from reports.results.sides import POINTS, Side
from reports.statistics import Interval, Term, Values, estimate

Weights = dict[str, float]  # setting -> factor
OF_CLASS = "AP of class "  # the metric of one class: this, and the class's id


def difference(results: Results, left: Side, right: Side, metric: str) -> Interval:
    """A metric of one side minus that of another, in points."""
    return mean_difference(results, [(left, right)], metric)


def mean_difference(results: Results, pairs: Sequence[tuple[Side, Side]], metric: str) -> Interval:
    """The mean over pairs of a metric of their first side minus that of their second, in points.

    What one variant's checkpoints contribute, in whatever settings, is one term of `reports.statistics.estimate`.

    Raises:
        NotInSuite: the suite lacks a variant or setting.
        MissingResult: an evaluation, or the matches that a bootstrap needs, do not exist.
    """
    by_variant: dict[str, Weights] = {}
    for pair in pairs:
        for side, sign in zip(pair, (1.0, -1.0), strict=True):
            weights = by_variant.setdefault(side.own(results), {})
            setting = side.setting(results)
            weights[setting] = weights.get(setting, 0.0) + sign / len(pairs)
    key = (metric, tuple((variant, tuple(sorted(weights.items()))) for variant, weights in sorted(by_variant.items())))
    if key not in results.intervals:
        terms = [_term(results, variant, weights, metric) for variant, weights in by_variant.items()]
        results.intervals[key] = estimate(terms)
    return results.intervals[key]


def class_metric(category: int) -> str:
    """AP of one class, as a metric."""
    return f"{OF_CLASS}{category}"


def _split(metric: str) -> tuple[int | None, str]:
    """The class whose matches a metric is of, None = all of them, and what `metric_of` calls it."""
    if metric.startswith(OF_CLASS):
        return int(metric.removeprefix(OF_CLASS)), "AP"
    return None, metric


def metric_values(results: Results, variant: str, setting: str, metric: str) -> Values:
    """A metric in points of each training, Float[n]: as evaluated, or what its matches give.

    These give AP at another threshold, and AP of a class (NaN where no object of it is in the split).
    """
    category, of_matches = _split(metric)

    def value(seed: int) -> float:
        row = results.evaluation(variant, seed, setting)
        if metric in row:
            return float(row[metric])
        matches = results.matches(variant, seed, setting)
        own = matches if category is None else matches.of_class(category)
        return float(metric_of(average_precision(own, whole(own)), own.iou_thresholds, of_matches)[0])

    return POINTS * np.array([value(seed) for seed in results.suite.seeds])


def _term(results: Results, variant: str, weights: Weights, metric: str) -> Term:
    return Term(
        values=_values(results, variant, weights, metric),
        draws=_draws(results, variant, weights, metric),
        peers=[_values(results, peer, weights, metric) for peer in _peers(results, variant, weights)],
    )


def _values(results: Results, variant: str, weights: Weights, metric: str) -> Values:
    parts = [factor * metric_values(results, variant, setting, metric) for setting, factor in weights.items()]
    return np.sum(parts, axis=0)


def _draws(results: Results, variant: str, weights: Weights, metric: str) -> Values | None:
    """Float[n, B]; None without a bootstrap, and for a metric that matches do not give (by object size)."""
    rows = []
    category, of_matches = _split(metric)
    for seed in results.suite.seeds:
        parts = [results.resampled(variant, seed, setting, category) for setting in weights]
        if any(part is None for part in parts):
            return None
        thresholds = results.matches(variant, seed, next(iter(weights))).iou_thresholds
        try:
            values = [metric_of(part, thresholds, of_matches) for part in parts if part is not None]
        except ReportError:
            return None
        rows.append(POINTS * np.sum([f * v for f, v in zip(weights.values(), values, strict=True)], axis=0))
    return np.stack(rows)


def _peers(results: Results, variant: str, weights: Weights) -> list[str]:
    """The other variants that were read and evaluated in these settings, with every seed."""
    return [
        other
        for other in results.suite.variants
        if other != variant
        and all(results.has_evaluation(other, seed, name) for seed in results.suite.seeds for name in weights)
    ]

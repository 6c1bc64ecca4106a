"""The one interval of a difference: whatever table, figure or claim shows it, it is computed here, once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.errors import ReportError
from reports.results.collect import Results
from reports.results.matches import average_precision, metric_of, whole
from reports.results.sides import POINTS, Compared
from reports.statistics import Interval, Term, Values, estimate

Weights = dict[tuple[str, str], float]  # variant and setting -> factor
OF_CLASS = "AP of class "  # the metric of one class: this, and the class's id


def difference(results: Results, left: Compared, right: Compared, metric: str) -> Interval:
    """A metric of one side minus that of another, in points."""
    return mean_difference(results, [(left, right)], metric)


def mean_difference(results: Results, pairs: Sequence[tuple[Compared, Compared]], metric: str) -> Interval:
    """The mean over pairs of a metric of their first side minus that of their second, in points.

    What the same trainings contribute, in whatever settings, is one term of `reports.statistics.estimate`.

    Raises:
        NotInSuite: the suite lacks a variant or setting.
        MissingResult: an evaluation, or the matches that a bootstrap needs, do not exist.
    """
    by_trainings: dict[str, Weights] = {}
    for pair in pairs:
        for side, sign in zip(pair, (1.0, -1.0), strict=True):
            weights = by_trainings.setdefault(side.trainings(results), {})
            place = (side.own(results), side.setting(results))
            weights[place] = weights.get(place, 0.0) + sign / len(pairs)
    key = (metric, tuple((name, tuple(sorted(weights.items()))) for name, weights in sorted(by_trainings.items())))
    if key not in results.intervals:
        terms = [_term(results, weights, metric) for weights in by_trainings.values()]
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


def _term(results: Results, weights: Weights, metric: str) -> Term:
    return Term(
        values=_values(results, weights, metric),
        draws=_draws(results, weights, metric),
        peers=[_values(results, peer, metric) for peer in _peers(results, weights)],
    )


def _values(results: Results, weights: Weights, metric: str) -> Values:
    parts = [factor * metric_values(results, *place, metric) for place, factor in weights.items()]
    return np.sum(parts, axis=0)


def _draws(results: Results, weights: Weights, metric: str) -> Values | None:
    """Float[n, B]; None without a bootstrap, and for a metric that matches do not give (by object size)."""
    rows = []
    category, of_matches = _split(metric)
    for seed in results.suite.seeds:
        parts = [results.resampled(variant, seed, setting, category) for variant, setting in weights]
        if any(part is None for part in parts):
            return None
        variant, setting = next(iter(weights))
        thresholds = results.matches(variant, seed, setting).iou_thresholds
        try:
            values = [metric_of(part, thresholds, of_matches) for part in parts if part is not None]
        except ReportError:
            return None
        rows.append(POINTS * np.sum([f * v for f, v in zip(weights.values(), values, strict=True)], axis=0))
    return np.stack(rows)


def _peers(results: Results, weights: Weights) -> list[Weights]:
    """The same of each other variant or detector that was read and evaluated in these settings, with every seed."""
    own = {variant for variant, _ in weights}
    if len(own) > 1:
        return []
    return [
        {(other, setting): factor for (_, setting), factor in weights.items()}
        for other in (*results.suite.variants, *results.suite.detectors)
        if other not in own
        and all(results.has_evaluation(other, seed, name) for seed in results.suite.seeds for _, name in weights)
    ]

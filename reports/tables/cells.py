"""Cells and rows from results: a mean over seeds, a difference, a published number."""

from __future__ import annotations

import math
from collections.abc import Mapping

from reports.comparison import difference
from reports.results.collect import Results
from reports.results.published import Published
from reports.results.sides import THIS_RUN, Compared
from reports.statistics import Estimate, Interval, mean_interval
from reports.tables.table import Cell, Row, digits_of

IMPROVEMENT = "improvement"  # key of the row of differences to Faster R-CNN, published and ours


def estimate_cell(estimate: Estimate, **rest: object) -> Cell:
    """A mean with its interval; nothing where a value is undefined."""
    value = None if math.isnan(estimate.mean) else estimate.mean
    return Cell(value, None if value is None else estimate.half_width, estimate.n, **rest)  # type: ignore[arg-type]


def mean_cell(results: Results, side: Compared, metric: str) -> Cell:
    """Mean of a metric over seeds, with its interval."""
    return estimate_cell(
        mean_interval(list(side.per_seed(results, metric).values())),
        sources=side.sources(results, metric),
        stale=side.is_stale(results),
    )


def difference_cell(results: Results, left: Compared, right: Compared, metric: str) -> Cell:
    """The difference between two sides, with its interval."""
    return interval_cell(
        difference(results, left, right, metric),
        sources=left.sources(results, metric) + right.sources(results, metric),
        stale=left.is_stale(results) or right.is_stale(results),
    )


def interval_cell(interval: Interval, **rest: object) -> Cell:
    """A difference with its interval, where that decides; nothing where a value is undefined."""
    value = None if math.isnan(interval.mean) else interval.mean
    half = interval.half_width if interval.decides and value is not None else None
    digits = 1 if value is None else digits_of(value)
    return Cell(value, half, interval.n, kind="difference", digits=digits, **rest)  # type: ignore[arg-type]


def published_cell(
    published: Published, table: str, row: str, column: str, difference: bool = False, digits: int = 1
) -> Cell:
    """A published number as it was printed."""
    value = published.value(table, row, column)
    return Cell(
        None if value is None else float(value),
        kind="difference" if difference else "value",
        digits=digits,
        sources=(published.source(table, row, column),),
    )


def published_row(published: Published, table: str, key: str, cells: Mapping[str, Cell]) -> Row:
    """A row of a published table, under its printed label: a name where it is the row's key itself."""
    label = published.table(table)["rows"][key].get("label", key)
    return Row(published.name, label, cells, emphasis=key == IMPROVEMENT, key=key, is_name=label == key)


def published_rows(published: Published, table: str, keys: list[str], columns: tuple[str, ...]) -> list[Row]:
    """Rows of a published table; the row `improvement` is one of differences."""
    return [
        published_row(
            published, table, key, {c: published_cell(published, table, key, c, key == IMPROVEMENT) for c in columns}
        )
        for key in keys
    ]


def variant_row(variant: str, cells: Mapping[str, Cell], group: str = THIS_RUN) -> Row:
    """A row about a variant of this run."""
    return Row(group, variant, cells, key=variant, is_name=True)


def measured_row(results: Results, label: str, side: Compared, columns: tuple[str, ...]) -> Row:
    """A row of means over the seeds of this run."""
    return Row(THIS_RUN, label, {column: mean_cell(results, side, column) for column in columns}, key=side.own(results))


def improvement_row(
    results: Results,
    left: Compared,
    right: Compared,
    columns: tuple[str, ...],
    label: str = "Improvement",
    key: str = IMPROVEMENT,
) -> Row:
    """A row of differences of this run."""
    cells = {column: difference_cell(results, left, right, column) for column in columns}
    return Row(THIS_RUN, label, cells, emphasis=True, key=key)

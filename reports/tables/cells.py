"""Cells from results: a mean over seeds, a mean of paired differences, a published number."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reports.results.collect import Results
from reports.results.published import Published
from reports.statistics import Estimate, mean_interval, paired_differences
from reports.tables.table import Cell, Row, Source

POINTS = 100.0  # the papers print AP × 100


@dataclass(frozen=True)
class Side:
    """A variant under an inference setting: one side of a comparison, one row of a table.

    Attributes:
        guide: NMS guide, or None when the IoU branch is off.
        step_size: published λ (mapped by the suite's scale), or None without refinement.
    """

    variant: str
    guide: str | None = None
    step_size: float | None = None

    def setting(self, results: Results) -> str:
        """Name of the actual setting in this suite.

        Raises:
            NotInSuite: the suite lacks the variant or the setting.
        """
        results.suite.require(self.variant)
        return results.suite.setting(self.guide, self.step_size)


def per_seed(results: Results, variant: str, setting: str, metric: str) -> dict[int, float]:
    """A metric in points for each seed of the suite.

    Raises:
        MissingResult: an evaluation file does not exist.
    """
    return {seed: POINTS * float(results.evaluation(variant, seed, setting)[metric]) for seed in results.suite.seeds}


def sources(results: Results, variant: str, setting: str, metric: str) -> tuple[Source, ...]:
    """The evaluation files behind `per_seed`."""
    return tuple(
        Source(results.evaluation(variant, seed, setting)["source"], f"metrics.{metric}")
        for seed in results.suite.seeds
    )


def is_stale(results: Results, variant: str, setting: str) -> bool:
    """Whether any seed's evaluation is out of date."""
    return any(results.evaluation(variant, seed, setting)["stale"] for seed in results.suite.seeds)


def _cell(estimate: Estimate, **rest: object) -> Cell:
    value = None if math.isnan(estimate.mean) else estimate.mean
    return Cell(value, None if value is None else estimate.half_width, estimate.n, **rest)  # type: ignore[arg-type]


def mean_cell(results: Results, side: Side, metric: str) -> Cell:
    """Mean of a metric over seeds, with its interval."""
    setting = side.setting(results)
    return _cell(
        mean_interval(list(per_seed(results, side.variant, setting, metric).values())),
        sources=sources(results, side.variant, setting, metric),
        stale=is_stale(results, side.variant, setting),
    )


def difference_cell(results: Results, left: Side, right: Side, metric: str) -> Cell:
    """Mean over seeds of the difference between two sides of the same seed, with its interval."""
    names = [(side.variant, side.setting(results)) for side in (left, right)]
    values = [per_seed(results, *name, metric) for name in names]
    return _cell(
        mean_interval(paired_differences(*values)),
        kind="difference",
        sources=tuple(source for name in names for source in sources(results, *name, metric)),
        stale=any(is_stale(results, *name) for name in names),
    )


def published_cell(published: Published, table: str, row: str, column: str, difference: bool = False) -> Cell:
    """A published number as it was printed."""
    value = published.value(table, row, column)
    return Cell(
        None if value is None else float(value),
        kind="difference" if difference else "value",
        sources=(Source(published.file, f"{table}/{row}/{column}", True, published.table(table)["url"]),),
    )


def published_rows(published: Published, table: str, rows: list[str], columns: tuple[str, ...]) -> list[Row]:
    """Rows of a published table; the row `improvement` is one of differences."""
    return [
        Row(
            published.name,
            published.table(table)["rows"][row]["label"],
            {c: published_cell(published, table, row, c, row == "improvement") for c in columns},
            emphasis=row == "improvement",
        )
        for row in rows
    ]


def measured_row(results: Results, group: str, label: str, side: Side, columns: tuple[str, ...]) -> Row:
    """A row of means over seeds."""
    return Row(group, label, {column: mean_cell(results, side, column) for column in columns})


def improvement_row(
    results: Results, group: str, left: Side, right: Side, columns: tuple[str, ...], label: str = "Improvement"
) -> Row:
    """A row of means of paired differences."""
    cells = {column: difference_cell(results, left, right, column) for column in columns}
    return Row(group, label, cells, emphasis=True)

"""How class score and predicted IoU go with the true IoU, for every IoU-Net."""

from __future__ import annotations

import itertools

from reports.results.collect import Results
from reports.results.diagnostics import CONFIDENCES, CORRELATIONS, rows_of
from reports.results.source import Source
from reports.statistics import mean_interval
from reports.tables.cells import estimate_cell, variant_row
from reports.tables.table import Table, TableEntry


def confidence_table(results: Results) -> Table:
    """Correlation of class score and predicted IoU with the true IoU, for every IoU-Net."""
    columns = tuple(f"{name}, {kind.capitalize()}" for name in CONFIDENCES.values() for kind in CORRELATIONS)
    rows = []
    for variant in dict.fromkeys(results.diagnostics["variant"]):
        own = rows_of(results, variant)
        cells = {}
        for column, (key, kind) in zip(columns, itertools.product(CONFIDENCES, CORRELATIONS), strict=True):
            cells[column] = estimate_cell(
                mean_interval([row["data"]["confidence"][key][kind] for row in own]),
                digits=2,
                sources=tuple(Source.of_diagnostics(row, f"confidence.{key}.{kind}") for row in own),
                stale=any(row["stale"] for row in own),
            )
        rows.append(variant_row(variant, cells, group=""))
    caption = "Correlation of two confidences with the true IoU, over the positive boxes before NMS."
    return Table(CONFIDENCE.key, CONFIDENCE.title, caption, columns, tuple(rows), stub="variant")


CONFIDENCE = TableEntry(
    "confidence",
    "Confidence and localization",
    lambda c: None if c.results.diagnostics.empty else confidence_table(c.results),
)

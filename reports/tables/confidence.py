"""How class score and predicted IoU go with the true IoU, for every IoU-Net."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from reports.results.collect import Results
from reports.results.diagnostics import CONFIDENCES, CORRELATIONS, rows_of
from reports.results.published import Published
from reports.results.sides import THIS_RUN
from reports.results.source import Source
from reports.statistics import mean_interval
from reports.tables.cells import estimate_cell, published_cell, variant_row
from reports.tables.table import Row, Table, TableEntry

KEY = "confidence"


POPULATIONS = {"confidence": "before NMS", "confidence_after_nms": "after regular NMS"}


def confidence_table(results: Results, published: Mapping[str, Published]) -> Table:
    """Correlation of class score and predicted IoU with the true IoU, for every IoU-Net, before and after NMS."""
    columns = tuple(f"{name}, {kind.capitalize()}" for name in CONFIDENCES.values() for kind in CORRELATIONS)
    source = published["paper"]
    printed = {
        f"{CONFIDENCES[key]}, Pearson": published_cell(source, KEY, key, "pearson", digits=3) for key in CONFIDENCES
    }
    rows = [Row(source.name, f"{POPULATIONS['confidence']}, figure 2", printed)]
    for population, label in POPULATIONS.items():
        for variant in dict.fromkeys(results.diagnostics["variant"]):
            own = [row for row in rows_of(results, variant) if population in row["data"]]
            cells = {}
            for column, (key, kind) in zip(columns, itertools.product(CONFIDENCES, CORRELATIONS), strict=True):
                values = [row["data"][population][key][kind] for row in own]
                if not values or None in values:
                    continue
                cells[column] = estimate_cell(
                    mean_interval(values),
                    digits=2,
                    sources=tuple(Source.of_diagnostics(row, f"{population}.{key}.{kind}") for row in own),
                    stale=any(row["stale"] for row in own),
                )
            if cells:
                rows.append(variant_row(variant, cells, group=f"{THIS_RUN}, {label}"))
    caption = (
        "Correlation of two confidences with the true IoU, over the positive boxes before NMS, and over those that "
        "regular NMS keeps."
    )
    return Table(CONFIDENCE.key, CONFIDENCE.title, caption, columns, tuple(rows), stub="variant")


def premise(results: Results) -> list[str]:
    """Whether the paper's premise holds in this run: a plain sentence where it does not."""
    if results.diagnostics.empty:
        return []
    lines, known = [], 0
    for population, label in POPULATIONS.items():
        failing = []
        for variant in dict.fromkeys(results.diagnostics["variant"]):
            blocks = [row["data"][population] for row in rows_of(results, variant) if population in row["data"]]
            means = [[block[key]["pearson"] for block in blocks] for key in ("class_score", "predicted_iou")]
            if blocks and not any(None in values for values in means):
                known += 1
                score, predicted = (sum(values) / len(values) for values in means)
                if score >= predicted:
                    failing.append(f"`{variant}` ({score:.2f} against {predicted:.2f})")
        if failing:
            lines.append(
                f"**The paper's premise fails {label}:** the class score goes with the true IoU as well as the "
                f"predicted IoU does, or better, for {', '.join(failing)} (Pearson)."
            )
    if not known:
        return ["Whether the paper's premise holds cannot be told: no IoU-Net has boxes near objects."]
    return lines or [
        "The paper's premise holds: the predicted IoU goes better with the true IoU than the class score does, for "
        "every variant (Pearson), before NMS and after."
    ]


CONFIDENCE = TableEntry(
    KEY,
    "Confidence and localization",
    lambda c: None if c.results.diagnostics.empty else confidence_table(c.results, c.published),
)

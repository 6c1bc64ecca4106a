"""The tables of all variants, whatever they are called: AP of each, and AP by class."""

from __future__ import annotations

from reports.comparison import class_metric, difference, metric_values
from reports.results.annotations import category_names
from reports.results.collect import Results
from reports.results.sides import BASELINE, FIRST_VERSION, Side, headline
from reports.results.source import Source
from reports.statistics import mean_interval
from reports.tables.cells import difference_cell, estimate_cell, interval_cell, mean_cell
from reports.tables.table import Cell, Row, Table, TableEntry
from suite.settings import PARTS

METRICS = ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90")
TO_BASELINE = "to the baseline"
OBJECTS = "objects"
MOST_ROWS = 100  # by class; beyond them, as on COCO, two variants are shown


def every_variant_table(results: Results) -> Table:
    """AP of every variant, at several thresholds, with the branch off and as the paper runs it."""
    rows = []
    for variant in results.suite.variants:
        for side in _sides(results, variant):
            cells = {metric: mean_cell(results, side, metric) for metric in METRICS}
            origin = tuple(Source.of_evaluation(row, "setting") for row in side.evaluations(results).values())
            cells["setting"] = Cell(_described(results, side), kind="text", sources=origin)
            if BASELINE.is_in(results) and side.own(results) != BASELINE.own(results):
                cells[TO_BASELINE] = difference_cell(results, side, BASELINE, "AP")
            rows.append(Row("", variant, cells, key=variant, is_name=True))
    columns = ("setting", *METRICS, TO_BASELINE)
    caption = (
        "Every variant with the branch off, and with IoU-guided NMS (rank) and refinement where the suite has that. "
        f"λ as published, {results.suite.scale.step_size:g} times that here. "
        f"*{TO_BASELINE}*: the difference in AP to {_baseline(results)}."
    )
    return Table(EVERY_VARIANT.key, EVERY_VARIANT.title, caption, columns, tuple(rows), stub="variant")


def _sides(results: Results, variant: str) -> list[Side]:
    off, own = Side(variant), headline(results, variant)
    parts = [Side(own.variant, own.guide, own.step_size, part) for part in PARTS]
    return list(dict.fromkeys([off, own, *(part for part in parts if own != off and part.is_in(results))]))


def _described(results: Results, side: Side) -> str:
    if side.guide is None:
        return "branch off" if results.suite.variant(side.variant).has_iou_branch else ""
    step = "" if side.step_size is None else f", λ = {side.step_size:g}"
    return side.guide + step + ("" if side.part is None else f", {side.part} only")


def _baseline(results: Results) -> str:
    return f"`{BASELINE.own(results)}`" if BASELINE.is_in(results) else "a baseline, which the suite does not have"


def by_class_table(results: Results) -> Table:
    """AP of each class, for every variant.

    Raises:
        NotInSuite: the annotations, which name the classes, are not among the results.
    """
    variants = list(results.suite.variants)
    names = category_names(results)
    shown = variants if len(variants) * len(names) <= MOST_ROWS else _two(results)
    first = headline(results, shown[0])
    matches = results.matches(first.variant, results.suite.seeds[0], first.setting(results))
    objects = dict(zip(matches.category_ids, matches.ground_truth.sum(axis=0).tolist(), strict=True))
    rows = []
    for side in (headline(results, variant) for variant in shown):
        for category, name in names.items():
            cells = {OBJECTS: Cell(float(objects.get(category, 0)), digits=0)}
            if objects.get(category):
                cells |= _class_cells(results, side, category, name)
            rows.append(Row(side.variant, name, cells, key=side.variant))
    caption = (
        f"AP of each class on `{results.suite.report_split}`, its *objects* there beside it; every variant as in its "
        f"last row of the table of all variants, parts aside. *{TO_BASELINE}*: the difference to {_baseline(results)}."
    )
    if rest := [variant for variant in variants if variant not in shown]:
        caption += f" That of {', '.join(f'`{name}`' for name in rest)} is in their evaluation files (`per_class`)."
    return Table(BY_CLASS.key, BY_CLASS.title, caption, (OBJECTS, "AP", TO_BASELINE), tuple(rows), stub="class")


def _two(results: Results) -> list[str]:
    """What stands for Faster R-CNN and the first IoU-Net, as far as they are there; else the first variant."""
    sides = [side.own(results) for side in (BASELINE, FIRST_VERSION) if side.is_in(results)]
    return sides or list(results.suite.variants)[:1]


def _class_cells(results: Results, side: Side, category: int, name: str) -> dict[str, Cell]:
    metric, sources = class_metric(category), _of_class(results, side, name)
    values = metric_values(results, side.variant, side.setting(results), metric)
    cells = {"AP": estimate_cell(mean_interval(list(values)), sources=sources, stale=side.is_stale(results))}
    if BASELINE.is_in(results) and side.variant != BASELINE.own(results):
        cells[TO_BASELINE] = interval_cell(
            difference(results, side, BASELINE, metric),
            sources=sources + _of_class(results, BASELINE, name),
            stale=side.is_stale(results) or BASELINE.is_stale(results),
        )
    return cells


def _of_class(results: Results, side: Side, name: str) -> tuple[Source, ...]:
    return tuple(Source.of_evaluation(row, f"per_class.{name}") for row in side.evaluations(results).values())


EVERY_VARIANT = TableEntry("variants", "Every variant", lambda c: every_variant_table(c.results))
BY_CLASS = TableEntry("by_class", "AP by class", lambda c: by_class_table(c.results))

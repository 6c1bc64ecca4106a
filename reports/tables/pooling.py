"""Tables of the page on RoI poolings: errors of values and gradients, times, AP with each inside an IoU-Net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reports.results.collect import Results
from reports.results.pooling import BORDER, EXACT, OWN, MeasuredPooling, setting_label
from reports.results.sides import THIS_RUN
from reports.results.source import Source
from reports.statistics import Estimate
from reports.tables.cells import difference_cell, estimate_cell, mean_cell
from reports.tables.table import Cell, Row, Table, format_number, plural

BOXES = "boxes"
PERCENT = 100.0
PLAIN = "prroi_plain"  # Precise RoI Pooling in plain torch, among the times
FORWARD, GRADIENT = "forward", "gradient"
TO_PLAIN = "ratio to plain torch"  # to Precise RoI Pooling there


def values_table(measured: MeasuredPooling) -> Table:
    """Error of the pooled values by size of the bins."""
    labels = {pooling: measured.label(pooling) for pooling in (*measured.poolings, EXACT)}
    exact = f"{labels[EXACT]}, float32"
    rows = []
    for row in _shown(measured):
        cells = {BOXES: _count(measured, "values", row)}
        for pooling in measured.poolings:
            cells[labels[pooling]] = _percent(measured, "values", "error", pooling, row=row)
        own = measured.mean("values", "error", EXACT, row=row)
        cells[exact] = Cell(
            f"{PERCENT * own.mean:.0e}", seeds=own.n, kind="text", sources=(measured.origin("values", "error", EXACT),)
        )
        rows.append(_row(measured, row, cells))
    data = measured.data["measured"]
    factors = " and ".join(f"{factor:g}" for factor in data["factors"])
    caption = (
        "Root mean square of the difference to the exact means (float64), in % of their own root mean square. Feature "
        f"maps and boxes (those that the IoU head scores) of {data['images']} images of "
        f"`{measured.data['split']}` and each seed's checkpoint, RoIAlign computed in float64; mean over "
        f"seeds. By the mean length of a box's bins in cells of its map; boxes are also taken {factors} times as long, "
        "about the same centres, as far as they then lie inside the map. *The detector's own*: boxes inside the map as "
        "they are."
    )
    columns = (BOXES, *(labels[pooling] for pooling in measured.poolings), exact)
    return Table("pooling_values", "Error of the pooled values, in %", caption, columns, tuple(rows), "bins")


def gradients_table(measured: MeasuredPooling) -> Table:
    """Error of the gradient in the coordinates by size of the bins."""
    labels = {pooling: measured.label(pooling) for pooling in measured.poolings}
    rows = []
    for row in _shown(measured):
        cells = {BOXES: _count(measured, "gradients", row)}
        for pooling, label in labels.items():
            cells[label] = _percent(measured, "gradients", "against_exact", pooling, "error", row=row)
        rows.append(_row(measured, row, cells))
    caption = (
        "The gradient of the predicted IoU to a box's four coordinates, through pooling and IoU head, at the boxes "
        "that refinement moves: root mean square of the difference to the exact gradient, in % of its own root mean "
        "square. RoIAlign is differentiated in plain torch, at the samples whose mean is its value; its kernels have "
        "no such gradient."
    )
    columns = (BOXES, *labels.values())
    title = "Error of the gradient in the coordinates, in %"
    return Table("pooling_gradients", title, caption, columns, tuple(rows), "bins")


def direction_table(measured: MeasuredPooling) -> Table:
    """How the gradient points, how long it is, and how it jumps, at the detector's own boxes."""
    data = measured.data["measured"]
    low = f"{PERCENT * data['low']:g} % lie below"
    columns = ("cosine", low, "length", "jumps, % of places", "size of a jump, %")
    rows = []
    for pooling in (EXACT, *measured.poolings):
        cells = {
            "jumps, % of places": _percent(measured, "jumps", "share", pooling),
            "size of a jump, %": _percent(measured, "jumps", "size", pooling, digits=0),
        }
        if pooling != EXACT:
            keys = {"cosine": "cosine", low: "low_cosine", "length": "norm"}
            for column, key in keys.items():
                place = ("gradients", "against_exact", pooling, key)
                cells[column] = _cell(measured, measured.mean(*place, row=OWN), measured.origin(*place), digits=3)
        rows.append(Row("", measured.label(pooling), cells, key=pooling))
    caption = (
        "At the detector's own boxes inside the map. *cosine*: between the gradient and the exact one, the median over "
        f"boxes, and the value that {low}; *length*: median of its length over that of the exact one. *jumps*: places "
        f"where moving a box by {data['shift']:g} pixels along x and y changes the gradient by more than "
        f"{PERCENT * data['jump']:g} % of it, what the head makes of the features held fixed; *size*: the median of "
        "these changes. A gradient without kinks changes by less."
    )
    title = "Direction, length and jumps of the gradient"
    return Table("pooling_direction", title, caption, columns, tuple(rows), "pooling")


def existing_table(measured: MeasuredPooling) -> Table:
    """Which operators pass a gradient on to the RoIs."""
    rows = []
    for name, exists in measured.data["existing"].items():
        source = Source.of_pooling(measured.source, "existing")
        cells = {
            "to the features": _text("yes", source),
            "to the coordinates": _text("yes" if exists else "none", source),
        }
        rows.append(Row("", f"`{name}`" if "." in name else f"RoIAlign, {name}", cells, key=name))
    caption = "Seen by running each of them forwards and backwards on one box."
    columns = ("to the features", "to the coordinates")
    return Table("pooling_existing", "Which gradients there are", caption, columns, tuple(rows), "operator")


def times_table(measured: MeasuredPooling) -> Table:
    """Times of the forward pass, and with the gradient in the coordinates."""
    times = measured.data["times"]
    names = {FORWARD: "forward", GRADIENT: "forward + gradient"}
    rows = []
    for pooling in (EXACT, PLAIN, *measured.poolings):
        cells: dict[str, Cell] = {}
        for what, name in names.items():
            timed = times["timed"][what].get(pooling)
            if timed is not None:
                cells |= _timed(measured, f"times.timed.{what}.{pooling}", timed, name)
        label = "PrRoIPool, plain torch" if pooling == PLAIN else measured.label(pooling)
        rows.append(Row("", label, cells, key=pooling))
    parts = ("ms", "ratio", "quartiles")
    columns = (*(f"{name}, {part}" for name in names.values() for part in parts), TO_PLAIN)
    threads = measured.data["threads"]
    where = measured.data["hardware"]["gpu"] if times["device"] == "cuda" else measured.data["hardware"]["cpu"]
    caption = (
        f"{times['rois']} RoIs in one call, float32, {times['rounds']} rounds in which each had its turn; on {where}, "
        f"{threads} thread{'s' * (threads != 1)}, torch {measured.data['versions']['torch']}. *ratio*: to PrRoIPool in "
        "the same round, the median. Forward passes are compiled: this project's kernel, and torchvision's. With the "
        "gradient in the coordinates PrRoIPool is compiled, too; RoIAlign has none there and is in plain torch, beside "
        "PrRoIPool by the same code with the exact weights. Each has the layout of feature maps that it reads."
    )
    return Table("pooling_times", "Time", caption, columns, tuple(rows), "pooling")


def _timed(measured: MeasuredPooling, key: str, timed: Mapping[str, Any], name: str) -> dict[str, Cell]:
    low, high = (format_number(timed["ratio"][quartile], 2) for quartile in ("q1", "q3"))

    def number(part: str) -> Cell:
        source = Source.of_pooling(measured.source, f"{key}.{part}.median")
        return Cell(timed[part]["median"], digits=2, seeds=1, sources=(source,), stale=bool(measured.stale))

    return {
        f"{name}, ms": number("ms"),
        f"{name}, ratio": number("ratio"),
        f"{name}, quartiles": _text(f"{low} to {high}", Source.of_pooling(measured.source, f"{key}.ratio")),
        **({TO_PLAIN: number("ratio_to_plain")} if "ratio_to_plain" in timed else {}),
    }


def accuracy_table(results: Results, measured: MeasuredPooling, metric: str = "AP") -> Table:
    """A metric of the same checkpoints with each pooling, and its difference to Precise RoI Pooling."""
    columns = {side: setting_label(side) for side in measured.sides}
    exact = {label: mean_cell(results, side, metric) for side, label in columns.items()}
    rows = [Row(THIS_RUN, measured.label(EXACT), exact, key=EXACT)]
    for pooling in measured.poolings:
        cells = {label: mean_cell(results, replace(side, pooling=pooling), metric) for side, label in columns.items()}
        rows.append(Row(THIS_RUN, measured.label(pooling), cells, key=pooling))
    group = "Difference to PrRoIPool"
    for pooling in measured.poolings:
        cells = {
            label: difference_cell(results, replace(side, pooling=pooling), side, metric)
            for side, label in columns.items()
        }
        rows.append(Row(group, measured.label(pooling), cells, key=f"{pooling} difference"))
    caption = (
        f"{metric} of the same {plural(len(results.suite.seeds), 'checkpoint')}, trained with PrRoIPool; box head and "
        "IoU head get the other pooling at inference alone. Differences are within a checkpoint. Refinement with "
        "RoIAlign goes by its gradient in plain torch."
    )
    key = f"pooling_{metric.lower()}"
    return Table(key, f"{metric} with each pooling", caption, tuple(columns.values()), tuple(rows), "pooling")


def _shown(measured: MeasuredPooling) -> list[str]:
    """The rows that have boxes, the detector's own first."""
    return [row for row in (OWN, *measured.classes, BORDER) if measured.has(row)]


def _row(measured: MeasuredPooling, row: str, cells: Mapping[str, Cell]) -> Row:
    return Row("", measured.row_label(row), cells, key=row, emphasis=row == OWN)


def _count(measured: MeasuredPooling, part: str, row: str) -> Cell:
    total = int(sum(measured.per_seed(part, "rois", row=row)))
    return Cell(float(total), digits=0, seeds=len(measured.data["seeds"]), sources=(measured.origin(part, "rois"),))


def _percent(measured: MeasuredPooling, *place: str, row: str | None = None, digits: int = 2) -> Cell:
    own = measured.mean(*place, row=row)
    half = None if own.half_width is None else PERCENT * own.half_width
    return _cell(
        measured, replace(own, mean=PERCENT * own.mean, half_width=half), measured.origin(*place), digits=digits
    )


def _cell(measured: MeasuredPooling, own: Estimate, source: Source, digits: int) -> Cell:
    return estimate_cell(own, digits=digits, sources=(source,), stale=bool(measured.stale))


def _text(text: str, source: Source) -> Cell:
    return Cell(text, kind="text", sources=(source,))

"""Metrics of treated boxes as lines: by the threshold of NMS, and by the number of iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.figures.axes import legend_below, seeds_and_mean
from reports.figures.figure import Illustration, seeds_note
from reports.figures.style import BLUE, INK, MARKERS, ORANGE, SKY, panels
from reports.results.collect import Results
from reports.results.treated import Treated, TreatedSide
from reports.tables.table import format_number
from reports.tables.treated import KINDS
from suite.treatments import SOFT_GAUSSIAN, THRESHOLDS, by_threshold

NMS_METRICS = ("AP", "AP50", "AP90")
COLOURS = (INK, ORANGE, BLUE, SKY)


def nms_frame(results: Results, treated: Treated) -> pd.DataFrame:
    """`panel, line, x, seed, value`: each metric by the threshold of each kind of NMS; the same at all without one."""
    records = []
    for metric in NMS_METRICS:
        for treatment in by_threshold():
            side = TreatedSide(treated.baseline, treatment)
            thresholds = THRESHOLDS if treatment.nms == SOFT_GAUSSIAN else (treatment.iou_threshold,)
            for threshold in thresholds:
                place = {"panel": metric, "line": KINDS[treatment.nms], "x": threshold}
                records += [{**place, "seed": s, "value": v} for s, v in side.per_seed(results, metric).items()]
    return pd.DataFrame(records)


def iterations_frame(results: Results, treated: Treated, metric: str) -> pd.DataFrame:
    """`panel, line, x, seed, value`: a metric by the number of iterations, a panel per detector."""
    records = []
    for detector, label in treated.labels.items():
        for line, treatments in treated.movers(detector).items():
            for count, treatment in enumerate(treatments):
                values = TreatedSide(detector, treatment).per_seed(results, metric)
                place = {"panel": label, "line": line, "x": count}
                records += [{**place, "seed": seed, "value": value} for seed, value in values.items()]
    return pd.DataFrame(records)


def draw(data: pd.DataFrame, *, xlabel: str, ylabel: str) -> Figure:
    """A panel per value of `panel`, a line per value of `line`: the seeds thin, their mean thick."""
    names, lines = list(dict.fromkeys(data["panel"])), list(dict.fromkeys(data["line"]))
    figure, axes = panels(len(names), width=min(9.0, 4.2 + 2.4 * (len(names) - 1)), height=3.6)
    styles: dict[str, dict[str, Any]] = {
        line: {"colour": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "markersize": 4.5}
        for i, line in enumerate(lines)
    }
    for panel, name in zip(axes, names, strict=True):
        for line, style in styles.items():
            own = data[(data["panel"] == name) & (data["line"] == line)]
            if not own.empty:
                seeds_and_mean(panel, own, x="x", y="value", thin=0.6, faint=0.35, **style)
        panel.set_xticks(sorted(set(data["x"])))
        panel.set(title=name, xlabel=xlabel, ylabel=ylabel)
    handles = [
        Line2D([], [], color=style["colour"], linewidth=1.8, marker=style["marker"], markersize=4.5, label=line)
        for line, style in styles.items()
    ]
    legend_below(figure, handles, min(len(handles), 2 * len(names)))
    return figure


def make_nms(results: Results, treated: Treated) -> Illustration:
    """AP by kind and threshold of NMS."""
    data = nms_frame(results, treated)
    alt = f"Line charts of {', '.join(NMS_METRICS)} by the threshold of NMS. Highest mean: {_best(data)}."
    caption = (
        f"Boxes of {treated.labels[treated.baseline]}; Soft-NMS with Gaussian weights has no threshold and is a level "
        f"line. {seeds_note(results.suite.seeds)}"
    )
    title = "NMS by kind and IoU threshold"
    chart = partial(draw, data, xlabel="IoU threshold of NMS", ylabel="points")
    return Illustration("treatment_nms", title, caption, alt, chart, data)


def make_iterations(results: Results, treated: Treated, metric: str) -> Illustration | None:
    """A metric by the number of iterations; None where no detector's boxes were moved more than once."""
    data = iterations_frame(results, treated, metric)
    if data.empty:
        return None
    last = data[data["x"] == data["x"].max()]
    ends: Mapping[str, Sequence[str]] = {
        panel: [f"{line} {format_number(v, 1)}" for line, v in own.groupby("line", sort=False)["value"].mean().items()]
        for panel, own in last.groupby("panel", sort=False)
    }
    alt = f"Line charts of {metric} by the number of iterations, a panel per detector. Mean after the last: "
    alt += "; ".join(f"{panel}: {', '.join(own)}" for panel, own in ends.items()) + "."
    caption = f"{metric} of the boxes that the detector's own NMS leaves, moved again and again; scores are kept. "
    caption += "".join(f"{note} " for note in without(treated)) + seeds_note(results.suite.seeds)
    chart = partial(draw, data, xlabel="iterations", ylabel=metric)
    key, title = f"treatment_iterations_{metric.lower()}", f"{metric} by the number of iterations"
    return Illustration(key, title, caption, alt, chart, data)


def without(treated: Treated) -> list[str]:
    """Which detectors lack lines, or all of them."""
    labels = treated.labels
    no_head = [labels[name] for name in treated.iterated if name not in treated.regressed]
    nothing = [labels[name] for name in labels if name not in treated.iterated and name not in treated.regressed]
    notes = [f"{' and '.join(no_head)}: no box head that could be asked again, so refinement alone."] if no_head else []
    return notes + ([f"{' and '.join(nothing)}: not moved again and again."] if nothing else [])


def _best(data: pd.DataFrame) -> str:
    """The best line of each panel, with its place."""
    means = data.groupby(["panel", "line", "x"], sort=False)["value"].mean().reset_index()
    best = means.loc[means.groupby("panel", sort=False)["value"].idxmax()]
    return "; ".join(f"{r['panel']} {format_number(r['value'])} ({_place(r)})" for _, r in best.iterrows())


def _place(row: pd.Series) -> str:
    """A line, and where on it; the Gaussian's is level."""
    return str(row["line"]) if row["line"] == KINDS[SOFT_GAUSSIAN] else f"{row['line']}, {row['x']:g}"

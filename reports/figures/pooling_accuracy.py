"""AP of the same checkpoints with RoIAlign in place of the pooling that they were trained with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drawing.colours import BLUE, ORANGE, PURPLE, VERMILION
from reports.comparison import difference
from reports.figures.axes import half_widths, legend_below, signed_tick
from reports.figures.figure import Illustration, whiskers_note
from reports.figures.style import INK, MARKERS, panels
from reports.results.collect import Results
from reports.results.pooling import MeasuredPooling, setting_label

METRICS = ("AP", "AP90")
COLOURS = (INK, ORANGE, BLUE, VERMILION, PURPLE)


def frame(results: Results, measured: MeasuredPooling) -> pd.DataFrame:
    """`metric, setting, pooling, label, difference, half_width`: in points, to Precise RoI Pooling."""
    records = []
    for metric in METRICS:
        for side in measured.sides:
            for pooling in measured.poolings:
                found = difference(results, replace(side, pooling=pooling), side, metric)
                place = {"metric": metric, "setting": setting_label(side), "pooling": pooling}
                half = found.half_width if found.decides else None
                label = measured.label(pooling)
                records.append({**place, "label": label, "difference": found.mean, "half_width": half})
    return pd.DataFrame(records)


def draw(data: pd.DataFrame) -> Figure:
    """A panel per metric; a row per pooling, a dot per setting."""
    figure, axes = panels(len(METRICS), height=3.9)
    labels, settings = list(dict.fromkeys(data["label"])), list(dict.fromkeys(data["setting"]))
    for panel, metric in zip(axes, METRICS, strict=True):
        panel.axvline(0, color=INK, linewidth=1.0)
        for index, setting in enumerate(settings):
            own = data[(data["metric"] == metric) & (data["setting"] == setting)]
            y = own["label"].map(labels.index).to_numpy() + 0.17 * (index - (len(settings) - 1) / 2)
            panel.errorbar(own["difference"], y, xerr=half_widths(own["half_width"]), linestyle="", markersize=4.5,
                           color=COLOURS[index % len(COLOURS)], marker=MARKERS[index % len(MARKERS)], elinewidth=1.0,
                           )  # fmt: skip
        panel.set_yticks(np.arange(len(labels)), labels)
        panel.invert_yaxis()
        panel.xaxis.set_major_formatter(signed_tick)
        panel.set(title=metric, xlabel="points more than with PrRoIPool")
        panel.grid(axis="y", visible=False)
    handles = [
        Line2D([], [], linestyle="", marker=MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)], label=setting)
        for i, setting in enumerate(settings)
    ]
    legend_below(figure, handles, len(handles))
    return figure


def make(results: Results, measured: MeasuredPooling) -> Illustration:
    """The figure."""
    data = frame(results, measured)
    own = data[data["metric"] == METRICS[0]]
    parts = [
        f"{label} {rows['difference'].min():+.2f} to {rows['difference'].max():+.2f}"
        for label, rows in own.groupby("label", sort=False)
    ]
    alt = f"Dot charts of the difference in {' and '.join(METRICS)} to PrRoIPool. {METRICS[0]} over the settings: "
    alt += "; ".join(parts).replace("-", "\u2212") + "."
    caption = (
        "The same checkpoints, trained with PrRoIPool, with RoIAlign in their box head and IoU head at inference. "
        f"{whiskers_note(results.suite.seeds)}"
    )
    title = "AP with RoIAlign in place of PrRoIPool"
    return Illustration("pooling_accuracy", title, caption, alt, lambda: draw(data), data)

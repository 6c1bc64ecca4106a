"""Differences as dots with whiskers: a panel per metric, a row per label, a dot per setting."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drawing.colours import BLUE, ORANGE, PURPLE, VERMILION
from reports.figures.axes import half_widths, legend_below, signed_tick
from reports.figures.style import INK, MARKERS, panels

COLOURS = (INK, ORANGE, BLUE, VERMILION, PURPLE)
MOST_IN_A_ROW = 4  # entries of the legend


def draw_dots(data: pd.DataFrame, xlabel: str) -> Figure:
    """The chart of a frame with `metric, label, setting, difference, half_width`."""
    metrics, labels, settings = (list(dict.fromkeys(data[column])) for column in ("metric", "label", "setting"))
    figure, axes = panels(len(metrics), height=3.9)
    for number, (panel, metric) in enumerate(zip(axes, metrics, strict=True)):
        panel.axvline(0, color=INK, linewidth=1.0)
        for index, setting in enumerate(settings):
            own = data[(data["metric"] == metric) & (data["setting"] == setting)]
            y = own["label"].map(labels.index).to_numpy() + 0.17 * (index - (len(settings) - 1) / 2)
            panel.errorbar(own["difference"], y, xerr=half_widths(own["half_width"]), linestyle="", markersize=4.5,
                           color=COLOURS[index % len(COLOURS)], marker=MARKERS[index % len(MARKERS)], elinewidth=1.0,
                           )  # fmt: skip
        panel.set_yticks(np.arange(len(labels)), labels)
        if number and len(metrics) > 2:  # no room for the labels of each
            panel.tick_params(axis="y", labelleft=False)
        panel.invert_yaxis()
        panel.xaxis.set_major_formatter(signed_tick)
        panel.set(title=metric, xlabel=xlabel)
        panel.grid(axis="y", visible=False)
    handles = [
        Line2D([], [], linestyle="", marker=MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)], label=setting)
        for i, setting in enumerate(settings)
    ]
    legend_below(figure, handles, math.ceil(len(handles) / math.ceil(len(handles) / MOST_IN_A_ROW)))
    return figure

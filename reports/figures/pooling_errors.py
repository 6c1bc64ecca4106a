"""Errors of RoIAlign against the exact integral by number of samples and size of the bins: values, and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from reports.figures.axes import legend_below, log_axis, seeds_and_mean
from reports.figures.figure import Illustration, seeds_note
from reports.figures.style import GREY, MARKERS, SEQUENCE, panels
from reports.results.pooling import BORDER, MeasuredPooling

PARTS = {"values": ("error",), "gradients": ("against_exact",)}
TITLES = {"values": "Pooled values", "gradients": "Gradient in the coordinates"}


def frame(measured: MeasuredPooling) -> pd.DataFrame:
    """`part, row, pooling, samples, seed, error`: the error in %; `samples` is 0 where they follow the bins' size."""
    records = []
    for part in PARTS:
        for row in (*measured.classes, *([BORDER] if measured.has(BORDER) else [])):
            for pooling in measured.poolings:
                keys = ("error", pooling) if part == "values" else ("against_exact", pooling, "error")
                for seed, error in zip(measured.data["seeds"], measured.per_seed(part, *keys, row=row), strict=True):
                    place = {"part": part, "row": row, "pooling": pooling, "samples": measured.data["samples"][pooling]}
                    records.append({**place, "seed": seed, "error": 100 * error})
    return pd.DataFrame(records)


def draw(data: pd.DataFrame, measured: MeasuredPooling) -> Figure:
    """A panel for the values and one for the gradients; a line per size of the bins, hollow where samples adapt."""
    figure, axes = panels(len(PARTS), height=3.9)
    rows = list(dict.fromkeys(data["row"]))
    palette = {row: GREY if row == BORDER else SEQUENCE[i % len(SEQUENCE)] for i, row in enumerate(rows)}
    samples = sorted(set(data["samples"]) - {0})
    adaptive = 2.0 * samples[-1]
    shown = data.loc[data["error"] > 0, "error"]  # none is off where no kink is inside a bin
    limits = shown.min(), shown.max()
    for panel, part in zip(axes, PARTS, strict=True):
        for index, row in enumerate(rows):
            own = data[(data["part"] == part) & (data["row"] == row)]
            style: dict[str, Any] = {"marker": MARKERS[index % len(MARKERS)], "markersize": 4.5}
            line = {**style, "linestyle": "--" if row == BORDER else "-"}
            seeds_and_mean(panel, own[own["samples"] > 0], x="samples", y="error", colour=palette[row], **line)
            mean = own.loc[own["samples"] == 0, "error"].mean()
            panel.plot([adaptive], [mean], color=palette[row], markerfacecolor="white", **style)
        log_axis(panel, "y", limits)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_locator(FixedLocator([*samples, adaptive]))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticklabels([*(f"{number} × {number}" for number in samples), "adaptive"])
        panel.set(title=TITLES[part], xlabel="samples per bin", ylabel="RMS error, % of the exact RMS")
    handles = [
        Line2D([], [], color=palette[row], linestyle="--" if row == BORDER else "-", linewidth=1.8, markersize=4.5,
               marker=MARKERS[index % len(MARKERS)], label=_label(measured, row))
        for index, row in enumerate(rows)
    ]  # fmt: skip
    legend_below(figure, handles, min(3, len(handles)))
    return figure


def _label(measured: MeasuredPooling, row: str) -> str:
    label = measured.row_label(row)
    return label if row == BORDER else f"bins of {label}"


def make(measured: MeasuredPooling) -> Illustration:
    """The figure."""
    data = frame(measured)
    parts = []
    for part, title in TITLES.items():
        own = data[(data["part"] == part) & (data["row"] != BORDER) & (data["samples"] > 0)]
        means = own.groupby("samples")["error"].agg(lambda errors: np.mean(errors))
        parts.append(f"{title}: " + ", ".join(f"{n} × {n} {value:.2g} %" for n, value in means.items()))
    alt = (
        "Line charts of the error of RoIAlign by samples per bin, a line per size of the bins. Mean over the sizes. "
        + "; ".join(parts)
        + "."
    )
    caption = (
        "RoIAlign against the exact integral, logarithmic axes; hollow: as many samples as a bin is cells long, "
        "rounded up. At the map's border the two differ by definition: PrRoIPool falls to 0 within a cell, RoIAlign "
        f"repeats the last cell. {seeds_note(measured.data['seeds'])}"
    )
    title = "Error of RoIAlign by samples per bin"
    return Illustration("pooling_errors", title, caption, alt, lambda: draw(data, measured), data)

"""The gradient in one coordinate along the path of a box: steps with RoIAlign, none with the exact integral."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drawing.colours import GREEN, ORANGE, SKY, VERMILION
from reports.errors import NothingToShow
from reports.figures.axes import legend_below
from reports.figures.figure import Illustration
from reports.figures.style import INK, panels
from reports.results.pooling import EXACT, MeasuredPooling

COLOURS = (VERMILION, ORANGE, SKY, GREEN)


def frame(measured: MeasuredPooling) -> pd.DataFrame:
    """`pooling, label, shift, value, derivative`: of the box that was moved, by pixels along x.

    Raises:
        NothingToShow: no box had room to move.
    """
    path = measured.data.get("scan")
    if path is None:
        raise NothingToShow("no box of the images that were looked at had room to move")
    parts = [
        pd.DataFrame(
            {
                "pooling": pooling,
                "label": measured.label(pooling),
                "shift": path["shift"],
                "value": path["value"][pooling],
                "derivative": path["derivative"][pooling],
            }
        )
        for pooling in (*measured.numbered, EXACT)
    ]
    return pd.concat(parts, ignore_index=True)


def steps(derivative: np.ndarray) -> float:
    """The share of a derivative's ups and downs that is made in single steps between neighbours of a fine path.

    A step counts where it is ten times the median of those that are not 0, or where most are 0.
    """
    moves = np.abs(np.diff(derivative))
    if not moves.any():
        return 0.0
    usual = float(np.median(moves))
    return float(moves[moves > max(10 * usual, 1e-12)].sum() / moves.sum())


def draw(data: pd.DataFrame) -> Figure:
    """A panel for the value and one for its derivative."""
    figure, axes = panels(2, height=3.9)
    labels = list(dict.fromkeys(data["label"]))
    exact = labels[-1]
    palette = {**dict(zip(labels[:-1], COLOURS, strict=False)), exact: INK}
    for panel, column in zip(axes, ("value", "derivative"), strict=True):
        for label in labels:
            own = data[data["label"] == label]
            width = 1.6 if label == exact else 1.1
            panel.plot(own["shift"], own[column], color=palette[label], linewidth=width)
        panel.set(xlabel="the box moved along x, pixels")
    axes[0].set(title="Predicted IoU, linearized", ylabel="features × their gradient")
    axes[1].set(title="Its derivative", ylabel="per pixel")
    handles = [Line2D([], [], color=palette[label], linewidth=1.8, label=label) for label in labels]
    legend_below(figure, handles, len(handles))
    return figure


def make(measured: MeasuredPooling) -> Illustration:
    """The figure."""
    data = frame(measured)
    path = measured.data["scan"]
    labels = dict.fromkeys(data["label"])
    shares = {label: steps(data.loc[data["label"] == label, "derivative"].to_numpy()) for label in labels}
    alt = "Line charts along the path of one box. Of the derivative's ups and downs, so much is in sudden steps: "
    alt += ", ".join(f"{label} {100 * share:.0f} %" for label, share in shares.items()) + "."
    box = ", ".join(f"{value:.0f}" for value in path["roi"])
    caption = (
        f"One box ({box}) of the first seed's detector on a map of stride {path['stride']:g}, moved along x; what the "
        "IoU head makes of the features is held as it is at the start. Left the pooled features times that, right its "
        "derivative: what refinement follows."
    )
    title = "The gradient along the path of a box"
    return Illustration("pooling_path", title, caption, alt, lambda: draw(data), data.drop(columns="pooling"))

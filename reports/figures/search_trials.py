"""What the figures of the hyper-parameter search share: its trials, and dots by where a trial came from."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from reports.figures.style import BLUE, ORANGE
from reports.results.search import SearchResults

COLOURS, MARKERS = {"published": ORANGE, "sampler": BLUE}, {"published": "s", "sampler": "o"}
LABELS = {"published": "published point", "sampler": "sampler"}


def trial_frame(search: SearchResults) -> pd.DataFrame:
    """Complete trials by number: `number, kind, source, AP` in points; `kind` is 'published' or 'sampler'."""
    own = search.complete.sort_values("number").reset_index(drop=True)
    kind = np.where(own["source"] == "sampler", "sampler", "published")
    return pd.DataFrame({"number": own["number"], "kind": kind, "source": own["source"], "AP": own["value"]})


def plot_dots(axes: Axes, data: pd.DataFrame, *, x: str) -> None:
    """AP by the column `x`, a dot per trial."""
    for kind, colour in COLOURS.items():
        own = data[data["kind"] == kind]
        axes.plot(own[x], own["AP"], linestyle="", marker=MARKERS[kind], color=colour, markersize=6)


def dot_handles(data: pd.DataFrame) -> list[Line2D]:
    """Entries of a legend for the kinds of trials there are."""
    return [
        Line2D([], [], linestyle="", marker=MARKERS[kind], color=colour, markersize=6, label=LABELS[kind])
        for kind, colour in COLOURS.items()
        if (data["kind"] == kind).any()
    ]


def title_of(label: str) -> str:
    """A label as a panel's title."""
    return label[0].upper() + label[1:]

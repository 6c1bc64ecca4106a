"""AP of the search's trials by each training parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from reports.figures.axes import legend_below, log_axis, ring
from reports.figures.figure import Illustration
from reports.figures.search_trials import dot_handles, plot_dots, title_of, trial_frame
from reports.figures.style import INK, panels
from reports.results.search import SearchResults
from suite.search import PARAMETERS


def frame(search: SearchResults) -> pd.DataFrame:
    """AP by training parameter, in published units: `number, kind, parameter, value, AP`."""
    trials = trial_frame(search)[["number", "kind", "AP"]]
    merged = trials.merge(search.trials.drop(columns="value"), on="number")
    present = [key for key in PARAMETERS if key in merged and merged[key].notna().any()]
    long = merged.melt(["number", "kind", "AP"], present, "parameter", "value").dropna(subset="value")
    return long.astype({"value": float}).reset_index(drop=True)


def draw(data: pd.DataFrame, *, best: int, space: Mapping[str, Sequence[float]]) -> Figure:
    """One panel per parameter.

    Args:
        data: the frame.
        best: number of the best trial.
        space: limits of each parameter.
    """
    names = [name for name in PARAMETERS if (data["parameter"] == name).any()]
    figure, axes = panels(len(names), width=3.4 * max(2, len(names)), height=3.3)
    low, high = data["AP"].min(), data["AP"].max()
    margin = 0.1 * (high - low) or 1.0
    for panel, name in zip(axes, names, strict=True):
        own = data[data["parameter"] == name]
        plot_dots(panel, own, x="value")
        ringed = own[own["number"] == best]
        ring(panel, ringed["value"], ringed["AP"], colour=INK)
        label = PARAMETERS[name].label
        panel.set(title=title_of(label), xlabel=label, ylabel="AP", ylim=(low - margin, high + margin))
        log_axis(panel, "x", space[name])
    legend_below(figure, dot_handles(data), 2)
    return figure


def make(search: SearchResults) -> Illustration:
    """The figure."""
    data, best, space = frame(search), search.best["trial"], search.summary["space"]
    rows = data[data["number"] == best].to_dict("records")
    at = ", ".join(f"{PARAMETERS[row['parameter']].label} {row['value']:.3g}" for row in rows)
    caption = (
        "One panel per training parameter, in published units, logarithmic axes; a trial has one of the two ways to "
        "sample RoIs. The ring is the best trial. The other parameters vary too: a slope need not be this one's doing."
    )
    alt = f"Dot charts of AP by training parameter; the best trial has {at}."
    title = "AP by training parameter"
    return Illustration("sweep_slices", title, caption, alt, lambda: draw(data, best=best, space=space), data)

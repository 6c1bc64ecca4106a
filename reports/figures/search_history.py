"""AP of each trial of the search, and the best so far."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.figures.axes import legend_below
from reports.figures.figure import Illustration
from reports.figures.search_trials import dot_handles, plot_dots, trial_frame
from reports.figures.style import GREY, panels
from reports.results.search import SearchResults


def frame(search: SearchResults) -> pd.DataFrame:
    """Complete trials by number: `number, kind, source, AP, best` (the best so far)."""
    trials = trial_frame(search)
    return trials.assign(best=trials["AP"].cummax())


def draw(data: pd.DataFrame) -> Figure:
    """Dots by kind, and the best so far as a step line."""
    figure, (panel,) = panels(1, width=7.6, height=3.2)
    panel.step(data["number"], data["best"], where="post", color=GREY, linewidth=1.2)
    plot_dots(panel, data, x="number")
    panel.set(title="AP by trial", xlabel="trial", ylabel="AP")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    line = Line2D([], [], color=GREY, linewidth=1.2, label="best so far")
    legend_below(figure, [*dot_handles(data), line], 3)
    return figure


def make(search: SearchResults) -> Illustration:
    """The figure."""
    data = frame(search)
    first = data[data["AP"] == data["AP"].max()].iloc[0]
    states = search.summary["states"]
    left_out = [
        f"{states[state]} {text}" for state, text in (("pruned", "pruned"), ("fail", "failed")) if state in states
    ]
    note = f" Not shown: {' and '.join(left_out)}." if left_out else ""
    caption = f"Best AP over the inference settings on `{search.summary['split']}`; the line is the best so far.{note}"
    alt = (
        f"Dot chart of AP by trial, {len(data)} complete trials from {data['AP'].min():.1f} to "
        f"{data['AP'].max():.1f}; the best is trial {first['number']}."
    )
    return Illustration("sweep_history", "Trials of the search", caption, alt, lambda: draw(data), data)

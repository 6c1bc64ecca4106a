"""AP of every trial of the search by step size λ, for every guide."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.figures.axes import legend_below, ring
from reports.figures.figure import Illustration
from reports.figures.style import BLUE, GREY, ORANGE, panels
from reports.results.search import SearchResults, setting_text

BEST: dict[str, Any] = {"color": BLUE, "linewidth": 2.0, "zorder": 3}
DEFAULT: dict[str, Any] = {"color": ORANGE, "linewidth": 1.8, "zorder": 2.8}
OTHERS: dict[str, Any] = {"color": GREY, "linewidth": 0.9, "alpha": 0.7, "zorder": 2}


def frame(search: SearchResults) -> pd.DataFrame:
    """`number, guide, step_size, actual_step_size, AP` in points: every complete trial in every setting."""
    return search.profiles


def draw(data: pd.DataFrame, *, best: int, default: int | None) -> Figure:
    """A line per trial, a panel per guide.

    Args:
        data: the frame.
        best: number of the best trial.
        default: number of the trial that trains the default; None if there is none.
    """
    guides = list(dict.fromkeys(data["guide"]))
    steps = data[["step_size", "actual_step_size"]].drop_duplicates().sort_values("step_size")
    places = {step: place for place, step in enumerate(steps["step_size"])}
    chosen = set(data.groupby("number")["AP"].idxmax())
    styles = {default: DEFAULT, best: BEST}  # the best, if it is the default
    figure, axes = panels(len(guides), width=3.4 * max(2, len(guides)), height=3.7)
    for panel, guide in zip(axes, guides, strict=True):
        panel.sharey(axes[0])
        for number, own in data[data["guide"] == guide].groupby("number"):
            style = styles.get(number, OTHERS)
            own = own.sort_values("step_size")
            x, is_chosen = own["step_size"].map(places), own.index.isin(chosen)
            panel.plot(x, own["AP"], marker="o", markersize=3.5, **style)
            ring(panel, x[is_chosen], own["AP"][is_chosen], colour=style["color"], size=10, width=1.2)
        panel.set_xticks(
            range(len(places)),
            [f"{row['step_size']:g}\n({row['actual_step_size']:g})" for row in steps.to_dict("records")],
        )
        panel.set(title=f"Guide: {guide}", xlabel="λ", ylabel="AP")
    has_default = default is not None and default != best
    names = {"best trial": BEST, **({"default": DEFAULT} if has_default else {}), "others": OTHERS}
    legend_below(figure, [Line2D([], [], label=name, **style) for name, style in names.items()], 3)
    return figure


def make(search: SearchResults) -> Illustration:
    """The figure."""
    data, best, default = frame(search), search.best["trial"], search.best["default"]["trial"]
    winners = data.loc[data.groupby("number")["AP"].idxmax()]
    counts = winners.groupby(["guide", "step_size"]).size().sort_values(ascending=False)
    guide, step_size = counts.index[0]
    said = f"{setting_text(guide, step_size)} is the best setting of {counts.iloc[0]} of {len(winners)} trials"
    caption = (
        f"Every line is one checkpoint, evaluated with every λ and guide on `{search.summary['split']}`; λ in "
        f"published units, in brackets as used; 0 is no refinement. A ring marks a trial's best setting; {said}."
    )
    alt = f"Line charts of AP by step size λ, one line per trial, one panel per guide: {said.replace('`', '')}."
    title = "AP by step size λ, of every trial"
    return Illustration("sweep_profiles", title, caption, alt, lambda: draw(data, best=best, default=default), data)

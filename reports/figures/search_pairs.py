"""AP of the search's trials by loss weight and amount of RoIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from reports.figures import search_slices
from reports.figures.axes import SHADES, colour_bar, log_axis, ring
from reports.figures.figure import Illustration
from reports.figures.search_trials import MARKERS, title_of
from reports.figures.style import GREY, INK, panels
from reports.results.search import SearchResults
from suite.errors import NotInSuite
from suite.search import PARAMETERS, SAMPLINGS


def frame(search: SearchResults) -> pd.DataFrame:
    """AP by loss weight and amount of RoIs: `number, kind, loss_weight, sampling, rois, AP`.

    Raises:
        NotInSuite: the search has no such pair of parameters.
    """
    slices = search_slices.frame(search)
    wide = slices.pivot(index=["number", "kind", "AP"], columns="parameter", values="value").reset_index()
    amounts = [key for key in SAMPLINGS if key in wide]
    if "loss_weight" not in wide or not amounts:
        raise NotInSuite("the search varies one parameter only")
    long = wide.melt(["number", "kind", "loss_weight", "AP"], amounts, "sampling", "rois")
    return long.dropna(subset=["rois", "loss_weight"]).reset_index(drop=True)


def draw(data: pd.DataFrame, *, best: int, space: Mapping[str, Sequence[float]]) -> Figure:
    """Loss weight against the amount of RoIs, one panel per way to sample them.

    Args:
        data: the frame.
        best: number of the best trial.
        space: limits of each parameter.
    """
    names = list(dict.fromkeys(data["sampling"]))
    figure, axes = panels(len(names), width=4.4 * max(2, len(names)), height=3.6)
    low, high = data["AP"].min(), data["AP"].max()
    for panel, name in zip(axes, names, strict=True):
        own = data[data["sampling"] == name]
        for kind, marker in MARKERS.items():
            dots = own[own["kind"] == kind]
            image = panel.scatter(
                dots["loss_weight"],
                dots["rois"],
                c=dots["AP"],
                cmap=SHADES,
                vmin=low,
                vmax=max(high, low + 0.1),
                marker=marker,
                s=52,
                edgecolors=GREY,
                zorder=3,
            )
        ringed = own[own["number"] == best]
        ring(panel, ringed["loss_weight"], ringed["rois"], colour=INK)
        label = PARAMETERS[name].label
        panel.set(title=title_of(label), xlabel=PARAMETERS["loss_weight"].label, ylabel=label)
        log_axis(panel, "x", space["loss_weight"])
        log_axis(panel, "y", space[name])
    colour_bar(figure, image, axes, "AP")
    return figure


def make(search: SearchResults) -> Illustration:
    """The figure."""
    data, best, space = frame(search), search.best["trial"], search.summary["space"]
    caption = (
        "The shade is AP, the ring the best trial; squares are published points, dots the sampler's. Drawn as points: "
        "contours through so few would be the interpolation's."
    )
    row = data[data["number"] == best].iloc[0]
    alt = (
        f"Scatter charts of {len(data)} trials by loss weight and RoIs; the best has loss weight "
        f"{row['loss_weight']:.3g} and {row['rois']:.0f} {PARAMETERS[row['sampling']].amount}."
    )
    title = "AP by pairs of training parameters"
    return Illustration("sweep_pairs", title, caption, alt, lambda: draw(data, best=best, space=space), data)

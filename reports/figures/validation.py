"""Validation AP of all runs, by epoch."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.figures.axes import lines_by_variant, variant_legend
from reports.figures.figure import Illustration, require_some, seeds_note
from reports.figures.style import palette_of, panels
from reports.results.collect import Results
from reports.results.sides import POINTS
from suite.errors import NotInSuite

METRICS = ("AP", "AP90")


def frame(results: Results) -> pd.DataFrame:
    """AP by epoch, as evaluated during training: `variant, seed, metric, epoch, value` in points.

    Raises:
        NotInSuite: the histories record none of the metrics.
        NothingToShow: they are 0 in every epoch.
    """
    histories = results.histories
    columns = {metric: f"val/{metric}" for metric in METRICS if f"val/{metric}" in histories}
    if not columns:
        raise NotInSuite("the histories record no validation AP")
    long = pd.concat(
        histories[["variant", "seed", "epoch"]].assign(metric=metric, value=POINTS * histories[column])
        for metric, column in columns.items()
    )
    require_some(long["value"], "AP is 0 or undefined after every epoch of every training")
    return long.dropna(subset="value").reset_index(drop=True)


def draw(data: pd.DataFrame, *, variants: Sequence[str]) -> Figure:
    """A panel per metric; `variants` are those of the suite."""
    palette = palette_of(data, variants)
    metrics = list(dict.fromkeys(data["metric"]))
    figure, axes = panels(len(metrics))
    for panel, metric in zip(axes, metrics, strict=True):
        lines_by_variant(panel, data[data["metric"] == metric], x="epoch", palette=palette, markers=True)
        panel.set(title=metric, xlabel="epoch", ylabel=metric)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    variant_legend(figure, palette, markers=True)
    return figure


def make(results: Results) -> Illustration:
    """The figure."""
    data, variants = frame(results), list(results.suite.variants)
    metric = data["metric"].iloc[0]
    own = data[data["metric"] == metric]
    last = own[own["epoch"] == own["epoch"].max()].groupby("variant", sort=False)["value"].mean()
    names = " and ".join(dict.fromkeys(data["metric"]))
    alt = f"Line charts of validation {names} by epoch. {metric} at the last epoch: "
    alt += ", ".join(f"{variant} {value:.1f}" for variant, value in last.items()) + "."
    used = results.suite.validation
    caption = (
        f"As evaluated during training on {used.images} images of `{used.split}`, not on the report split. "
        f"{seeds_note(results.suite.seeds)}"
    )
    if any(used.split in run.get("trained_on", {}).get("seen", ()) for run in results.runs["data"]):
        caption += " These images are among those trained on, as published: the curves show progress, not quality."
    return Illustration("validation", "AP by epoch", caption, alt, lambda: draw(data, variants=variants), data)

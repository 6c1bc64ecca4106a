"""Training losses of all runs, by iteration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from reports.figures.axes import lines_by_variant, log_ticks, plain_tick, variant_legend
from reports.figures.figure import Illustration, require_some, seeds_note
from reports.figures.style import palette_of, panels
from reports.results.collect import Results
from suite.errors import NotInSuite

POINTS_OF_A_CURVE = 30  # that a curve is averaged down to


def frame(results: Results) -> pd.DataFrame:
    """Training losses of every run: `variant, seed, series, step, value`.

    Series: `detection`, the loss without the IoU branch's share, so that variants compare; `IoU branch`, that share;
    and, where it was logged, `IoU error`, the mean absolute error of the predicted IoU. Each curve is averaged over
    equal stretches of the training.

    Raises:
        NotInSuite: the histories record no loss.
        NothingToShow: it is 0 throughout.
    """
    histories = results.histories
    if "loss" not in histories:
        raise NotInSuite("the histories record no 'loss'")
    missing = pd.Series(np.nan, index=histories.index)
    branch = histories.get("loss_iou", missing)
    series = {
        "detection": histories["loss"] - branch.fillna(0.0),
        "IoU branch": branch,
        "IoU error": histories.get("iou_error", missing),
    }
    tidy = histories[["variant", "seed", "step"]].assign(**series)[histories["loss"].notna()]
    steps, last = max(1, int(tidy["step"].max())), POINTS_OF_A_CURVE - 1
    tidy = tidy.assign(bin=((tidy["step"] - 1).clip(lower=0) * POINTS_OF_A_CURVE // steps).clip(upper=last))
    means = tidy.groupby(["variant", "seed", "bin"], sort=False).mean().reset_index()
    long = means.melt(["variant", "seed", "step"], list(series), "series", "value")
    require_some(long.loc[long["series"] == "detection", "value"], "the losses are 0 throughout")
    return long.dropna(subset="value").reset_index(drop=True)


def draw(data: pd.DataFrame, *, variants: Sequence[str]) -> Figure:
    """A panel per series; `variants` are those of the suite."""
    palette = palette_of(data, variants)
    titles = {
        "detection": "Detection loss (RPN and R-CNN)",
        "IoU branch": "Loss of the IoU branch, weighted",
        "IoU error": "Mean error of the predicted IoU",
    }
    series = [name for name in titles if (data["series"] == name).any()]
    figure, axes = panels(len(series), width=3.7 * max(2, len(series)))
    for panel, name in zip(axes, series, strict=True):
        lines_by_variant(panel, data[data["series"] == name], x="step", palette=palette, markers=False)
        panel.set(title=titles[name], xlabel="iteration", ylabel="IoU" if name == "IoU error" else "loss")
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(FixedLocator(_ticks(panel)))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(plain_tick)
    variant_legend(figure, palette, markers=False)
    return figure


def _ticks(axes: Axes) -> list[float]:
    """Round numbers within the y axis, evenly spaced where it is shorter than a decade."""
    low, high = axes.get_ylim()
    if high / low >= 10:
        return log_ticks(low, high)
    return [float(tick) for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]


def make(results: Results) -> Illustration:
    """The figure."""
    data, variants = frame(results), list(results.suite.variants)
    detection = data[data["series"] == "detection"]
    ends = detection[detection["step"] == detection.groupby(["variant", "seed"])["step"].transform("max")]
    means = ends.groupby("variant", sort=False)["value"].mean()
    alt = "Line charts of the training losses by iteration. Detection loss at the end: "
    alt += ", ".join(f"{variant} {value:.2f}" for variant, value in means.items()) + "."
    caption = (
        f"Logarithmic axes; averaged over stretches of the training. {seeds_note(results.suite.seeds)} The loss of "
        "the IoU branch includes its weight: SmoothL1 and BCE are not on the same scale."
    )
    return Illustration("losses", "Training losses", caption, alt, lambda: draw(data, variants=variants), data)

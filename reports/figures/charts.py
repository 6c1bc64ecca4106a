"""Charts drawn from the frames of `curves`; each function returns a matplotlib figure and computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from reports.figures.style import BLUE, GREY, INK, MARKERS, ORANGE, SKY, colours, panels
from reports.results.sides import THIS_RUN

STEP_COLOURS = {"faster_rcnn": INK, "branch_off": SKY, "nms": ORANGE, "refine": BLUE}
SOURCE_COLOURS = (GREY, ORANGE, BLUE)


def lines_by_variant(axes: Axes, frame: pd.DataFrame, x: str, palette: dict[str, str], markers: bool) -> None:
    """Seeds as thin lines, their mean as a thick one."""
    for index, (variant, colour) in enumerate(palette.items()):
        own = frame[frame["variant"] == variant]
        if own.empty:
            continue
        seeds = own["seed"].nunique()
        if seeds > 1:
            for _, run in own.groupby("seed"):
                axes.plot(run[x], run["value"], color=colour, linewidth=0.7, alpha=0.45)
        mean = own.groupby(x)["value"].mean()
        marker = MARKERS[index % len(MARKERS)] if markers else ""
        axes.plot(mean.index, mean.to_numpy(), color=colour, linewidth=1.8, marker=marker, markersize=4.5)


def legend_below(figure: Figure, handles: Sequence[Artist], columns: int) -> None:
    """One legend for all panels."""
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=1.8, columnspacing=1.6)


def variant_legend(figure: Figure, palette: dict[str, str], markers: bool) -> None:
    """The variants' colours below the panels."""
    handles = [
        Line2D(
            [], [], color=c, linewidth=1.8, marker=MARKERS[i % len(MARKERS)] if markers else "", markersize=4.5, label=v
        )
        for i, (v, c) in enumerate(palette.items())
    ]
    legend_below(figure, handles, min(3, len(handles)))


def draw_losses(frame: pd.DataFrame, variants: list[str]) -> Figure:
    """Training losses of all runs: without the IoU branch's share, that share, and the error of the predicted IoU."""
    palette = {v: c for v, c in colours(variants).items() if (frame["variant"] == v).any()}
    titles = {
        "detection": "Detection loss (RPN and R-CNN)",
        "IoU branch": "Loss of the IoU branch, weighted",
        "IoU error": "Mean error of the predicted IoU",
    }
    series = [name for name in titles if (frame["series"] == name).any()]
    figure, axes = panels(len(series), width=3.7 * max(2, len(series)))
    for panel, name in zip(axes, series, strict=True):
        lines_by_variant(panel, frame[frame["series"] == name], "step", palette, markers=False)
        panel.set(title=titles[name], xlabel="iteration", ylabel="IoU" if name == "IoU error" else "loss")
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(_log_ticks(panel))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    variant_legend(figure, palette, markers=False)
    return figure


def _log_ticks(axes: Axes) -> FixedLocator:
    """Round numbers within the axis: 1, 2, 5 of each decade, or evenly spaced ones where the axis is short."""
    low, high = axes.get_ylim()
    if high / low < 10:
        ticks = np.asarray(MaxNLocator(5).tick_values(low, high))
    else:
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        ticks = np.outer(decades, [1, 2, 5]).ravel()
    return FixedLocator([float(tick) for tick in ticks if low <= tick <= high])


def draw_validation(frame: pd.DataFrame, variants: list[str]) -> Figure:
    """AP and AP90 by epoch."""
    palette = {v: c for v, c in colours(variants).items() if (frame["variant"] == v).any()}
    metrics = list(dict.fromkeys(frame["metric"]))
    figure, axes = panels(len(metrics))
    for panel, metric in zip(axes, metrics, strict=True):
        lines_by_variant(panel, frame[frame["metric"] == metric], "epoch", palette, markers=True)
        panel.set(title=metric, xlabel="epoch", ylabel=metric)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    variant_legend(figure, palette, markers=True)
    return figure


def draw_thresholds(frame: pd.DataFrame) -> Figure:
    """AP by IoU threshold for the steps of the ablation, and their difference to Faster R-CNN."""
    figure, (left, right) = panels(2, height=3.7)
    handles = []
    steps = list(dict.fromkeys(frame["step"]))
    for index, step in enumerate(steps):
        own = frame[frame["step"] == step]
        style: dict[str, Any] = {
            "color": STEP_COLOURS[step],
            "linewidth": 1.6,
            "marker": MARKERS[index],
            "markersize": 4.5,
        }
        left.plot(own["threshold"], own["AP"], **style)
        handles.append(Line2D([], [], label=own["label"].iloc[0], **style))
        if step == "faster_rcnn":
            right.axhline(0, color=STEP_COLOURS[step], linewidth=1.2)
            continue
        half = own["difference_half_width"].astype(float)
        shift = 0.007 * (index - (len(steps)) / 2)
        right.errorbar(own["threshold"] + shift, own["difference"], yerr=None if half.isna().all() else half,
                       elinewidth=0.9, ecolor=to_rgba(STEP_COLOURS[step], 0.55), **style)  # fmt: skip
    left.set(title="AP by IoU threshold", xlabel="IoU threshold", ylabel="AP")
    right.set(title="Difference to Faster R-CNN", xlabel="IoU threshold", ylabel="points of AP")
    right.yaxis.set_major_formatter(FuncFormatter(signed_tick))
    for panel in (left, right):
        panel.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9])
    legend_below(figure, handles, len(handles))
    return figure


def signed_tick(value: float, _: int) -> str:
    """A difference on an axis, with its sign."""
    return f"{value:+g}".replace("-", "\u2212") if value else "0"


def draw_improvement(frame: pd.DataFrame) -> Figure:
    """Improvement over Faster R-CNN by metric: published figures beside this run's."""
    figure, (panel,) = panels(1, width=7.6, height=3.6)
    metrics, sources = list(dict.fromkeys(frame["metric"])), list(dict.fromkeys(frame["source"]))
    panel.axhline(0, color=INK, linewidth=1.0)
    if metrics[0] == "AP":
        panel.axvline(0.5, color=GREY, linewidth=0.8, linestyle=(0, (2, 3)))
    for index, source in enumerate(sources):
        own = frame[frame["source"] == source].set_index("metric").loc[metrics]
        x = np.arange(len(metrics)) + 0.22 * (index - (len(sources) - 1) / 2)
        colour = SOURCE_COLOURS[index % len(SOURCE_COLOURS)]
        value, half = own["value"].astype(float).to_numpy(), own["half_width"].astype(float).to_numpy()
        panel.vlines(x, 0, value, color=colour, linewidth=2.2, alpha=0.35)
        if not np.isnan(half).all():
            panel.errorbar(x, value, yerr=half, fmt="none", ecolor=colour, elinewidth=1.1, capsize=3)
        panel.plot(x, value, linestyle="", marker=MARKERS[index], markersize=6.5, color=colour, label=source)
    panel.set_xticks(np.arange(len(metrics)), metrics)
    panel.set(title="Improvement over Faster R-CNN", ylabel="points of AP")
    panel.yaxis.set_major_formatter(FuncFormatter(signed_tick))
    panel.grid(axis="x", visible=False)
    panel.legend(loc="best")
    return figure


def draw_speed(frame: pd.DataFrame) -> Figure:
    """Time relative to Faster R-CNN by row of the speed table: published figures beside this run's."""
    figure, (panel,) = panels(1, width=7.6, height=3.4)
    labels, sources = list(dict.fromkeys(frame["label"])), list(dict.fromkeys(frame["source"]))
    panel.axvline(1, color=INK, linewidth=1.0)
    for index, source in enumerate(sources):
        own = frame[frame["source"] == source]
        y = own["label"].map(labels.index).to_numpy() + 0.2 * (index - (len(sources) - 1) / 2)
        colour = (ORANGE, BLUE, SKY, GREY)[index % 4]
        panel.hlines(y, 1, own["ratio"], color=colour, linewidth=2.2, alpha=0.35)
        panel.hlines(y, own["q1"], own["q3"], color=colour, linewidth=1.1)
        style: dict[str, Any] = {"linestyle": "", "marker": MARKERS[index], "markersize": 6, "color": colour}
        panel.plot(own["without_pooling"], y, markerfacecolor="white", **style)
        panel.plot(own["ratio"], y, label=source, **style)
    panel.set_yticks(np.arange(len(labels)), labels)
    panel.invert_yaxis()
    panel.set(title="Time of inference", xlabel="ratio to Faster R-CNN")
    panel.grid(axis="y", visible=False)
    panel.legend(loc="best")
    return figure


def draw_step_sizes(frame: pd.DataFrame, box_side: float | None) -> Figure:
    """AP by λ: the published curves beside this run's; a ring marks each curve's optimum."""
    sources = list(dict.fromkeys(frame["source"]))
    variants = list(dict.fromkeys(frame["variant"]))
    palette = colours(variants)
    figure, axes = panels(len(sources), height=3.9)
    for panel, source in zip(axes, sources, strict=True):
        for index, variant in enumerate(variants):
            own = frame[(frame["source"] == source) & (frame["variant"] == variant)].sort_values("step_size")
            half = own["half_width"].astype(float)
            line: dict[str, Any] = {
                "color": palette[variant],
                "marker": MARKERS[index],
                "markersize": 4.5,
                "linewidth": 1.6,
            }
            spread = 1 + 0.02 * (index - (len(variants) - 1) / 2)
            x = own["step_size"] * (1.0 if half.isna().all() else spread)
            panel.errorbar(x, own["AP"], yerr=None if half.isna().all() else half, elinewidth=0.8,
                           ecolor=to_rgba(palette[variant], 0.4), **line)  # fmt: skip
            best = own["best"].to_numpy()
            panel.plot(x[best], own["AP"][best], linestyle="", marker="o", markersize=11, markerfacecolor="none",
                       markeredgecolor=palette[variant], markeredgewidth=1.2)  # fmt: skip
        steps = sorted(set(frame.loc[frame["source"] == source, "step_size"]))
        labelled = _apart(steps)
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(FixedLocator(labelled))
        panel.xaxis.set_minor_locator(FixedLocator([step for step in steps if step not in labelled]))
        panel.xaxis.set_minor_formatter(NullFormatter())
        relative = box_side if source == THIS_RUN else None
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _, side=relative: _step_label(value, side)))
        below = f" (below: in % of the median box side, {relative:.0f} px)" if relative else ""
        panel.set(title=source, xlabel=f"λ{below}", ylabel="AP")
    variant_legend(figure, palette, markers=True)
    return figure


def _apart(steps: Sequence[float], ratio: float = 1.4) -> list[float]:
    """Those of ascending values whose labels have room on a logarithmic axis."""
    kept: list[float] = []
    for step in steps:
        if not kept or step >= ratio * kept[-1]:
            kept.append(step)
    return kept


def _step_label(step: float, box_side: float | None) -> str:
    """λ and, on a second line, its size relative to the median box side."""
    return f"{step:g}" if box_side is None else f"{step:g}\n{100 * step / box_side:.2g} %"

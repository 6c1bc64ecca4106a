"""The diagnostic charts, drawn from the frames of `diagnostics`; each function computes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from reports.figures.charts import legend_below, lines_by_variant, signed_tick, variant_legend
from reports.figures.style import BLUE, DENSITY, FAINT, GREY, INK, ORANGE, SEQUENCE, SKY, colours, panels

SHADES = LinearSegmentedColormap.from_list("density", DENSITY)
NMS_COLOURS = {"before NMS": GREY, "regular NMS": ORANGE, "IoU-guided NMS": BLUE}
LINEAR, TICKS = 0.2, (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)  # the ascent's axis: linear up to, then logarithmic
NMS_LINES: dict[str, Any] = {"before NMS": ":", "regular NMS": "--", "IoU-guided NMS": "-"}


def draw_confidence(frame: pd.DataFrame) -> Figure:
    """Density of boxes by true IoU and confidence; a line of means; the diagonal where both are IoUs."""
    names = list(dict.fromkeys(frame.sort_values("confidence")["confidence"]))
    figure, axes = panels(len(names), height=3.9)
    shades = LogNorm(1, max(10, float(frame["boxes"].max())))
    image = None
    for panel, name in zip(axes, names, strict=True):
        cells = frame[frame["confidence"] == name].pivot(index="value", columns="true_iou", values="boxes")
        step = cells.columns[1] - cells.columns[0]
        extent = (cells.columns[0], cells.columns[-1] + step, cells.index[0], 1.0)
        counts = np.ma.masked_equal(cells.to_numpy(), 0)
        image = panel.imshow(counts, SHADES, shades, extent=extent, origin="lower", aspect="auto", zorder=1.5)
        means = frame[frame["confidence"] == name].groupby("true_iou")["mean"].first()
        panel.plot(means.index + step / 2, means, color=ORANGE, linewidth=2.2, zorder=3)
        if name == "predicted IoU":
            panel.plot([0.5, 1], [0.5, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=2.5)
        panel.set(title=name[0].upper() + name[1:],
                  xlabel="true IoU", ylabel=name, ylim=(0, 1))  # fmt: skip
    if image is not None:
        figure.colorbar(image, ax=axes, label="boxes", pad=0.01, aspect=30).outline.set_visible(False)
    handles = [
        Line2D([], [], color=ORANGE, linewidth=2.2, label="mean"),
        Line2D([], [], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="predicted = true"),
    ]
    legend_below(figure, handles, len(handles))
    return figure


def draw_survivors(frame: pd.DataFrame, variant: str) -> Figure:
    """Number of positive boxes by true IoU, and the share of them that each NMS keeps."""
    own = frame[frame["variant"] == variant]
    step = own["true_iou"].drop_duplicates().nsmallest(2).diff().iloc[-1]
    own = own.assign(x=own["true_iou"] + step / 2)
    figure, (left, right) = panels(2, height=3.7)
    for name, colour in NMS_COLOURS.items():
        kind = own[own["nms"] == name]
        for panel, column in ((left, "boxes"), (right, "share")):
            if panel is right and name == "before NMS":
                continue
            if kind["seed"].nunique() > 1:
                for _, run in kind.groupby("seed"):
                    panel.plot(run["x"], run[column], color=colour, linewidth=0.7, alpha=0.45)
            mean = kind.groupby("x")[column].mean()
            panel.plot(mean.index, mean, color=colour, linestyle=NMS_LINES[name], linewidth=1.8,
                       marker="o", markersize=4)  # fmt: skip
    left.set_yscale("symlog", linthresh=1)
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.set(title="Positive boxes", xlabel="true IoU", ylabel="boxes")
    right.set(title="Share that NMS keeps", xlabel="true IoU", ylabel="% of the boxes before NMS")
    right.set_ylim(bottom=0)
    handles = [
        Line2D([], [], color=c, linestyle=NMS_LINES[n], linewidth=1.8, marker="o", markersize=4, label=n)
        for n, c in NMS_COLOURS.items()
    ]
    legend_below(figure, handles, len(handles))
    return figure


def draw_refinement(frame: pd.DataFrame, variants: list[str], unchanged: float) -> Figure:
    """Mean change of the true IoU by step, who gains and who loses, and the distribution of the change."""
    by_step, by_start, change = (frame[frame["part"] == p] for p in ("by step", "by true IoU before", "change"))
    palette = {v: c for v, c in colours(variants).items() if (by_step["variant"] == v).any()}
    figure, (left, middle, right) = panels(3, width=11.0, height=3.8)
    left.axhline(0, color=GREY, linewidth=1)
    lines_by_variant(left, by_step, "x", palette, markers=True)
    left.set(title="Mean change by step", xlabel="steps", ylabel="true IoU × 100, change")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.yaxis.set_major_formatter(FuncFormatter(signed_tick))

    width = by_start["x"].drop_duplicates().nsmallest(2).diff().iloc[-1]
    for series, sign, colour in (("gained", 1, SKY), ("lost", -1, ORANGE)):
        own = by_start[by_start["series"] == series]
        middle.bar(own["x"] + width / 2, sign * own["value"], 0.82 * width, color=colour)
    middle.axhline(0, color=GREY, linewidth=1)
    middle.set(title="Who gains, who loses", xlabel="true IoU before", ylabel="% of the boxes")
    middle.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):g}"))

    width = change["x"].drop_duplicates().nsmallest(2).diff().iloc[-1]
    centre = change["x"] + width / 2
    shades = np.select([centre > unchanged, centre < -unchanged], [SKY, ORANGE], FAINT)
    right.bar(centre, change["value"], 0.9 * width, color=shades)
    right.set(title="Change of a box", xlabel="true IoU × 100, change", ylabel="% of the boxes")
    right.xaxis.set_major_formatter(FuncFormatter(signed_tick))
    for panel in (middle, right):
        panel.grid(axis="x", visible=False)
    names = {"gained": SKY, "lost": ORANGE, "neither": FAINT}
    right.legend(handles=[Patch(color=colour, label=name) for name, colour in names.items()], loc="upper left")
    variant_legend(figure, palette, markers=True)
    return figure


def draw_ascent(frame: pd.DataFrame, variant: str) -> Figure:
    """Change of predicted and true IoU by step, one line per λ."""
    own = frame[frame["variant"] == variant]
    steps = sorted(own["step_size"].unique())
    shade = LinearSegmentedColormap.from_list("steps", SEQUENCE)
    figure, axes = panels(2, height=4.0)
    axes[1].sharey(axes[0])
    for panel, name in zip(axes, ("predicted", "true"), strict=True):
        panel.axhline(0, color=GREY, linewidth=1)
        for index, step in enumerate(steps):
            line = own[(own["iou"] == name) & (own["step_size"] == step)]
            colour = shade(index / max(1, len(steps) - 1))
            if line["seed"].nunique() > 1:
                for _, run in line.groupby("seed"):
                    panel.plot(run["step"], run["change"], color=colour, linewidth=0.6, alpha=0.4)
            mean = line.groupby("step")["change"].mean()
            panel.plot(mean.index, mean, color=colour, linewidth=1.8, label=f"λ = {step:g}")
        panel.set_yscale("symlog", linthresh=LINEAR, linscale=0.8)
        panel.yaxis.set_major_locator(FixedLocator([sign * tick for sign in (-1, 1) for tick in TICKS] + [0]))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.set(title=f"{name.capitalize()} IoU", xlabel="steps", ylabel="change since the start, × 100")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.yaxis.set_major_formatter(FuncFormatter(signed_tick))
    legend_below(figure, axes[0].get_legend_handles_labels()[0], 4 if len(steps) > 5 else len(steps))
    return figure

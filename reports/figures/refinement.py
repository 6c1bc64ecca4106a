"""True IoU before and after refinement: who gains, who loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from reports.figures.axes import lines_by_variant, signed_tick, variant_legend
from reports.figures.diagnosed import change, number_text, require_boxes, shown_rows, shown_seeds, whose
from reports.figures.figure import Illustration, seeds_note
from reports.figures.style import FAINT, GREY, ORANGE, SKY, palette_of, panels
from reports.results.collect import Results
from reports.results.diagnostics import rows_of, shown_variant
from reports.results.sides import POINTS

BY_STEP, BY_START, CHANGE = "by step", "by true IoU before", "change"  # parts of the frame


def frame(results: Results) -> pd.DataFrame:
    """What refinement does to the true IoU: `part, variant, seed, x, series, value`.

    Parts: `by step` (x: steps; the mean change since the start × 100, of every run); of the shown variant, its seeds
    together, `by true IoU before` (x: a bin's lower edge; gained and lost in %) and `change` (x: a bin's lower edge
    × 100; % of the boxes).
    """
    records: list[dict[str, Any]] = []
    for row in rows_of(results):
        means = row["data"]["refinement"]["by_step"]["true_iou"]
        keys = {"part": BY_STEP, "variant": row["variant"], "seed": row["seed"], "series": "mean change"}
        records += [{**keys, "x": x, "value": change(mean, means[0])} for x, mean in enumerate(means)]
    shown = [row["data"]["refinement"] for row in shown_rows(results)]
    keys = {"variant": shown_variant(results), "seed": None}
    edges = shown[0]["by_start"]["edges"][:-1]
    boxes = np.sum([data["by_start"]["boxes"] for data in shown], axis=0)
    for series in ("gained", "lost"):
        counts = np.sum([_counts(data["by_start"], series) for data in shown], axis=0)
        for x, count, total in zip(edges, counts, boxes, strict=True):
            value = 100 * count / total if total else None
            records.append({**keys, "part": BY_START, "x": x, "series": series, "value": value})
    changed = np.sum([data["change"]["boxes"] for data in shown], axis=0)
    for x, count in zip(shown[0]["change"]["edges"], changed, strict=False):
        value = 100 * float(count) / max(1, changed.sum())
        records.append({**keys, "part": CHANGE, "x": POINTS * x, "series": "boxes", "value": value})
    return pd.DataFrame(records)[["part", "variant", "seed", "x", "series", "value"]].astype({"value": float})


def _counts(data: Mapping[str, Any], series: str) -> list[float]:
    return [(share or 0.0) * boxes for share, boxes in zip(data[series], data["boxes"], strict=True)]


def draw(data: pd.DataFrame, *, variants: Sequence[str], unchanged: float) -> Figure:
    """Mean change of the true IoU by step, who gains and who loses, and the distribution of the change.

    Args:
        data: the frame.
        variants: those of the suite.
        unchanged: a change up to this, × 100, counts as none.
    """
    by_step, by_start, changes = (data[data["part"] == part] for part in (BY_STEP, BY_START, CHANGE))
    palette = palette_of(by_step, variants)
    figure, (left, middle, right) = panels(3, width=11.0, height=3.8)
    left.axhline(0, color=GREY, linewidth=1)
    lines_by_variant(left, by_step, x="x", palette=palette, markers=True)
    left.set(title="Mean change by step", xlabel="steps", ylabel="true IoU × 100, change")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.yaxis.set_major_formatter(signed_tick)

    width = by_start["x"].drop_duplicates().nsmallest(2).diff().iloc[-1]
    for series, sign, colour in (("gained", 1, SKY), ("lost", -1, ORANGE)):
        own = by_start[by_start["series"] == series]
        middle.bar(own["x"] + width / 2, sign * own["value"], 0.82 * width, color=colour)
    middle.axhline(0, color=GREY, linewidth=1)
    middle.set(title="Who gains, who loses", xlabel="true IoU before", ylabel="% of the boxes")
    middle.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")

    width = changes["x"].drop_duplicates().nsmallest(2).diff().iloc[-1]
    centre = changes["x"] + width / 2
    shades = np.select([centre > unchanged, centre < -unchanged], [SKY, ORANGE], FAINT)
    right.bar(centre, changes["value"], 0.9 * width, color=shades)
    right.set(title="Change of a box", xlabel="true IoU × 100, change", ylabel="% of the boxes")
    right.xaxis.set_major_formatter(signed_tick)
    for panel in (middle, right):
        panel.grid(axis="x", visible=False)
    names = {"gained": SKY, "lost": ORANGE, "neither": FAINT}
    right.legend(handles=[Patch(color=colour, label=name) for name, colour in names.items()], loc="upper left")
    variant_legend(figure, palette, markers=True)
    return figure


def make(results: Results) -> Illustration:
    """The figure."""
    data, variants = frame(results), list(results.suite.variants)
    rows = [row["data"] for row in shown_rows(results)]
    require_boxes(results, [row["refinement"]["boxes"] for row in rows])
    shares = {
        name: 100 * float(np.mean([row["refinement"]["by_step"][name][-1] or 0.0 for row in rows]))
        for name in ("gained", "unchanged", "lost")
    }
    steps = np.sum([row["refinement"]["steps"] for row in rows], axis=0)
    number, least = len(steps) - 1, POINTS * rows[0]["refinement"]["unchanged_below"]
    text = (
        f"{shares['gained']:.0f} % gain more than {least:g}, {shares['lost']:.0f} % lose more than that, "
        f"{shares['unchanged']:.0f} % do neither"
    )
    after = data[(data["part"] == BY_STEP) & (data["variant"] == shown_variant(results)) & (data["x"] == number)]
    mean = f"mean change after {number} steps {number_text(float(after['value'].mean()), signed=True)}"
    caption = (
        f"Positive boxes kept by IoU-guided NMS, refined with λ = {rows[0]['setting']['step_size']:g}; true IoU × 100. "
        f"Left: every IoU-Net. {seeds_note(shown_seeds(results))} Middle and right ({whose(results)}): "
        f"of {sum(row['refinement']['boxes'] for row in rows)} boxes {text}; {mean}; "
        f"{100 * float(steps[:2].sum()) / max(1, steps.sum()):.0f} % stop after the first step, "
        f"{100 * float(steps[-1]) / max(1, steps.sum()):.0f} % take all {number}. The outer bars hold what lies beyond."
    )
    alt = f"Charts of the true IoU under refinement: {text}; {mean}."
    title = "True IoU before and after refinement"
    return Illustration("refinement", title, caption, alt, lambda: draw(data, variants=variants, unchanged=least), data)

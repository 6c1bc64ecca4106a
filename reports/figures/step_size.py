"""AP by step size λ of the refinement: the published curves beside this run's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from reports.figures.axes import half_widths, ring, variant_legend
from reports.figures.figure import NO_AP, Illustration, require_some, whiskers_note
from reports.figures.style import MARKERS, colours, panels
from reports.results.annotations import read_annotations
from reports.results.collect import Results
from reports.results.published import Published
from reports.results.sides import THIS_RUN, Side
from reports.statistics import mean_interval
from suite.errors import NotInSuite

WIDTH = 9.0  # inches, of two panels


def frame(results: Results, published: Mapping[str, Published]) -> pd.DataFrame:
    """AP by λ as it was used: `source, guide, variant, step_size, AP, half_width, best`; a curve's optimum is `best`.

    Of this run: every IoU-Net, with every NMS guide that has at least two λ.

    Raises:
        NotInSuite: no such guide, or no IoU-Net.
        MissingResult: an evaluation file is missing.
        NothingToShow: no variant found anything.
    """
    suite, source = results.suite, published["reproduction"]
    table = source.table("lambda")
    common = {"source": source.name, "guide": "rank", "half_width": None}
    records: list[dict[str, Any]] = [
        {**common, "variant": variant, "step_size": float(column), "AP": row[column]}
        for variant, row in table["rows"].items()
        for column in sorted(table["columns"], key=float)
    ]
    guides = [guide for guide, steps in suite.inference.step_sizes.items() if len(steps) > 1]
    variants = [variant for variant in suite.variants if suite.variants[variant].has_iou_branch]
    if not guides or not variants:
        raise NotInSuite(f"suite '{suite.name}' has no IoU-Net with an NMS guide and two values of λ")
    for guide, variant in product(guides, variants):
        for step in sorted(step for step in suite.inference.step_sizes[guide] if step.actual > 0):
            mean = mean_interval(list(Side(variant, guide, step.published).per_seed(results, "AP").values()))
            own = {"source": THIS_RUN, "guide": guide, "variant": variant, "step_size": step.actual}
            records.append({**own, "AP": mean.mean, "half_width": mean.half_width})
    data = pd.DataFrame(records)
    require_some(data.loc[data["source"] == THIS_RUN, "AP"], NO_AP)
    best = data.groupby(["source", "guide", "variant"])["AP"].transform("max")
    return data.assign(best=data["AP"] == best)


def median_box_side(results: Results) -> float | None:
    """Median side √(w·h) of the report split's boxes in the network's pixels; None where only the image's are known."""
    if not results.is_generated:
        return None
    try:
        annotations = read_annotations(results)["annotations"]
    except NotInSuite:
        return None
    areas = [entry["bbox"][2] * entry["bbox"][3] for entry in annotations if not entry.get("iscrowd")]
    return float(np.sqrt(np.median(areas))) if areas else None


def draw(data: pd.DataFrame, *, box_side: float | None) -> Figure:
    """A panel per source and NMS guide; a ring marks each curve's optimum.

    Args:
        data: the frame.
        box_side: median side of the boxes in pixels; this run's λ are also shown relative to it.
    """
    kinds = list(dict.fromkeys(zip(data["source"], data["guide"], strict=True)))
    variants = list(dict.fromkeys(data["variant"]))
    palette = colours(variants)
    figure, axes = panels(len(kinds), width=max(WIDTH, 3.6 * len(kinds)), height=3.9)
    for panel, (source, guide) in zip(axes, kinds, strict=True):
        relative = box_side if source == THIS_RUN else None
        shown = data[(data["source"] == source) & (data["guide"] == guide)]
        for index, variant in enumerate(variants):
            own = shown[shown["variant"] == variant].sort_values("step_size")
            if own.empty:
                continue
            _draw_curve(panel, own, palette[variant], MARKERS[index % len(MARKERS)], index - (len(variants) - 1) / 2)
        _label_steps(panel, sorted({step for step in shown["step_size"] if step > 0}), relative)
        below = f" (below: in % of the median box side, {relative:.0f} px)" if relative else ""
        panel.set(title=f"{source}, {guide}", xlabel=f"λ{below}", ylabel="AP")
    variant_legend(figure, palette, markers=True)
    return figure


def _draw_curve(panel: Axes, own: pd.DataFrame, colour: str, marker: str, place: float) -> None:
    """One variant; curves with whiskers are moved apart by their place."""
    half = half_widths(own["half_width"])
    x = own["step_size"] * (1.0 if half is None else 1 + 0.02 * place)
    panel.errorbar(x, own["AP"], yerr=half, elinewidth=0.8, ecolor=to_rgba(colour, 0.4), color=colour, marker=marker,
                   markersize=4.5, linewidth=1.6)  # fmt: skip
    best = own["best"].to_numpy()
    ring(panel, x[best], own["AP"][best], colour=colour, size=11, width=1.2, zorder=2)


def _label_steps(panel: Axes, steps: Sequence[float], box_side: float | None) -> None:
    """A logarithmic axis with a tick at every λ, labelled where there is room."""
    labelled = apart(steps)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(labelled))
    panel.xaxis.set_minor_locator(FixedLocator([step for step in steps if step not in labelled]))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.xaxis.set_major_formatter(lambda value, _: _step_label(value, box_side))


def apart(steps: Sequence[float], ratio: float = 1.4) -> list[float]:
    """Those of ascending values whose labels have room on a logarithmic axis."""
    kept: list[float] = []
    for step in steps:
        if not kept or step >= ratio * kept[-1]:
            kept.append(step)
    return kept


def _step_label(step: float, box_side: float | None) -> str:
    """λ and, on a second line, its size relative to the median box side."""
    return f"{step:g}" if box_side is None else f"{step:g}\n{float(f'{100 * step / box_side:.2g}'):g} %"


def make(results: Results, published: Mapping[str, Published]) -> Illustration:
    """The figure."""
    data, box_side = frame(results, published), median_box_side(results)
    parts = []
    for (source, guide), rows in data[data["best"]].groupby(["source", "guide"], sort=False):
        best = ", ".join(
            f"{v} at {'/'.join(f'{s:g}' for s in own['step_size'])}" for v, own in rows.groupby("variant", sort=False)
        )
        parts.append(f"{source}, {guide}: {best}")
    alt = "Line charts of AP by step size λ. Best λ: " + "; ".join(parts) + "."
    caption = (
        "Refinement after NMS by each guide (rank: predicted IoU, weight: class score × IoU, none: class score); "
        "λ as it was used, logarithmic axes; a ring marks each curve's optimum. "
        f"The published curves are read off a chart. {whiskers_note(results.suite.seeds)}"
    )
    return Illustration("step_size", "AP by step size λ", caption, alt, lambda: draw(data, box_side=box_side), data)

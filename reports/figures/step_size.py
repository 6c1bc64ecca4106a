"""AP by step size λ of the refinement: the published curves beside this run's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from reports.errors import MissingResult
from reports.figures.axes import half_widths, ring, variant_legend
from reports.figures.figure import NO_AP, Illustration, require_some, whiskers_note
from reports.figures.style import MARKERS, colours, panels
from reports.results.collect import Results
from reports.results.files import need, read_json
from reports.results.published import Published
from reports.results.sides import THIS_RUN, Side
from reports.statistics import mean_interval

GUIDE = "rank"


def frame(results: Results, published: Mapping[str, Published]) -> pd.DataFrame:
    """AP by λ as it was used: `source, variant, step_size, AP, half_width, best`; `best` marks each curve's optimum.

    Raises:
        NotInSuite: the suite lacks a published variant, or the NMS guide.
        MissingResult: an evaluation file is missing.
        NothingToShow: no variant found anything.
    """
    source = published["reproduction"]
    table = source.table("lambda")
    records: list[dict[str, Any]] = [
        {"source": source.name, "variant": variant, "step_size": float(column), "AP": row[column], "half_width": None}
        for variant, row in table["rows"].items()
        for column in sorted(table["columns"], key=float)
    ]
    results.suite.require(*table["rows"])
    results.suite.setting(GUIDE)  # raises where the suite has no such guide
    for variant in table["rows"]:
        for step in sorted(results.suite.inference.step_sizes[GUIDE]):
            mean = mean_interval(list(Side(variant, GUIDE, step.published).per_seed(results, "AP").values()))
            own = {"source": THIS_RUN, "variant": variant, "step_size": step.actual}
            records.append({**own, "AP": mean.mean, "half_width": mean.half_width})
    data = pd.DataFrame(records)
    require_some(data.loc[data["source"] == THIS_RUN, "AP"], NO_AP)
    return data.assign(best=data["AP"] == data.groupby(["source", "variant"])["AP"].transform("max"))


def median_box_side(results: Results) -> float | None:
    """Median side √(w·h) of the report split's boxes in the network's pixels; None where only the image's are known."""
    if not results.is_generated:
        return None
    path = results.layout.data.annotations(results.suite.report_split)
    try:
        annotations = need(read_json(path), "annotations", path)
    except MissingResult:
        return None
    areas = [entry["bbox"][2] * entry["bbox"][3] for entry in annotations if not entry.get("iscrowd")]
    return float(np.sqrt(np.median(areas))) if areas else None


def draw(data: pd.DataFrame, *, box_side: float | None) -> Figure:
    """A panel per source; a ring marks each curve's optimum.

    Args:
        data: the frame.
        box_side: median side of the boxes in pixels; this run's λ are also shown relative to it.
    """
    sources, variants = list(dict.fromkeys(data["source"])), list(dict.fromkeys(data["variant"]))
    palette = colours(variants)
    figure, axes = panels(len(sources), height=3.9)
    for panel, source in zip(axes, sources, strict=True):
        relative = box_side if source == THIS_RUN else None
        for index, variant in enumerate(variants):
            own = data[(data["source"] == source) & (data["variant"] == variant)].sort_values("step_size")
            _draw_curve(panel, own, palette[variant], MARKERS[index % len(MARKERS)], index - (len(variants) - 1) / 2)
        _label_steps(panel, sorted(set(data.loc[data["source"] == source, "step_size"])), relative)
        below = f" (below: in % of the median box side, {relative:.0f} px)" if relative else ""
        panel.set(title=source, xlabel=f"λ{below}", ylabel="AP")
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
    return f"{step:g}" if box_side is None else f"{step:g}\n{100 * step / box_side:.2g} %"


def make(results: Results, published: Mapping[str, Published]) -> Illustration:
    """The figure."""
    data, box_side = frame(results, published), median_box_side(results)
    parts = []
    for source, rows in data[data["best"]].groupby("source", sort=False):
        best = ", ".join(
            f"{v} at {'/'.join(f'{s:g}' for s in own['step_size'])}" for v, own in rows.groupby("variant", sort=False)
        )
        parts.append(f"{source}: {best}")
    alt = "Line charts of AP by step size λ. Best λ: " + "; ".join(parts) + "."
    caption = (
        "IoU-guided NMS (rank) with refinement; λ as it was used, logarithmic axes; a ring marks each curve's optimum. "
        f"The published curves are read off a chart. {whiskers_note(results.suite.seeds)}"
    )
    return Illustration("step_size", "AP by step size λ", caption, alt, lambda: draw(data, box_side=box_side), data)

"""Class score and predicted IoU against the true IoU (figure 2 of the paper)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.figures.axes import SHADES, colour_bar, legend_below
from reports.figures.diagnosed import number_text, require_boxes, shown_rows, whose
from reports.figures.figure import Illustration
from reports.figures.style import INK, ORANGE, panels
from reports.results.collect import Results
from reports.results.diagnostics import CONFIDENCES, correlations, shown_variant


def frame(results: Results) -> pd.DataFrame:
    """How many boxes have which true IoU and confidence, all seeds of the shown variant together.

    Columns `confidence, true_iou, value, boxes, mean`: lower edges of a cell, the boxes in it, and the mean confidence
    (from the cells' centres) of the boxes of this true IoU.
    """
    frames = []
    for row in shown_rows(results):
        data = row["data"]["confidence"]
        x, y = (np.asarray(data[key])[:-1] for key in ("true_iou_edges", "edges"))
        for key, name in CONFIDENCES.items():
            boxes = np.asarray(data[key]["histogram"]).ravel()
            cells = {"true_iou": np.repeat(x, len(y)), "value": np.tile(y, len(x)), "boxes": boxes}
            frames.append(pd.DataFrame({"confidence": name, **cells}))
    pooled = pd.concat(frames).groupby(["confidence", "true_iou", "value"], as_index=False).sum()
    centre = pooled["value"] + (pooled["value"].drop_duplicates().nsmallest(2).diff().iloc[-1]) / 2
    sums = pooled.assign(product=centre * pooled["boxes"]).groupby(["confidence", "true_iou"])[["product", "boxes"]]
    total = sums.transform("sum")
    return pooled.assign(mean=total["product"] / total["boxes"].where(total["boxes"] > 0))


def draw(data: pd.DataFrame) -> Figure:
    """Density of boxes by true IoU and confidence; a line of means; the diagonal where both are IoUs."""
    names = list(dict.fromkeys(data.sort_values("confidence")["confidence"]))
    figure, axes = panels(len(names), height=3.9)
    norm = LogNorm(1, max(10, float(data["boxes"].max())))
    for panel, name in zip(axes, names, strict=True):
        cells = data[data["confidence"] == name].pivot(index="value", columns="true_iou", values="boxes")
        step = cells.columns[1] - cells.columns[0]
        extent = (cells.columns[0], cells.columns[-1] + step, cells.index[0], 1.0)
        counts = np.ma.masked_equal(cells.to_numpy(), 0)
        image = panel.imshow(counts, SHADES, norm, extent=extent, origin="lower", aspect="auto", zorder=1.5)
        means = data[data["confidence"] == name].groupby("true_iou")["mean"].first()
        panel.plot(means.index + step / 2, means, color=ORANGE, linewidth=2.2, zorder=3)
        if name == "predicted IoU":
            panel.plot([0.5, 1], [0.5, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=2.5)
        panel.set(title=name[0].upper() + name[1:], xlabel="true IoU", ylabel=name, ylim=(0, 1))
    colour_bar(figure, image, axes, "boxes")
    handles = [
        Line2D([], [], color=ORANGE, linewidth=2.2, label="mean"),
        Line2D([], [], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="predicted = true"),
    ]
    legend_below(figure, handles, len(handles))
    return figure


def make(results: Results) -> Illustration:
    """The figure."""
    data, table = frame(results), correlations(results)
    require_boxes(results, data["boxes"])
    means = table.groupby(["confidence", "variant"], sort=False)[["pearson", "spearman"]].mean()
    own: Any = means.xs(shown_variant(results), level="variant").T
    text = " and ".join(
        f"{number_text(own[name]['pearson'])} (Pearson) and {number_text(own[name]['spearman'])} (Spearman) for the "
        f"{name}"
        for name in CONFIDENCES.values()
    )
    mean = ", mean over the seeds" if len(shown_rows(results)) > 1 else ""
    said = f"Correlation with the true IoU{mean}: {text}"
    boxes = int(data.loc[data["confidence"] == "class score", "boxes"].sum())
    caption = (
        f"All {boxes} positive boxes before NMS ({whose(results)}) by true IoU and the two confidences; the line is "
        f"the mean confidence. {said}. After figure 2 of the paper."
    )
    if table["variant"].nunique() > 1:
        parts = [f"{_range(means.loc[name]['pearson'])} for the {name}" for name in CONFIDENCES.values()]
        caption += f" Pearson over all variants: {' and '.join(parts)}."
    alt = f"Two density charts of confidence by true IoU for {boxes} boxes. {said}."
    title = "Class score and predicted IoU against true IoU"
    return Illustration("confidence", title, caption, alt, lambda: draw(data), data)


def _range(values: pd.Series) -> str:
    """The smallest and the largest."""
    return " to ".join(dict.fromkeys((number_text(values.min()), number_text(values.max()))))

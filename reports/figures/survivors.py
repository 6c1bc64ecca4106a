"""Positive boxes that survive NMS, by true IoU (figure 3 of the paper)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.figures.axes import legend_below, plain_tick, seeds_and_mean
from reports.figures.diagnosed import require_boxes, shown_rows, shown_seeds, whose
from reports.figures.figure import Illustration, seeds_note
from reports.figures.style import BLUE, GREY, ORANGE, panels
from reports.results.collect import Results
from reports.results.diagnostics import rows_of, shown_variant

BEFORE, REGULAR, GUIDED = "before NMS", "regular NMS", "IoU-guided NMS"
KINDS = {"no_nms": BEFORE, "regular": REGULAR, "guided": GUIDED}  # key in diagnostics.json to name
STYLES: dict[str, dict[str, Any]] = {
    BEFORE: {"colour": GREY, "linestyle": ":"},
    REGULAR: {"colour": ORANGE, "linestyle": "--"},
    GUIDED: {"colour": BLUE, "linestyle": "-"},
}
STRICT = 0.9  # a box from here on is called well placed


def frame(results: Results) -> pd.DataFrame:
    """Positive boxes by true IoU and NMS: `variant, seed, nms, true_iou, boxes, share` (of those before NMS, in %)."""
    frames = []
    for row in rows_of(results):
        data = row["data"]["survivors"]
        before = np.asarray(data["no_nms"], dtype=float)
        for key, name in KINDS.items():
            boxes = np.asarray(data[key])
            share = 100 * np.divide(boxes, before, out=np.full(len(boxes), np.nan), where=before > 0)
            columns = {"true_iou": data["edges"][:-1], "boxes": boxes, "share": share}
            frames.append(pd.DataFrame({"variant": row["variant"], "seed": row["seed"], "nms": name, **columns}))
    return pd.concat(frames, ignore_index=True)


def draw(data: pd.DataFrame, *, variant: str) -> Figure:
    """Number of a variant's positive boxes by true IoU, and the share of them that each NMS keeps."""
    own = data[data["variant"] == variant]
    step = own["true_iou"].drop_duplicates().nsmallest(2).diff().iloc[-1]
    own = own.assign(x=own["true_iou"] + step / 2)
    figure, (left, right) = panels(2, height=3.7)
    for name, style in STYLES.items():
        kind = own[own["nms"] == name]
        seeds_and_mean(left, kind, x="x", y="boxes", marker="o", markersize=4, **style)
        if name != BEFORE:
            seeds_and_mean(right, kind, x="x", y="share", marker="o", markersize=4, **style)
    left.set_yscale("symlog", linthresh=1)
    left.yaxis.set_major_formatter(plain_tick)
    left.set(title="Positive boxes", xlabel="true IoU", ylabel="boxes")
    right.set(title="Share that NMS keeps", xlabel="true IoU", ylabel="% of the boxes before NMS")
    right.set_ylim(bottom=0)
    handles = [
        Line2D([], [], color=style["colour"], linestyle=style["linestyle"], linewidth=1.8, marker="o", markersize=4,
               label=name)
        for name, style in STYLES.items()
    ]  # fmt: skip
    legend_below(figure, handles, len(handles))
    return figure


def make(results: Results) -> Illustration:
    """The figure."""
    data, variant = frame(results), shown_variant(results)
    own = data[data["variant"] == variant]
    require_boxes(results, own["boxes"])
    strict = own[own["true_iou"] >= STRICT - 1e-6].groupby("nms")["boxes"].sum() / own["seed"].nunique()
    every = own.groupby("nms")["boxes"].sum() / own["seed"].nunique()
    text = (
        f"From a true IoU of {STRICT:g} on, IoU-guided NMS keeps {strict[GUIDED]:.0f} boxes and regular NMS "
        f"{strict[REGULAR]:.0f}, of {strict[BEFORE]:.0f}; from 0.5 on, {every[GUIDED]:.0f} and "
        f"{every[REGULAR]:.0f}, of {every[BEFORE]:.0f}"
    )
    objects = shown_rows(results)[0]["data"]["objects"]
    caption = (
        f"Positive boxes ({whose(results)}). {text} ({objects} objects). {seeds_note(shown_seeds(results))} "
        "After figure 3 of the paper."
    )
    alt = f"Charts of the number of positive boxes by true IoU, before NMS and after two kinds of it. {text}."
    title = "Positive boxes that survive NMS, by true IoU"
    return Illustration("survivors", title, caption, alt, lambda: draw(data, variant=variant), data)

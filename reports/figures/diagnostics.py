"""Why IoU-Net works, or does not: the data behind the diagnostic figures, and what is said of them.

A box is *positive* when its IoU with the nearest object of its class, its *true* IoU, is at least 0.5. IoUs and their
changes are shown × 100.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from reports.figures import diagnostic_charts as drawing
from reports.figures.illustrations import Illustration, seeds_note
from reports.results.collect import Results
from reports.results.diagnostics import CONFIDENCES, correlations, rows_of, shown_variant
from reports.results.sides import POINTS
from reports.tables.table import format_number

NMS = {"no_nms": "before NMS", "regular": "regular NMS", "guided": "IoU-guided NMS"}
STRICT = 0.9  # a box from here on is called well placed


def _seeds(results: Results) -> list[int]:
    """The seeds of the shown variant that have diagnostics."""
    return [row["seed"] for row in rows_of(results, shown_variant(results))]


def confidence_density(results: Results) -> pd.DataFrame:
    """How many boxes have which true IoU and confidence, all seeds of the shown variant together.

    Columns `confidence, true_iou, value, boxes, mean`: lower edges of a cell, the boxes in it, and the mean confidence
    (from the cells' centres) of the boxes of this true IoU.
    """
    frames = []
    for row in rows_of(results, shown_variant(results)):
        data = row["data"]["confidence"]
        x, y = (np.asarray(data[key])[:-1] for key in ("true_iou_edges", "edges"))
        for key, name in CONFIDENCES.items():
            boxes = np.asarray(data[key]["histogram"]).ravel()
            cells = {"true_iou": np.repeat(x, len(y)), "value": np.tile(y, len(x)), "boxes": boxes}
            frames.append(pd.DataFrame({"confidence": name, **cells}))
    frame = pd.concat(frames).groupby(["confidence", "true_iou", "value"], as_index=False).sum()
    centre = frame["value"] + (frame["value"].drop_duplicates().nsmallest(2).diff().iloc[-1]) / 2
    sums = frame.assign(product=centre * frame["boxes"]).groupby(["confidence", "true_iou"])[["product", "boxes"]]
    total = sums.transform("sum")
    return frame.assign(mean=total["product"] / total["boxes"].where(total["boxes"] > 0))


def survivor_counts(results: Results) -> pd.DataFrame:
    """Positive boxes by true IoU and NMS: `variant, seed, nms, true_iou, boxes, share` (of those before NMS, in %)."""
    frames = []
    for row in rows_of(results):
        data = row["data"]["survivors"]
        before = np.asarray(data["no_nms"], dtype=float)
        for key, name in NMS.items():
            boxes = np.asarray(data[key])
            share = 100 * np.divide(boxes, before, out=np.full(len(boxes), np.nan), where=before > 0)
            columns = {"true_iou": data["edges"][:-1], "boxes": boxes, "share": share}
            frames.append(pd.DataFrame({"variant": row["variant"], "seed": row["seed"], "nms": name, **columns}))
    return pd.concat(frames, ignore_index=True)


def refinement_effect(results: Results) -> pd.DataFrame:
    """What refinement does to the true IoU: `part, variant, seed, x, series, value`.

    Parts: `by step` (x: steps; the mean change since the start × 100, of every run); of the shown variant, its seeds
    together, `by true IoU before` (x: a bin's lower edge; gained and lost in %) and `change` (x: a bin's lower edge
    × 100; % of the boxes).
    """
    records: list[dict[str, Any]] = []
    for row in rows_of(results):
        means = row["data"]["refinement"]["by_step"]["true_iou"]
        keys = {"part": "by step", "variant": row["variant"], "seed": row["seed"], "series": "mean change"}
        records += [{**keys, "x": x, "value": _difference(mean, means[0])} for x, mean in enumerate(means)]
    variant = shown_variant(results)
    shown = [row["data"]["refinement"] for row in rows_of(results, variant)]
    keys = {"variant": variant, "seed": None}
    edges = shown[0]["by_start"]["edges"][:-1]
    boxes = np.sum([data["by_start"]["boxes"] for data in shown], axis=0)
    for series in ("gained", "lost"):
        counts = np.sum([_counts(data["by_start"], series) for data in shown], axis=0)
        for x, count, total in zip(edges, counts, boxes, strict=True):
            value = 100 * count / total if total else None
            records.append({**keys, "part": "by true IoU before", "x": x, "series": series, "value": value})
    changed = np.sum([data["change"]["boxes"] for data in shown], axis=0)
    for x, count in zip(shown[0]["change"]["edges"], changed, strict=False):
        value = 100 * float(count) / max(1, changed.sum())
        records.append({**keys, "part": "change", "x": POINTS * x, "series": "boxes", "value": value})
    return pd.DataFrame(records)[["part", "variant", "seed", "x", "series", "value"]].astype({"value": float})


def _counts(data: dict[str, Any], series: str) -> list[float]:
    return [(share or 0.0) * boxes for share, boxes in zip(data[series], data["boxes"], strict=True)]


def _difference(value: float | None, start: float | None) -> float | None:
    return None if value is None or start is None else POINTS * (value - start)


def ascent_curves(results: Results) -> pd.DataFrame:
    """Mean predicted and true IoU along the ascent: `variant, seed, step_size, iou, step, value, change`, × 100."""
    return pd.DataFrame(
        {
            "variant": row["variant"],
            "seed": row["seed"],
            "step_size": float(ascent["step_size"]),
            "iou": name,
            "step": step,
            "value": None if value is None else POINTS * value,
            "change": _difference(value, ascent[name][0]),
        }
        for row in rows_of(results)
        for ascent in row["data"]["ascent"]
        for name in ("predicted", "true")
        for step, value in enumerate(ascent[name])
    ).astype({"value": float, "change": float})


def _of(results: Results) -> str:
    """Whose boxes a figure shows."""
    rows = rows_of(results, shown_variant(results))
    seeds = ", ".join(str(row["seed"]) for row in rows)
    stale = " †" if any(row["stale"] for row in rows) else ""
    return f"`{shown_variant(results)}`, seed{'s' if len(rows) > 1 else ''} {seeds}{stale}"


def _number(value: float, signed: bool = False) -> str:
    return "undefined" if math.isnan(value) else format_number(value, 2, signed)


def _range(values: pd.Series) -> str:
    """The smallest and the largest."""
    return " to ".join(dict.fromkeys((_number(values.min()), _number(values.max()))))


def confidence_figure(results: Results) -> Illustration:
    """Class score and predicted IoU against true IoU (figure 2 of the paper)."""
    frame, table = confidence_density(results), correlations(results)
    means = table.groupby(["confidence", "variant"], sort=False)[["pearson", "spearman"]].mean()
    own: Any = means.xs(shown_variant(results), level="variant").T
    text = " and ".join(
        f"{_number(own[name]['pearson'])} (Pearson) and {_number(own[name]['spearman'])} (Spearman) for the {name}"
        for name in CONFIDENCES.values()
    )
    mean = ", mean over the seeds" if len(rows_of(results, shown_variant(results))) > 1 else ""
    said = f"Correlation with the true IoU{mean}: {text}"
    boxes = int(frame.loc[frame["confidence"] == "class score", "boxes"].sum())
    caption = (
        f"All {boxes} positive boxes before NMS ({_of(results)}) by true IoU and the two confidences; the line is the "
        f"mean confidence. {said}. After figure 2 of the paper."
    )
    if table["variant"].nunique() > 1:
        parts = [f"{_range(means.loc[name]['pearson'])} for the {name}" for name in CONFIDENCES.values()]
        caption += f" Pearson over all variants: {' and '.join(parts)}."
    alt = f"Two density charts of confidence by true IoU for {boxes} boxes. {said}."
    title = "Class score and predicted IoU against true IoU"
    return Illustration("confidence", title, caption, alt, lambda: drawing.draw_confidence(frame), frame)


def survivor_figure(results: Results) -> Illustration:
    """Positive boxes kept by NMS, by true IoU (figure 3 of the paper)."""
    frame = survivor_counts(results)
    variant = shown_variant(results)
    own = frame[frame["variant"] == variant]
    strict = own[own["true_iou"] >= STRICT - 1e-6].groupby("nms")["boxes"].sum() / own["seed"].nunique()
    every = own.groupby("nms")["boxes"].sum() / own["seed"].nunique()
    text = (
        f"From a true IoU of {STRICT:g} on, IoU-guided NMS keeps {strict[NMS['guided']]:.0f} boxes and regular NMS "
        f"{strict[NMS['regular']]:.0f}, of {strict[NMS['no_nms']]:.0f}; from 0.5 on, {every[NMS['guided']]:.0f} and "
        f"{every[NMS['regular']]:.0f}, of {every[NMS['no_nms']]:.0f}"
    )
    objects = rows_of(results, variant)[0]["data"]["objects"]
    caption = (
        f"Positive boxes ({_of(results)}). {text} ({objects} objects). {seeds_note(_seeds(results))} "
        "After figure 3 of the paper."
    )
    alt = f"Charts of the number of positive boxes by true IoU, before NMS and after two kinds of it. {text}."
    title = "Positive boxes that survive NMS, by true IoU"
    return Illustration("survivors", title, caption, alt, lambda: drawing.draw_survivors(frame, variant), frame)


def refinement_figure(results: Results) -> Illustration:
    """IoU before and after refinement: who gains, who loses."""
    frame = refinement_effect(results)
    rows = [row["data"] for row in rows_of(results, shown_variant(results))]
    shares = {
        name: 100 * float(np.mean([row["refinement"]["by_step"][name][-1] or 0.0 for row in rows]))
        for name in ("gained", "unchanged", "lost")
    }
    steps = np.sum([row["refinement"]["steps"] for row in rows], axis=0)
    number, least = len(steps) - 1, rows[0]["refinement"]["unchanged_below"]
    text = (
        f"{shares['gained']:.0f} % gain more than {POINTS * least:g}, {shares['lost']:.0f} % lose more than that, "
        f"{shares['unchanged']:.0f} % do neither"
    )
    after = frame[(frame["part"] == "by step") & (frame["variant"] == shown_variant(results)) & (frame["x"] == number)]
    mean = f"mean change after {number} steps {_number(float(after['value'].mean()), signed=True)}"
    caption = (
        f"Positive boxes kept by IoU-guided NMS, refined with λ = {rows[0]['setting']['step_size']:g}; true IoU × 100. "
        f"Left: every IoU-Net. {seeds_note(_seeds(results))} Middle and right ({_of(results)}): "
        f"of {sum(row['refinement']['boxes'] for row in rows)} boxes {text}; {mean}; "
        f"{100 * float(steps[:2].sum()) / max(1, steps.sum()):.0f} % stop after the first step, "
        f"{100 * float(steps[-1]) / max(1, steps.sum()):.0f} % take all {number}. The outer bars hold what lies beyond."
    )
    alt = f"Charts of the true IoU under refinement: {text}; {mean}."
    title = "True IoU before and after refinement"
    variants = list(results.suite.variants)
    return Illustration(
        "refinement", title, caption, alt, lambda: drawing.draw_refinement(frame, variants, POINTS * least), frame
    )


def ascent_figure(results: Results) -> Illustration:
    """What λ does: predicted and true IoU along the ascent."""
    frame = ascent_curves(results)
    variant = shown_variant(results)
    own = frame[(frame["variant"] == variant) & (frame["step"] == frame["step"].max())]
    means = own.groupby(["iou", "step_size"])["change"].mean()
    parts = []
    for name in ("predicted", "true"):
        values = means[name].dropna()
        if len(values):
            ends = (values.idxmax(), values.idxmin())
            best, worst = (f"{_number(values[step], True)} at λ = {step:g}" for step in ends)
            parts.append(f"{name} IoU has changed by {best} (most) to {worst} (least)")
    text = f"After {frame['step'].max()} steps the mean " + ("; the ".join(parts) or "is undefined")
    caption = (
        f"Mean over the positive boxes kept by IoU-guided NMS ({_of(results)}); the change since the start, × 100, on "
        f"an axis that is logarithmic beyond ±{drawing.LINEAR:g}. {text}. {seeds_note(_seeds(results))}"
    )
    alt = f"Line charts of predicted and true IoU by step of the ascent, one line per λ. {text}."
    title = "Predicted and true IoU along the ascent, by step size λ"
    return Illustration("ascent", title, caption, alt, lambda: drawing.draw_ascent(frame, variant), frame)

"""AP by IoU threshold, for the steps of the ablation."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.comparison import difference, metric_values
from reports.figures.axes import half_widths, legend_below, signed_tick
from reports.figures.figure import NO_AP, Illustration, require_some, whiskers_note
from reports.figures.style import BLUE, INK, MARKERS, ORANGE, SKY, panels
from reports.results.collect import Results
from reports.results.sides import ABLATION, BASELINE, FIRST_VERSION, PAPER_STEP
from reports.statistics import mean_interval
from reports.tables.table import format_number

STEP_COLOURS = {"faster_rcnn": INK, "branch_off": SKY, "nms": ORANGE, "refine": BLUE}


def frame(results: Results) -> pd.DataFrame:
    """AP by IoU threshold for the steps of the ablation.

    Columns `step, label, threshold, AP, half_width, difference, difference_half_width`: means over seeds in points and
    half of their 95 % intervals; differences are to Faster R-CNN.

    Raises:
        NotInSuite: the suite lacks a step's variant or setting.
        MissingResult: a matches file is missing.
        NothingToShow: no step found anything.
    """
    first = results.matches(BASELINE.own(results), results.suite.seeds[0], BASELINE.setting(results))
    records = []
    for key, label, side in ABLATION:
        for threshold in first.iou_thresholds:
            metric = f"AP{round(100 * threshold)}"
            mean = mean_interval(list(metric_values(results, side.own(results), side.setting(results), metric)))
            gain = None if side == BASELINE else difference(results, side, BASELINE, metric)
            records.append(
                {
                    "step": key,
                    "label": label,
                    "threshold": threshold,
                    "AP": mean.mean,
                    "half_width": mean.half_width,
                    "difference": gain.mean if gain else 0.0,
                    "difference_half_width": gain.half_width if gain and gain.decides else None,
                }
            )
    data = pd.DataFrame(records)
    require_some(data["AP"], NO_AP)
    return data


def draw(data: pd.DataFrame) -> Figure:
    """AP on the left, the difference to Faster R-CNN on the right."""
    figure, (left, right) = panels(2, height=3.7)
    handles = []
    steps = list(dict.fromkeys(data["step"]))
    for index, step in enumerate(steps):
        own = data[data["step"] == step]
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
        shift = 0.007 * (index - len(steps) / 2)
        right.errorbar(own["threshold"] + shift, own["difference"], yerr=half_widths(own["difference_half_width"]),
                       elinewidth=0.9, ecolor=to_rgba(STEP_COLOURS[step], 0.55), **style)  # fmt: skip
    left.set(title="AP by IoU threshold", xlabel="IoU threshold", ylabel="AP")
    right.set(title="Difference to Faster R-CNN", xlabel="IoU threshold", ylabel="points of AP")
    right.yaxis.set_major_formatter(signed_tick)
    for panel in (left, right):
        panel.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9])
    legend_below(figure, handles, len(handles))
    return figure


def make(results: Results) -> Illustration:
    """The figure."""
    data = frame(results)
    last = data[data["step"] == data["step"].iloc[-1]]
    alt = (
        "Line charts by IoU threshold: AP of Faster R-CNN and of the three steps of IoU-Net, and their difference to "
        "Faster R-CNN. With all steps the difference is "
    )
    ends = last.iloc[[0, -1]]
    alt += " and ".join(
        f"{format_number(row['difference'], signed=True)} points at {row['threshold']:g}" for _, row in ends.iterrows()
    )
    caption = (
        f"Steps of the ablation on `{FIRST_VERSION.own(results)}`; refinement at "
        f"{results.suite.scale.step(PAPER_STEP)}. {whiskers_note(results.suite.seeds)}"
    )
    return Illustration("thresholds", "AP by IoU threshold", caption, alt + ".", lambda: draw(data), data)

"""AP of the same checkpoints with RoIAlign in place of the pooling that they were trained with."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from reports.comparison import difference
from reports.figures.dots import draw_dots
from reports.figures.figure import Illustration, whiskers_note
from reports.results.collect import Results
from reports.results.pooling import MeasuredPooling, setting_label

METRICS = ("AP", "AP90")


def frame(results: Results, measured: MeasuredPooling) -> pd.DataFrame:
    """`metric, setting, pooling, label, difference, half_width`: in points, to Precise RoI Pooling."""
    records = []
    for metric in METRICS:
        for side in measured.sides:
            for pooling in measured.poolings:
                found = difference(results, replace(side, pooling=pooling), side, metric)
                place = {"metric": metric, "setting": setting_label(side), "pooling": pooling}
                half = found.half_width if found.decides else None
                label = measured.label(pooling)
                records.append({**place, "label": label, "difference": found.mean, "half_width": half})
    return pd.DataFrame(records)


def make(results: Results, measured: MeasuredPooling) -> Illustration:
    """The figure."""
    data = frame(results, measured)
    own = data[data["metric"] == METRICS[0]]
    parts = [
        f"{label} {rows['difference'].min():+.2f} to {rows['difference'].max():+.2f}"
        for label, rows in own.groupby("label", sort=False)
    ]
    alt = f"Dot charts of the difference in {' and '.join(METRICS)} to PrRoIPool. {METRICS[0]} over the settings: "
    alt += "; ".join(parts).replace("-", "\u2212") + "."
    caption = (
        "The same checkpoints, trained with PrRoIPool, with RoIAlign in their box head and IoU head at inference. "
        f"{whiskers_note(results.suite.seeds)}"
    )
    title = "AP with RoIAlign in place of PrRoIPool"
    return Illustration(
        "pooling_accuracy", title, caption, alt, lambda: draw_dots(data, "points more than with PrRoIPool"), data
    )

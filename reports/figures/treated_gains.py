"""What guided NMS and refinement add to the boxes of each detector."""

from __future__ import annotations

import pandas as pd

from reports.comparison import difference
from reports.figures.dots import draw_dots
from reports.figures.figure import Illustration, whiskers_note
from reports.results.collect import Results
from reports.results.treated import Treated, TreatedSide
from reports.tables.table import format_number
from suite.treatments import PLAIN

METRICS = ("AP", "AP50", "AP90")


def frame(results: Results, treated: Treated) -> pd.DataFrame:
    """`metric, setting, detector, label, difference, half_width`: in points, to the detector's own NMS."""
    records = []
    for metric in METRICS:
        for setting, treatment in list(treated.rows.items())[1:]:
            for detector, label in treated.labels.items():
                found = difference(results, TreatedSide(detector, treatment), TreatedSide(detector, PLAIN), metric)
                place = {"metric": metric, "setting": setting, "detector": detector, "label": label}
                half = found.half_width if found.decides else None
                records.append({**place, "difference": found.mean, "half_width": half})
    return pd.DataFrame(records)


def make(results: Results, treated: Treated) -> Illustration:
    """The figure."""
    data = frame(results, treated)
    parts = []
    for (label, metric), own in data.groupby(["label", "metric"], sort=False):
        values = ", ".join(format_number(value, 2, signed=True) for value in own["difference"])
        parts.append(f"{label}, {metric}: {values}")
    order = ", ".join(dict.fromkeys(data["setting"]))
    alt = (
        f"Dot charts of the difference in {', '.join(METRICS)} to the detector's own NMS. In the order {order}: "
        f"{'; '.join(parts)}."
    )
    caption = f"The rows of the table of differences. {whiskers_note(results.suite.seeds)}"
    title = "What the refiner adds to each detector's own NMS"
    return Illustration("treatment_gains", title, caption, alt, lambda: draw_dots(data, "points"), data)

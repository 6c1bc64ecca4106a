"""Improvement of IoU-Net over Faster R-CNN by metric: published numbers beside this run's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from drawing.legend import plain_texts
from reports.comparison import difference
from reports.figures.axes import half_widths, signed_tick
from reports.figures.figure import NO_AP, Illustration, require_some, whiskers_note
from reports.figures.style import BLUE, GREY, INK, MARKERS, ORANGE, panels
from reports.results.collect import Results
from reports.results.published import Published
from reports.results.sides import BASELINE, FIRST_VERSION, THIS_RUN
from reports.tables.accuracy import STRICTNESS
from reports.tables.cells import IMPROVEMENT
from reports.tables.table import format_number

SOURCE_COLOURS = (GREY, ORANGE, BLUE)


def frame(results: Results, published: Mapping[str, Published]) -> pd.DataFrame:
    """The improvement rows of the main table: `source, metric, value, half_width` in points.

    Raises:
        NotInSuite: the suite lacks one of the two models.
        MissingResult: an evaluation file is missing.
        NothingToShow: neither model found anything.
    """
    sides = (FIRST_VERSION, BASELINE)
    require_some([list(side.per_seed(results, "AP").values()) for side in sides], NO_AP)
    records = [
        {
            "source": source.name,
            "metric": metric,
            "value": source.value("main", IMPROVEMENT, metric),
            "half_width": None,
        }
        for source in published.values()
        for metric in STRICTNESS
    ]
    for metric in STRICTNESS:
        gain = difference(results, FIRST_VERSION, BASELINE, metric)
        half = gain.half_width if gain.decides else None
        records.append({"source": THIS_RUN, "metric": metric, "value": gain.mean, "half_width": half})
    return pd.DataFrame(records)


def draw(data: pd.DataFrame) -> Figure:
    """A dot per source and metric, with a bar from 0."""
    figure, (panel,) = panels(1, width=7.6, height=3.6)
    metrics, sources = list(dict.fromkeys(data["metric"])), list(dict.fromkeys(data["source"]))
    panel.axhline(0, color=INK, linewidth=1.0)
    if metrics[0] == "AP":
        panel.axvline(0.5, color=GREY, linewidth=0.8, linestyle=(0, (2, 3)))
    for index, source in enumerate(sources):
        own = data[data["source"] == source].set_index("metric").loc[metrics]
        x = np.arange(len(metrics)) + 0.22 * (index - (len(sources) - 1) / 2)
        colour = SOURCE_COLOURS[index % len(SOURCE_COLOURS)]
        value, half = own["value"].astype(float).to_numpy(), half_widths(own["half_width"])
        panel.vlines(x, 0, value, color=colour, linewidth=2.2, alpha=0.35)
        if half is not None:
            panel.errorbar(x, value, yerr=half, fmt="none", ecolor=colour, elinewidth=1.1, capsize=3)
        panel.plot(x, value, linestyle="", marker=MARKERS[index], markersize=6.5, color=colour, label=source)
    panel.set_xticks(np.arange(len(metrics)), metrics)
    panel.set(title="Improvement over Faster R-CNN", ylabel="points of AP")
    panel.yaxis.set_major_formatter(signed_tick)
    panel.grid(axis="x", visible=False)
    plain_texts(panel.legend(loc="best"))
    return figure


def make(results: Results, published: Mapping[str, Published]) -> Illustration:
    """The figure."""
    data = frame(results, published)
    parts = [
        f"{source}: "
        + ", ".join(f"{row['metric']} {format_number(row['value'], signed=True)}" for _, row in rows.iterrows())
        for source, rows in data.groupby("source", sort=False)
    ]
    alt = "Dot chart of the improvement of IoU-Net over Faster R-CNN in points. " + "; ".join(parts) + "."
    caption = (
        f"The improvement rows of the main result. {whiskers_note(results.suite.seeds)} The publications give none."
    )
    title = "Improvement over Faster R-CNN, by IoU threshold"
    return Illustration("improvement", title, caption, alt, lambda: draw(data), data)

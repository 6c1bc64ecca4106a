"""Time of inference relative to Faster R-CNN: published numbers beside this run's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from drawing.legend import plain_texts
from reports.figures.figure import Illustration
from reports.figures.style import BLUE, GREY, INK, MARKERS, ORANGE, SKY, panels
from reports.results.collect import Results
from reports.results.published import Published
from reports.results.speeds import own_label, timed_blocks

SOURCE_COLOURS = (ORANGE, BLUE, SKY, GREY)


def frame(results: Results, published: Mapping[str, Published]) -> pd.DataFrame:
    """The ratios to Faster R-CNN: `source, key, label, ratio`; ours also `q1, q3, without_pooling`."""
    source = published["reproduction"]
    rows = source.table("speed")["rows"]
    base = rows["faster_rcnn"]["latency_ms"]
    records = [
        {"source": source.name, "key": key, "label": row["label"], "ratio": row["latency_ms"] / base}
        for key, row in rows.items()
    ]
    for block in timed_blocks(results):
        for key, row in block.rows.items():
            label = rows[key]["label"] if key in rows else own_label(results, block.timed)
            quartiles = {name: row["ratio"][name] for name in ("q1", "q3")}
            without = row["ratio_without_pooling"]["median"]
            ratio = {"ratio": row["ratio"]["median"], **quartiles, "without_pooling": without}
            records.append({"source": block.group, "key": key, "label": label, **ratio})
    return pd.DataFrame(records, columns=["source", "key", "label", "ratio", "q1", "q3", "without_pooling"])


def draw(data: pd.DataFrame) -> Figure:
    """A dot per source and row of the speed table, with a bar from 1."""
    figure, (panel,) = panels(1, width=7.6, height=3.4)
    labels, sources = list(dict.fromkeys(data["label"])), list(dict.fromkeys(data["source"]))
    panel.axvline(1, color=INK, linewidth=1.0)
    for index, source in enumerate(sources):
        own = data[data["source"] == source]
        y = own["label"].map(labels.index).to_numpy() + 0.2 * (index - (len(sources) - 1) / 2)
        colour, marker = SOURCE_COLOURS[index % len(SOURCE_COLOURS)], MARKERS[index % len(MARKERS)]
        panel.hlines(y, 1, own["ratio"], color=colour, linewidth=2.2, alpha=0.35)
        panel.hlines(y, own["q1"], own["q3"], color=colour, linewidth=1.1)
        style: dict[str, Any] = {"linestyle": "", "marker": marker, "markersize": 6, "color": colour}
        panel.plot(own["without_pooling"], y, markerfacecolor="white", **style)
        panel.plot(own["ratio"], y, label=source, **style)
    panel.set_yticks(np.arange(len(labels)), labels)
    panel.invert_yaxis()
    panel.set(title="Time of inference", xlabel="ratio to Faster R-CNN")
    panel.grid(axis="y", visible=False)
    plain_texts(panel.legend(loc="best"))
    return figure


def make(results: Results, published: Mapping[str, Published]) -> Illustration:
    """The figure."""
    data = frame(results, published)
    ends = data[data["key"] == "refine"]
    alt = "Dot chart of the time of inference relative to Faster R-CNN. With all of IoU-Net: "
    alt += ", ".join(f"{row['source']} {row['ratio']:.2f}" for _, row in ends.iterrows()) + "."
    caption = (
        "Time per image, Faster R-CNN = 1. Thin bars span the quartiles over rounds; the publication gives none. "
        "Hollow: with the pooling of the proposals taken out of both sides."
    )
    title = "Time of inference relative to Faster R-CNN"
    return Illustration("speed", title, caption, alt, lambda: draw(data), data)

"""Results from hand-made numbers."""

from pathlib import Path

import pandas as pd

from reports.results.collect import Results
from reports.results.readers import METRICS
from suite.suite import Suite

ABLATION = {
    ("faster_rcnn", "off"): (70.0, 71.0, 72.0),
    ("samp1000_lw5.0", "off"): (70.5, 71.5, 72.5),
    ("samp1000_lw5.0", "rank"): (71.0, 72.0, 74.0),
    ("samp1000_lw5.0", "rank_refine0.25"): (73.0, 72.0, 74.0),
}


def results_of(values: dict[tuple[str, str], tuple[float, ...]], suite: Suite, stale: str = "") -> Results:
    """Results from AP in points by (variant, setting), one per seed; AP90 is 40 below, everything else equals AP."""
    rows = [
        {
            "variant": variant,
            "seed": seed,
            "split": "val",
            "setting": setting,
            **dict.fromkeys(METRICS, ap / 100),
            "AP90": (ap - 40) / 100,
            "source": f"evaluations/{variant}/seed{seed}/val/{setting}.json",
            "images": 100,
            "stale": stale if variant == "faster_rcnn" else "",
        }
        for (variant, setting), aps in values.items()
        for seed, ap in enumerate(aps)
    ]
    return Results(suite, Path("results/shapes"), pd.DataFrame(rows), pd.DataFrame(), pd.DataFrame(), None)

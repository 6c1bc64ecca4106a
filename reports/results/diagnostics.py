"""The diagnostics of IoU-Nets as frames: which there are, and how confidences go with the true IoU.

A box's *true* IoU is its IoU with the nearest object of its class.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.results.collect import Results
from reports.results.sides import IOUNET

CONFIDENCES = {"class_score": "class score", "predicted_iou": "predicted IoU"}
CORRELATIONS = ("pearson", "spearman")


def rows_of(results: Results, variant: str | None = None) -> list[dict[str, Any]]:
    """The rows of `Results.diagnostics`; those of one variant, if it is named."""
    rows: list[Any] = results.diagnostics.to_dict("records")
    return [row for row in rows if variant in (None, row["variant"])]


def shown_variant(results: Results) -> str:
    """The variant whose boxes are looked at closely.

    It is the one that stands for the published first version, else the first with diagnostics.
    """
    found = list(dict.fromkeys(results.diagnostics["variant"]))
    main = results.suite.roles.get(IOUNET)
    return main if main is not None and main in found else found[0]


def missing(results: Results) -> list[str]:
    """Evaluated IoU-Nets without diagnostics, as `variant (seeds)`."""
    if results.evaluations.empty:
        return []
    there = {(row["variant"], row["seed"]) for row in rows_of(results)}
    evaluated = results.evaluations[results.evaluations["guide"].notna()]
    without: dict[str, list[str]] = {}
    for pair in dict.fromkeys(zip(evaluated["variant"], evaluated["seed"], strict=True)):
        if pair not in there:
            without.setdefault(pair[0], []).append(str(pair[1]))
    return [f"{variant} (seed {', '.join(seeds)})" for variant, seeds in without.items()]


def correlations(results: Results) -> pd.DataFrame:
    """Correlation of each confidence with the true IoU: `variant, seed, confidence, pearson, spearman`."""
    return pd.DataFrame(
        {
            "variant": row["variant"],
            "seed": row["seed"],
            "confidence": name,
            **{kind: row["data"]["confidence"][key][kind] for kind in CORRELATIONS},
        }
        for row in rows_of(results)
        for key, name in CONFIDENCES.items()
    ).astype({"pearson": float, "spearman": float})

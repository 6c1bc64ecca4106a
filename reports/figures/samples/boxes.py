"""The boxes on an image: its objects, and what a model found there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.errors import ReportError
from reports.results.collect import Results
from reports.results.files import need, read_json
from reports.results.sides import Side

SCORE_SHOWN = 0.3  # detections below are not drawn


@dataclass(frozen=True)
class Boxes:
    """Boxes on one image.

    Attributes:
        boxes: Float[N, 4], (x, y, w, h) in pixels.
        labels: what is written on each; empty on ground truth.
        true_ious: Float[N], best IoU with an object of the box's class.
    """

    boxes: NDArray[np.float64]
    categories: tuple[int, ...]
    labels: tuple[str, ...]
    true_ious: NDArray[np.float64]


def box_iou(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of boxes as (x, y, w, h): Float[N, 4] × Float[M, 4] → Float[N, M]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    overlap = np.clip(high - low, 0, None).prod(axis=2)
    union = boxes[:, 2:].prod(axis=1)[:, None] + others[:, 2:].prod(axis=1)[None] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def shown_detections(results: Results, sides: Iterable[Side], seed: int) -> list[Mapping[int, pd.DataFrame]]:
    """Of each side the detections with a score of at least `SCORE_SHOWN`, by image: `category_id, bbox, score, iou`.

    Raises:
        NotInSuite: the suite lacks a variant or a setting.
        MissingResult: an evaluation or its detections are missing.
        ReportError: a file lacks the setting.
    """
    read = functools.cache(read_json)  # sides may be settings of one large file
    return [_shown(results, side, seed, read) for side in sides]


def _shown(results: Results, side: Side, seed: int, read: Callable[[Path], Any]) -> Mapping[int, pd.DataFrame]:
    setting = side.setting(results)
    results.evaluation(side.own(results), seed, setting)
    path = results.layout.evaluation(side.own(results), seed, results.suite.report_split).detections
    # setting names contain dots, so no dotted key here
    settings = need(read(path), "settings", path)
    if setting not in settings:
        raise ReportError(f"{path}: key 'settings' has no setting '{setting}'")
    columns = settings[setting]
    table = pd.DataFrame({key: columns[key] for key in ("image_id", "category_id", "bbox", "score", "iou")})
    shown = table[table["score"] >= SCORE_SHOWN]
    return {int(own["image_id"].iloc[0]): own for _, own in shown.groupby("image_id")}


def truth_on(annotations: Sequence[Mapping[str, Any]], image_id: int) -> Boxes:
    """The objects on one image."""
    own = [entry for entry in annotations if entry["image_id"] == image_id and not entry.get("iscrowd")]
    boxes = np.asarray([entry["bbox"] for entry in own], dtype=float).reshape(-1, 4)
    categories = tuple(entry["category_id"] for entry in own)
    return Boxes(boxes, categories, ("",) * len(boxes), np.ones(len(boxes)))


def boxes_on(detections: Mapping[int, pd.DataFrame], image_id: int, truth: Boxes) -> Boxes:
    """The detections on one image, and each one's best IoU with an object of its class."""
    if image_id not in detections:
        return Boxes(np.zeros((0, 4)), (), (), np.zeros(0))
    own = detections[image_id]
    boxes, categories = np.asarray(own["bbox"].tolist(), dtype=float), own["category_id"].to_numpy()
    overlaps = np.where(categories[:, None] == np.asarray(truth.categories), box_iou(boxes, truth.boxes), 0.0)
    labels = tuple(map(_label, own["score"], own["iou"]))
    return Boxes(boxes, tuple(categories.tolist()), labels, overlaps.max(axis=1, initial=0.0))


def _label(score: float, iou: float | None) -> str:
    return f"{score:.2f}" if iou is None or np.isnan(iou) else f"{score:.2f} · {iou:.2f}"

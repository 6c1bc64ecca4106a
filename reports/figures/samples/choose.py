"""Sample detections: the images that are shown, and the boxes on them.

The images are chosen by rule, never by eye: some evenly spaced through the split, and some evenly spaced among the
images where the IoU-Net makes a mistake, so that typical failures are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.errors import ReportError
from reports.results.annotations import read_annotations
from reports.results.collect import Results
from reports.results.files import need, read_json
from reports.results.matches import Matches
from reports.results.sides import Side
from suite.images import read_image

PER_BAND = 4
SCORE_SHOWN = 0.3  # detections below are not drawn
STRICT = 0.75  # a box placed worse than this is drawn dashed, and counts as a mistake when images are chosen


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


@dataclass(frozen=True)
class Sample:
    """One image of the sheet; `pixels` UInt8[H, W, 3], `found` the boxes of each model."""

    image_id: int
    pixels: NDArray[np.uint8]
    truth: Boxes
    found: tuple[Boxes, ...]


@dataclass(frozen=True)
class Sheet:
    """What is drawn: `typical` evenly spaced images, `failures` among those where the last model makes a mistake."""

    models: tuple[str, ...]
    typical: tuple[Sample, ...]
    failures: tuple[Sample, ...]
    category_names: Mapping[int, str]
    seed: int


def evenly(items: Sequence[int], count: int) -> list[int]:
    """`count` items evenly spaced through a sequence, without its ends where there is room."""
    if len(items) <= count:
        return list(items)
    return [items[int((index + 0.5) * len(items) / count)] for index in range(count)]


def images_with_mistakes(matches: Matches, threshold: float = STRICT, score: float = SCORE_SHOWN) -> list[int]:
    """Ids of images with a missed or badly placed object, or a spurious box, among the detections shown.

    Args:
        matches: of the model whose mistakes are looked for.
        threshold: IoU from which a box counts as well placed; must be one of the matches' thresholds.
        score: detections below are not looked at.
    """
    t = int(np.argmin(np.abs(np.asarray(matches.iou_thresholds) - threshold)))
    shown = (matches.score >= score) & ~matches.ignored[:, t]
    hits = np.bincount(matches.image[shown & matches.matched[:, t]], minlength=len(matches.image_ids))
    spurious = np.bincount(matches.image[shown & ~matches.matched[:, t]], minlength=len(matches.image_ids))
    wrong = (hits < matches.ground_truth.sum(axis=1)) | (spurious > 0)
    return [matches.image_ids[index] for index in np.flatnonzero(wrong)]


def box_iou(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of boxes as (x, y, w, h): Float[N, 4] × Float[M, 4] → Float[N, M]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    overlap = np.clip(high - low, 0, None).prod(axis=2)
    union = boxes[:, 2:].prod(axis=1)[:, None] + others[:, 2:].prod(axis=1)[None] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def load_sheet(results: Results, models: Mapping[str, Side], failures: bool) -> Sheet:
    """Choose the images and read their boxes, for the suite's first seed.

    Args:
        results: the results.
        models: name in the sheet to what it is.
        failures: whether images where the last of them makes a mistake are chosen, too.

    Raises:
        NotInSuite: the suite lacks one of the models, or the annotations are not among the results.
        MissingResult: a detections or matches file is missing.
        ReportError: an image or a setting is missing in a file that should have it.
        SuiteError: an image file is missing or damaged.
    """
    seed, folder = results.suite.seeds[0], results.layout.data.images(results.suite.report_split)
    detections = [_detections(results, side, seed) for side in models.values()]
    coco = read_annotations(results)
    files = {entry["id"]: folder / entry["file_name"] for entry in coco["images"]}
    typical, wrong = evenly(sorted(files), PER_BAND), []
    if failures:
        last = list(models.values())[-1]
        mistakes = images_with_mistakes(results.matches(last.own(results), seed, last.setting(results)))
        wrong = evenly([image for image in mistakes if image not in typical], PER_BAND)

    def sample(image_id: int) -> Sample:
        if image_id not in files:
            raise ReportError(f"{folder}: no image {image_id} in its annotations, which the evaluations name")
        truth = _truth_on(coco["annotations"], image_id)
        found = tuple(_boxes_on(own, image_id, truth) for own in detections)
        return Sample(image_id, read_image(files[image_id]), truth, found)

    names = {entry["id"]: entry["name"] for entry in coco["categories"]}
    return Sheet(tuple(models), tuple(map(sample, typical)), tuple(map(sample, wrong)), names, seed)


def _detections(results: Results, side: Side, seed: int) -> Mapping[str, Any]:
    setting = side.setting(results)
    results.evaluation(side.own(results), seed, setting)
    path = results.layout.evaluation(side.own(results), seed, results.suite.report_split).detections
    # setting names contain dots, so no dotted key here
    settings = need(read_json(path), "settings", path)
    if setting not in settings:
        raise ReportError(f"{path}: key 'settings' has no setting '{setting}'")
    return settings[setting]


def _truth_on(annotations: Sequence[Mapping[str, Any]], image_id: int) -> Boxes:
    """The objects on one image."""
    own = [entry for entry in annotations if entry["image_id"] == image_id and not entry.get("iscrowd")]
    boxes = np.asarray([entry["bbox"] for entry in own], dtype=float).reshape(-1, 4)
    categories = tuple(entry["category_id"] for entry in own)
    return Boxes(boxes, categories, ("",) * len(boxes), np.ones(len(boxes)))


def _boxes_on(columns: Mapping[str, Any], image_id: int, truth: Boxes) -> Boxes:
    """The detections shown on one image, and each one's best IoU with an object of its class."""
    rows = [
        row
        for row, (image, score) in enumerate(zip(columns["image_id"], columns["score"], strict=True))
        if image == image_id and score >= SCORE_SHOWN
    ]
    boxes = np.asarray([columns["bbox"][row] for row in rows], dtype=float).reshape(-1, 4)
    categories = tuple(columns["category_id"][row] for row in rows)
    same = np.asarray(categories).reshape(-1, 1) == np.asarray(truth.categories).reshape(1, -1)
    overlaps = np.where(same, box_iou(boxes, truth.boxes), 0.0)
    return Boxes(
        boxes,
        categories,
        tuple(_label(columns["score"][row], columns["iou"][row]) for row in rows),
        overlaps.max(axis=1, initial=0.0),
    )


def _label(score: float, iou: float | None) -> str:
    return f"{score:.2f}" if iou is None else f"{score:.2f} · IoU {iou:.2f}"

"""Sample detections: the images that are shown.

The images are chosen by rule, never by eye: some evenly spaced through the split, and some evenly spaced among the
images where the IoU-Net makes a mistake, so that typical failures are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.errors import ReportError
from reports.figures.samples.boxes import SCORE_SHOWN, Boxes, boxes_on, shown_detections, truth_on
from reports.results.annotations import image_files, read_annotations
from reports.results.collect import Results
from reports.results.matches import Matches
from reports.results.sides import Side
from suite.images import read_image

PER_BAND = 4
STRICT = 0.75  # a box placed worse than this is drawn dashed, and counts as a mistake when images are chosen


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
    seed = results.suite.seeds[0]
    detections = shown_detections(results, models.values(), seed)
    coco = read_annotations(results)
    files = image_files(results, coco)
    typical, wrong = evenly(sorted(files), PER_BAND), []
    if failures:
        last = list(models.values())[-1]
        mistakes = images_with_mistakes(results.matches(last.own(results), seed, last.setting(results)))
        wrong = evenly([image for image in mistakes if image not in typical], PER_BAND)

    def sample(image_id: int) -> Sample:
        if image_id not in files:
            folder = results.layout.data.images(results.suite.report_split)
            raise ReportError(f"{folder}: no image {image_id} in its annotations, which the evaluations name")
        truth = truth_on(coco["annotations"], image_id)
        found = tuple(boxes_on(own, image_id, truth) for own in detections)
        return Sample(image_id, read_image(files[image_id]), truth, found)

    names = {entry["id"]: entry["name"] for entry in coco["categories"]}
    return Sheet(tuple(models), tuple(map(sample, typical)), tuple(map(sample, wrong)), names, seed)

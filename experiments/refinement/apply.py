"""A refiner applied to detections: batch by batch, holding a few numbers of each detection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.data.names import composed
from experiments.refinement.annotations import Annotations
from experiments.refinement.results import Results
from experiments.refinement.stage import BEFORE
from iounet.refiner import IoURefiner
from suite.errors import SuiteError
from suite.images import read_image

PIXEL_DIGITS, SCORE_DIGITS = 3, 6


@dataclass(frozen=True)
class Options:
    """How boxes are refined; see `iounet.refiner.IoURefiner.refine`.

    Attributes:
        stage: one of `experiments.refinement.stage.STAGES`: what the boxes are said to be.
        guide: of NMS, for boxes before it.
        iou_threshold: of the NMS that is to be done, or was.
        score_threshold: boxes with lower class scores are dropped first.
        max_per_image: boxes of an image that are refined; the others are dropped.
        step_size: λ in pixels of the network's input; None = the refiner's.
        num_steps: largest number of steps.
        rescore: multiply the class scores with the predicted IoUs.
    """

    stage: str
    guide: str = "rank"
    iou_threshold: float = 0.5
    score_threshold: float = 0.0
    max_per_image: int = 100
    step_size: float | None = None
    num_steps: int = 5
    rescore: bool = True

    def arguments(self) -> dict[str, Any]:
        """Of `IoURefiner.refine`."""
        return {
            "guide": self.guide if self.stage == BEFORE else None,
            "iou_threshold": self.iou_threshold,
            "score_threshold": self.score_threshold,
            "max_per_image": self.max_per_image,
            "step_size": self.step_size,
            "num_steps": self.num_steps,
            "rescore": self.rescore,
        }


def labels_of(
    annotations: Annotations, refiner: IoURefiner, used: Sequence[int], renamed: Mapping[str, str], source: str
) -> dict[int, int]:
    """The refiner's label of each class of the annotations that detections are of.

    Args:
        annotations: that name the classes.
        refiner: that knows its own.
        used: classes of detections, by position.
        renamed: name in the annotations to the refiner's, where they differ.
        source: what messages call the refiner.

    Raises:
        SuiteError: the refiner knows no such class, or two classes would be one of its own.
    """
    if refiner.config["class_agnostic"]:
        return {position: position for position in used}
    for name in renamed:
        if composed(name) not in annotations.names:
            raise SuiteError(f"--category {name}=…: {annotations.path} has no class '{name}'")
    names = {composed(name): composed(own) for name, own in renamed.items()}
    known = {composed(name): label for label, name in enumerate(refiner.categories)}
    found: dict[int, int] = {}
    for position in used:
        own = annotations.names[position]
        label = known.get(names.get(own, own))
        if label is None:
            told = f"'{own}'" if own not in names else f"'{names[own]}' (--category {own}={names[own]})"
            raise SuiteError(
                f"{annotations.path}: class {told}, category_id {annotations.category_ids[position]!r}, is none of "
                f"{source}: it knows {_listed(refiner.categories)}. If it has another name there: --category "
                f"'{own}=NAME'; else leave detections of it out"
            )
        if label in found.values():
            other = next(key for key, value in found.items() if value == label)
            raise SuiteError(
                f"classes '{annotations.names[other]}' and '{own}' are both '{refiner.categories[label]}' of {source}: "
                "each class needs one of its own; check --category"
            )
        found[position] = label
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:8]) + (f", … ({len(names)})" if len(names) > 8 else "")


@dataclass(frozen=True)
class Refined:
    """Refined detections, highest score first: M of them.

    Attributes:
        image: `int64[M]`, positions among the images of the annotations.
        category: `int64[M]`, positions among their classes.
        boxes: `float64[M, 4]` of (x1, y1, x2, y2), in pixels of the image, not clipped to it.
        scores: `float64[M]`, from 0 to 1.
        ious: `float64[M]`, predicted where the box is; it may lie somewhat outside [0, 1].
    """

    image: NDArray[Any]
    category: NDArray[Any]
    boxes: NDArray[Any]
    scores: NDArray[Any]
    ious: NDArray[Any]

    def rows(self, annotations: Annotations) -> Iterator[dict[str, Any]]:
        """In COCO's results format."""
        columns = (self.image, self.category, self.boxes, self.scores, self.ious)
        for image, category, (x1, y1, x2, y2), score, iou in zip(*(c.tolist() for c in columns), strict=True):
            yield {
                "image_id": annotations.image_ids[image],
                "category_id": annotations.category_ids[category],
                "bbox": [round(value, PIXEL_DIGITS) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(score, SCORE_DIGITS),
                "iou": round(iou, SCORE_DIGITS),
            }


def refine_results(
    refiner: IoURefiner,
    found: Results,
    annotations: Annotations,
    folder: Path,
    labels: Mapping[int, int],
    options: Options,
    *,
    batch_size: int = 8,
    progress: str | None = None,
) -> Refined:
    """Refines detections image by image.

    Args:
        refiner: in evaluation mode, on its device.
        found: the detections.
        annotations: of the images.
        folder: of the images.
        labels: of `labels_of`.
        options: how.
        batch_size: images at once; all of one size in the network's input.
        progress: label of a progress bar with the time left, None for none.

    Raises:
        SuiteError: an image cannot be read, or has another size than the annotations say.
    """
    from tqdm import tqdm

    categories = {label: category for category, label in labels.items()}
    columns: list[tuple[int, Any]] = []
    total = len(np.unique(found.image))
    with tqdm(total=total, desc=progress, disable=progress is None, unit="image") as bar:
        for batch in _batches(refiner, found, annotations, batch_size):
            images = [_pixels(annotations, folder, image) for image, _ in batch]
            refined = refiner.refine(
                images,
                [torch.from_numpy(found.boxes[rows]) for _, rows in batch],
                [torch.from_numpy(found.scores[rows]) for _, rows in batch],
                [torch.tensor([labels[category] for category in found.category[rows].tolist()]) for _, rows in batch],
                **options.arguments(),
            )
            columns += [(image, own) for (image, _), own in zip(batch, refined, strict=True)]
            bar.update(len(batch))
    columns.sort(key=lambda one: one[0])
    scores = np.concatenate([own.scores.double().numpy() for _, own in columns]).clip(0, 1)
    order = np.argsort(-scores, kind="stable")
    label = np.concatenate([own.labels.numpy() for _, own in columns])
    return Refined(
        np.repeat([image for image, _ in columns], [len(own.scores) for _, own in columns])[order],
        np.array([categories[one] for one in label.tolist()], np.int64)[order],
        np.concatenate([own.boxes.double().numpy() for _, own in columns])[order],
        scores[order],
        np.concatenate([own.ious.double().numpy() for _, own in columns])[order],
    )


def _batches(
    refiner: IoURefiner, found: Results, annotations: Annotations, batch_size: int
) -> Iterator[list[tuple[int, Any]]]:
    """Images and their entries, so many at once as fit beside each other without being padded."""
    waiting: dict[tuple[int, int], list[tuple[int, Any]]] = {}
    for image, rows in found.by_image():
        width, height = annotations.sizes[image]
        batch = waiting.setdefault(refiner.padded(height, width), [])
        batch.append((image, rows))
        if len(batch) == batch_size:
            yield batch
            batch.clear()
    yield from filter(None, waiting.values())


def _pixels(annotations: Annotations, folder: Path, image: int) -> Tensor:
    file = annotations.file(folder, image)
    pixels = read_image(file)
    height, width = pixels.shape[:2]
    if (width, height) != annotations.sizes[image]:
        said = " x ".join(map(str, annotations.sizes[image]))
        raise SuiteError(
            f"{file} is of {width} x {height} pixels, {annotations.path} says {said} (image_id "
            f"{annotations.image_ids[image]!r}): the boxes are of another image, or of one that is scaled or turned"
        )
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)

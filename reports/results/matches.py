"""AP of many resampled image sets at once, from matches made once.

A resample of the images changes how often each image counts, not which detection matches which ground truth: so AP of a
resample is a weighted sum over the same matches. Shapes: B resamples, I images, K categories, D detections,
T IoU thresholds, R = 101 recall points.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.errors import ReportError
from reports.results.files import read_json

RECALL_POINTS = np.linspace(0.0, 1.0, 101)
CHUNK = 500_000  # elements of the largest array that a thread holds at a time: it fits a cache
AGREEMENT = 1e-4  # AP of a matches file against the AP beside it, in [0, 1]


@dataclass(frozen=True)
class Matches:
    """Detections of one evaluation and what they matched (area: all, at most 100 detections per image).

    Attributes:
        image, category: Int[D], indices into `image_ids` and `category_ids`.
        score: Float[D].
        matched, ignored: Bool[D, T], per IoU threshold.
        ground_truth: Int[I, K], ground-truth boxes that count.
    """

    image_ids: tuple[int, ...]
    category_ids: tuple[int, ...]
    iou_thresholds: tuple[float, ...]
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    score: NDArray[np.float64]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    ground_truth: NDArray[np.int64]

    def of_class(self, category_id: int) -> Matches:
        """The matches of one category alone, over the same images."""
        index = self.category_ids.index(category_id)
        own = self.category == index
        return replace(
            self,
            category_ids=(category_id,),
            image=self.image[own],
            category=np.zeros(int(own.sum()), dtype=np.int64),
            score=self.score[own],
            matched=self.matched[own],
            ignored=self.ignored[own],
            ground_truth=self.ground_truth[:, [index]],
        )

    @staticmethod
    def from_json(data: Any, path: Path) -> Matches:
        """Read the contents of a `<setting>.matches.json.gz`; `path` is for error messages.

        Raises:
            ReportError: a key is missing, or lengths and indices do not fit together.
        """
        try:
            found = data["detections"]
            images, categories = tuple(data["image_ids"]), tuple(data["category_ids"])
            thresholds = tuple(float(t) for t in data["iou_thresholds"])
            bits = np.arange(len(thresholds))
            masks = {key: np.asarray(found[key], dtype=np.int64) for key in ("image", "category", "matched", "ignored")}
            score = np.asarray(found["score"], dtype=np.float64)
            truth = np.asarray(data["ground_truth"], dtype=np.int64).reshape(len(images), len(categories))
        except KeyError as error:
            raise ReportError(f"{path}: damaged: key {error} is missing") from None
        except (TypeError, ValueError) as error:
            raise ReportError(f"{path}: damaged: {error}") from None
        if {len(mask) for mask in masks.values()} != {len(score)}:
            raise ReportError(f"{path}: damaged: the lists under 'detections' differ in length")
        for key, size in (("image", len(images)), ("category", len(categories))):
            if len(score) and not (masks[key].min() >= 0 and masks[key].max() < size):
                raise ReportError(f"{path}: damaged: 'detections.{key}' has an index outside 0…{size - 1}")
        return Matches(
            image_ids=images,
            category_ids=categories,
            iou_thresholds=thresholds,
            image=masks["image"],
            category=masks["category"],
            score=score,
            matched=(masks["matched"][:, None] >> bits & 1).astype(bool),
            ignored=(masks["ignored"][:, None] >> bits & 1).astype(bool),
            ground_truth=truth,
        )


def load_matches(path: Path, stated: float | None, where: str) -> Matches:
    """A matches file, checked against the AP in [0, 1] that an evaluation file, `where`, states.

    Raises:
        MissingResult: it does not exist.
        ReportError: it is damaged, or gives another AP.
    """
    matches = Matches.from_json(read_json(path), path)
    recomputed = float(average_precision(matches, whole(matches)).mean())
    if stated is None or abs(recomputed - stated) > AGREEMENT:
        shown = "null" if stated is None else f"{stated:.4f}"
        raise ReportError(f"{path}: AP {recomputed:.4f} from the matches, but metrics.AP is {shown} in {where}")
    return matches


def whole(matches: Matches) -> NDArray[np.int64]:
    """The weights of the set itself: every image once. Int[1, I]."""
    return np.ones((1, len(matches.image_ids)), dtype=np.int64)


def draw_image_weights(num_images: int, resamples: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each image occurs in each of `resamples` draws with replacement. Int[B, I]."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_images, np.full(num_images, 1 / num_images), size=resamples)


def metric_of(ap: NDArray[np.float64], thresholds: tuple[float, ...], metric: str) -> NDArray[np.float64]:
    """AP or AP at one threshold (AP50…AP95) from Float[B, T]; in [0, 1].

    Raises:
        ReportError: no such threshold among the matches.
    """
    if metric == "AP":
        return ap.mean(axis=1)
    for index, threshold in enumerate(thresholds):
        if metric == f"AP{round(100 * threshold)}":
            return ap[:, index]
    raise ReportError(f"metric {metric} cannot be computed from matches at IoU {thresholds}")


def average_precision(matches: Matches, image_weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """AP per IoU threshold of resampled image sets, by the COCO protocol (101 recall points).

    Equal to evaluating the resampled sets anew, an image that occurs n times entering as n images.

    Args:
        matches: the matches of the original set.
        image_weights: Int[B, I], how often each image occurs in each resample.

    Returns:
        Float[B, T] in [0, 1]: mean over the categories that have ground truth in the resample; NaN where none has.

    Raises:
        ReportError: the weights are not whole numbers ≥ 0, one per image.
    """
    weights = np.asarray(image_weights)
    if weights.ndim != 2 or weights.shape[1] != len(matches.image_ids):
        raise ReportError(f"image_weights must be [B, {len(matches.image_ids)}], found {list(weights.shape)}")
    if not np.issubdtype(weights.dtype, np.integer) or (weights < 0).any():
        raise ReportError("image_weights must be whole numbers >= 0")
    step = max(1, CHUNK // max(1, np.bincount(matches.category, minlength=1).max()))
    parts = [weights[start : start + step] for start in range(0, len(weights), step)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # numpy works without the interpreter's lock
        chunks = list(pool.map(partial(_average_precision, matches), parts))
    return np.concatenate(chunks) if chunks else np.empty((0, len(matches.iou_thresholds)))


def _average_precision(matches: Matches, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.zeros((len(weights), len(matches.iou_thresholds)))
    present = np.zeros((len(weights), 1))
    for category in range(len(matches.category_ids)):
        positives = weights @ matches.ground_truth[:, category]
        valid = positives > 0
        if not valid.any():
            continue
        found = np.flatnonzero(matches.category == category)
        # pycocotools: images in order, then a stable sort by falling score
        found = found[np.argsort(matches.image[found], kind="stable")]
        found = found[np.argsort(-matches.score[found], kind="stable")]
        ap = _category_ap(weights[:, matches.image[found]], matches.matched[found], matches.ignored[found], positives)
        total += np.where(valid[:, None], ap, 0.0)
        present += valid[:, None]
    return np.divide(total, present, out=np.full_like(total, np.nan), where=present > 0)


def _category_ap(
    weights: NDArray[np.int64],
    matched: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    positives: NDArray[np.int64],
) -> NDArray[np.float64]:
    """AP of one category, Float[B, T], from detections in order of falling score (weights: Int[B, D])."""
    resamples, thresholds = len(weights), matched.shape[1]
    result = np.zeros((resamples, thresholds))
    needed = _needed_true_positives(positives)
    # one long sorted array for all resamples: row b's counts are lifted by b * lift, above all of row b - 1's
    lift = int(positives.max()) + 2
    rows = np.arange(resamples)[:, None]
    counted_all = None
    for t in range(thresholds):
        counts = ~ignored[:, t]
        hits = np.flatnonzero(matched[:, t] & counts)
        if not len(hits):
            continue
        # Precision peaks right after a true positive: only those points can shape the envelope.
        if counts.all():
            if counted_all is None:
                counted_all = np.cumsum(weights, axis=1)
            seen = counted_all[:, hits]
        else:
            seen = np.cumsum(weights * counts, axis=1)[:, hits]
        true_positives = np.cumsum(weights[:, hits], axis=1)
        precision = true_positives / (seen + np.spacing(1))
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        flat = (true_positives + rows * lift).ravel()
        at = np.searchsorted(flat, (needed + rows * lift).ravel()).reshape(needed.shape) - rows * len(hits)
        reached = needed <= true_positives[:, -1:]
        at = np.minimum(at, len(hits) - 1)
        result[:, t] = np.where(reached, np.take_along_axis(envelope, at, axis=1), 0.0).mean(axis=1)
    return result


def _needed_true_positives(positives: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fewest true positives whose recall (in float64, as COCO has it) reaches each recall point. Int[B, R]."""
    totals, inverse = np.unique(positives, return_inverse=True)
    needed = np.zeros((len(totals), len(RECALL_POINTS)), dtype=np.int64)
    for row, total in enumerate(totals):
        if total > 0:
            needed[row] = np.searchsorted(np.arange(total + 1) / total, RECALL_POINTS)
    return needed[inverse]

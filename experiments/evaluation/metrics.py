"""Average precision by the COCO protocol, and the matches behind it."""

import contextlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from experiments.evaluation.matching import BoxEval

AREAS = {"APs": "small", "APm": "medium", "APl": "large"}
THRESHOLDS = {f"AP{t}": t / 100 for t in (50, 60, 70, 75, 80, 90)}


@dataclass
class DetectionColumns:
    """Detections of one inference setting over a split, column by column.

    Attributes:
        image_id: image of each detection.
        category_id: its COCO category.
        bbox: [x, y, w, h] in pixels of the original image.
        score: final score.
        iou: predicted IoU, None where the IoU branch was off.
    """

    image_id: list[int] = field(default_factory=list)
    category_id: list[int] = field(default_factory=list)
    bbox: list[list[float]] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    iou: list[float | None] = field(default_factory=list)

    @staticmethod
    def concatenate(parts: Iterable["DetectionColumns"]) -> "DetectionColumns":
        """The rows of all parts, in their order."""
        whole = DetectionColumns()
        for part in parts:
            for column in fields(part):
                getattr(whole, column.name).extend(getattr(part, column.name))
        return whole

    def columns(self) -> dict[str, list[Any]]:
        """The columns, coordinates rounded to 0.01 pixel and scores to 1e-5, for a file that people download."""
        return {
            "image_id": self.image_id,
            "category_id": self.category_id,
            "bbox": [[round(v, 2) for v in box] for box in self.bbox],
            "score": [round(s, 5) for s in self.score],
            "iou": [None if i is None else round(i, 5) for i in self.iou],
        }


@dataclass
class Evaluation:
    """What `evaluate_detections` returns.

    Attributes:
        metrics: AP, AP50 ... AP90, APs, APm, APl in [0, 1]; None where no ground truth defines it.
        per_class: AP by category name.
        matches: what a bootstrap over images resamples, in the layout of `<setting>.matches.json.gz`.
    """

    metrics: dict[str, float | None]
    per_class: dict[str, float | None]
    matches: dict[str, Any]


def load_ground_truth(path: str) -> COCO:
    """pycocotools' index of a COCO annotation file, without its chatter."""
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(path)


def evaluate_detections(ground_truth: COCO, detections: DetectionColumns, image_ids: list[int]) -> Evaluation:
    """COCO evaluation of detections on the given images (at most 100 detections per image).

    Raises:
        ValueError: a detection names an image or a category that the ground truth does not have.
    """
    _check_known("image", detections.image_id, image_ids)
    _check_known("category", detections.category_id, ground_truth.getCatIds())
    coco_eval = BoxEval(ground_truth, _results(ground_truth, detections), "bbox")
    coco_eval.params.imgIds = list(image_ids)
    _leave_out_the_unused(coco_eval.params, ground_truth)
    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval.evaluate()
        coco_eval.accumulate()
    params, precision = coco_eval.params, coco_eval.eval["precision"]  # precision: [T, R, K, A, M]
    areas = {name: i for i, name in enumerate(params.areaRngLbl)}
    metrics = {"AP": _mean(precision[:, :, :, areas["all"], -1])}
    for name, threshold in THRESHOLDS.items():
        t = int(np.flatnonzero(np.isclose(params.iouThrs, threshold))[0])
        metrics[name] = _mean(precision[t, :, :, areas["all"], -1])
    for name, area in AREAS.items():
        metrics[name] = _mean(precision[:, :, :, areas[area], -1]) if area in areas else None
    per_class = {
        ground_truth.cats[category]["name"]: _mean(precision[:, :, k, areas["all"], -1])
        for k, category in enumerate(params.catIds)
    }
    return Evaluation(metrics, per_class, _matches(coco_eval))


def _leave_out_the_unused(params: Any, ground_truth: COCO) -> None:
    """Only the limit of 100 detections, and only area ranges that have an object: what is left comes out the same."""
    images = set(params.imgIds)
    sizes = np.array([entry["area"] for entry in ground_truth.anns.values() if entry["image_id"] in images])
    kept = [i for i, (low, high) in enumerate(params.areaRng) if i == 0 or ((sizes >= low) & (sizes <= high)).any()]
    params.areaRng, params.areaRngLbl = [params.areaRng[i] for i in kept], [params.areaRngLbl[i] for i in kept]
    params.maxDets = [params.maxDets[-1]]


def _matches(coco_eval: BoxEval) -> dict[str, Any]:
    params = coco_eval.params
    bits = 1 << np.arange(len(params.iouThrs))
    images, categories = len(params.imgIds), len(params.catIds)
    columns: dict[str, list[Any]] = {"image": [], "category": [], "score": [], "matched": [], "ignored": []}
    counts = [[0] * categories for _ in range(images)]
    for k in range(categories):
        for i in range(images):
            entry = coco_eval.evalImgs[k * len(params.areaRng) * images + i]  # area range 0 is `all`
            if entry is None:
                continue
            counts[i][k] = int(np.sum(np.asarray(entry["gtIgnore"]) == 0))
            scores = [float(s) for s in entry["dtScores"]]
            columns["image"] += [i] * len(scores)
            columns["category"] += [k] * len(scores)
            columns["score"] += scores
            columns["matched"] += (bits @ (np.asarray(entry["dtMatches"]) > 0)).tolist() if scores else []
            columns["ignored"] += (bits @ np.asarray(entry["dtIgnore"], dtype=bool)).tolist() if scores else []
    return {
        "image_ids": [int(i) for i in params.imgIds],
        "category_ids": [int(c) for c in params.catIds],
        "iou_thresholds": [round(float(t), 2) for t in params.iouThrs],
        "detections": columns,
        "ground_truth": counts,
    }


def _results(ground_truth: COCO, detections: DetectionColumns) -> COCO:
    rows = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in zip(
            detections.image_id, detections.category_id, detections.bbox, detections.score, strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        if rows:
            return ground_truth.loadRes(rows)
        empty = COCO()
        empty.dataset = {**ground_truth.dataset, "annotations": []}
        empty.createIndex()
        return empty


def _mean(precision: np.ndarray) -> float | None:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None


def _check_known(what: str, found: list[int], known: list[int]) -> None:
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise ValueError(
            f"detections name {what} id {unknown[0]}, which is not among the {len(known)} of the ground truth"
        )

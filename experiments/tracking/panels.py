"""What an evaluation's W&B run shows beside its numbers, as plain data: charts, sample images.

A chart that is added to `charts` is logged; `dashboards` says where it is shown.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAMPLES, SHOWN, SHOWN_SCORE = 6, 15, 0.3  # images; boxes per image, and the score that one needs
THRESHOLDS = ("AP50", "AP60", "AP70", "AP75", "AP80", "AP90")

Curves = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Chart:
    """Lines over one axis.

    Attributes:
        title: of the chart.
        x: what its axis shows.
        curves: line's name to its points.
    """

    title: str
    x: str
    curves: Curves


def charts(results: Mapping[str, Mapping[str, Any]], diagnostics: Mapping[str, Any] | None) -> dict[str, Chart]:
    """The charts of an evaluation by the name that they are logged under.

    Args:
        results: setting's name to the contents of its JSON file.
        diagnostics: the contents of diagnostics.json; None for a detector without an IoU branch.
    """
    found = {"ap_by_threshold": Chart("AP by IoU threshold", "IoU threshold", threshold_curves(results))}
    if curves := lambda_curves(results):
        found["ap_by_lambda"] = Chart("AP by λ (0: no refinement)", "λ", curves)
    if diagnostics is not None:
        points, ideal = calibration_curve(diagnostics["confidence"]), [(0.5, 0.5), (1.0, 1.0)]
        title = "mean true IoU by predicted IoU, boxes with a true IoU of 0.5 or more"
        found["calibration"] = Chart(title, "predicted IoU", {"IoU-Net": points, "ideal": ideal})
    return found


def threshold_curves(results: Mapping[str, Mapping[str, Any]]) -> Curves:
    """Per setting, (IoU threshold, AP there)."""
    return {
        name: [(int(t[2:]) / 100, ap) for t in THRESHOLDS if (ap := result["metrics"].get(t)) is not None]
        for name, result in results.items()
    }


def lambda_curves(results: Mapping[str, Mapping[str, Any]]) -> Curves:
    """Per NMS guide, (λ, AP) of its refined settings, λ ascending; 0 stands for no refinement."""
    curves: Curves = {}
    for result in results.values():
        setting, ap = result["setting"], result["metrics"]["AP"]
        if setting["guide"] is not None and setting.get("part") is None and ap is not None:
            curves.setdefault(setting["guide"], []).append((setting["step_size"] or 0.0, ap))
    return {guide: sorted(points) for guide, points in curves.items() if len(points) > 1}


def calibration_curve(confidence: Mapping[str, Any]) -> list[tuple[float, float]]:
    """(predicted IoU, mean true IoU of the boxes that were given it), for the predictions that occur.

    Args:
        confidence: `confidence` of diagnostics.json: boxes with a true IoU of at least 0.5, counted by true IoU (rows)
            and predicted IoU (columns).
    """
    true, predicted = _centres(confidence["true_iou_edges"]), _centres(confidence["edges"])
    points = []
    for value, column in zip(predicted, zip(*confidence["predicted_iou"]["histogram"], strict=True), strict=True):
        if sum(column):
            points.append((value, sum(c * t for c, t in zip(column, true, strict=True)) / sum(column)))
    return points


def sample_images(
    annotations: Mapping[str, Any],
    folder: Path,
    detections: Mapping[str, Any],
    settings: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The first images of a split with ground truth and predictions.

    Args:
        annotations: the split's COCO annotations.
        folder: of its images.
        detections: the contents of detections.json.gz.
        settings: `setting` of the evaluations to show.

    Returns:
        Per image `id`, `path`, `labels` (id to name), `ground_truth` (boxes as W&B takes them) and `predictions`, by
        setting's name: the highest scores, each with class score and predicted IoU.
    """
    labels = {category["id"]: category["name"] for category in annotations["categories"]}
    files = {image["id"]: folder / image["file_name"] for image in annotations["images"]}
    shown = detections["images"][:SAMPLES]
    truth: dict[int, list[dict[str, Any]]] = {image: [] for image in shown}
    for entry in annotations["annotations"]:
        if entry["image_id"] in truth and not entry.get("iscrowd"):
            truth[entry["image_id"]].append(_box(entry["bbox"], entry["category_id"], labels, {}))
    found = {setting["name"]: _predictions(detections["settings"], setting, shown, labels) for setting in settings}
    return [
        {
            "id": image,
            "path": files[image],
            "labels": labels,
            "ground_truth": truth[image],
            "predictions": {name: boxes[image] for name, boxes in found.items()},
        }
        for image in shown
    ]


def _predictions(
    detections: Mapping[str, Any], setting: Mapping[str, Any], images: Sequence[int], labels: Mapping[int, str]
) -> dict[int, list[dict[str, Any]]]:
    columns = detections[setting["name"]]
    rows = zip(*(columns[key] for key in ("image_id", "category_id", "bbox", "score", "iou")), strict=True)
    boxes: dict[int, list[dict[str, Any]]] = {image: [] for image in images}
    for image, category, box, score, iou in sorted(rows, key=lambda row: -row[3]):
        if image in boxes and score >= SHOWN_SCORE and len(boxes[image]) < SHOWN:
            scores = {"class_score": score}
            if iou is not None:
                # what refinement makes of a score is class score x IoU, unless it only moves boxes
                part = setting.get("part")
                rescored = part == "score" if part else setting["step_size"] is not None
                scores = {"class_score": min(1.0, score / iou) if rescored and iou > 0 else score, "predicted_iou": iou}
            boxes[image].append(_box(box, category, labels, scores))
    return boxes


def _box(
    xywh: Sequence[float], category: int, labels: Mapping[int, str], scores: Mapping[str, float]
) -> dict[str, Any]:
    x, y, w, h = xywh
    caption = " ".join([labels[category], *(f"{value:.2f}" for value in scores.values())])
    return {
        "position": {"minX": x, "maxX": x + w, "minY": y, "maxY": y + h},
        "domain": "pixel",
        "class_id": category,
        "box_caption": caption,
        **({"scores": {key: round(value, 4) for key, value in scores.items()}} if scores else {}),
    }


def _centres(edges: Sequence[float]) -> list[float]:
    return [(low + high) / 2 for low, high in itertools.pairwise(edges)]

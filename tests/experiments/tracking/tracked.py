"""What a tiny training and a tiny evaluation leave, for the tests of what is logged of them."""

import json
from pathlib import Path

import cv2
import numpy as np

from experiments.tracking import stages as tracking
from suite.files import sha256, write_json

HISTORY = [
    {"step": 10, "epoch": 0.5, "loss": 2.0, "loss_iou": 0.5, "lr": 0.1},
    {"step": 20, "epoch": 1.0, "loss": 1.0, "loss_iou": 0.4, "lr": 0.1},
    {"step": 20, "epoch": 1.0, "val/AP": 0.25, "val/AP50": 0.5},
    {"step": 30, "epoch": 1.5, "loss": 0.5, "loss_iou": 0.3, "lr": 0.1},
    {"step": 40, "epoch": 2.0, "val/AP": 0.125, "val/AP50": 0.625},
]
CURVE = [  # of the above: one row per step
    (10, 2.0, None),
    (20, 1.0, 0.25),
    (30, 0.5, None),
    (40, None, 0.125),
]


def log_training(suite, folder: Path, variant="samp1000_lw5.0", seed=3, history=HISTORY, **options):
    """Logs a training whose checkpoint, eleven bytes, lies in `folder`. Returns the run's id."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pth"
    checkpoint.write_bytes(b"the weights")
    run = {
        "variant": variant,
        "seed": seed,
        "config_hash": "c0ffee",
        "git_commit": "0123456789abcdef",
        "git_dirty": False,
        "versions": {"torch": "2.11"},
        "hardware": {"cores": 2},
        "inputs": {"dataset_fingerprint": "f" * 64},
        "uses": [tracking.dataset_artifact(suite, "f" * 64)],
        "mapped": {},
        "epochs": 2,
        "iterations": 40,
        "wall_time_s": 7.0,
        "checkpoint": {"bytes": 11, "sha256": sha256(checkpoint)},
    }
    config = {"model": {"type": "FasterRCNN"}}
    return tracking.log_training(
        suite, variant, seed, run=run, config=config, history=history, checkpoint=checkpoint, **options
    )


def result(guide, step_size, ap):
    """The contents of a setting's JSON file."""
    metrics = {"AP": ap, "AP50": ap + 0.25, "AP75": ap, "AP90": None}
    setting = {"name": "", "iou_branch": guide is not None, "guide": guide, "step_size": step_size, "num_steps": 5}
    return {"setting": setting, "metrics": metrics, "per_class": {"cat": ap, "dog": None}, "images": 2}


RESULTS = {
    "off": result(None, None, 0.25),
    "rank": result("rank", None, 0.375),
    "rank_refine0.5": result("rank", 0.5, 0.5),
}
for name, value in RESULTS.items():
    value["setting"]["name"] = name

CONFIDENCE = {
    "true_iou_edges": [0.5, 0.75, 1.0],
    "edges": [0.0, 0.5, 0.75, 1.0],
    "predicted_iou": {"histogram": [[0, 3, 1], [0, 1, 1]]},
}


def write_evaluation(folder: Path):
    """Two images with annotations and detections; returns where detections, annotations and images are."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"id": i, "file_name": f"{i}.png", "width": 32, "height": 32} for i in (1, 2)]
    for image in images:
        cv2.imwrite(str(folder / image["file_name"]), np.zeros((32, 32, 3), np.uint8))
    truth = [{"image_id": 1, "category_id": 7, "bbox": [1, 2, 10, 20]}]
    truth.append({"image_id": 1, "category_id": 7, "bbox": [0, 0, 32, 32], "iscrowd": 1})
    categories = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    annotations = folder / "val.json"
    annotations.write_text(json.dumps({"images": images, "annotations": truth, "categories": categories}))
    boxes = {"image_id": [1, 1, 2], "category_id": [7, 9, 7], "bbox": [[1, 2, 10, 20], [0, 0, 5, 5], [3, 3, 4, 4]]}
    columns = {
        "off": {**boxes, "score": [0.9, 0.1, 0.5], "iou": [None] * 3},
        "rank": {**boxes, "score": [0.9, 0.1, 0.5], "iou": [0.8, 0.5, 0.6]},
        "rank_refine0.5": {**boxes, "score": [0.72, 0.1, 0.4], "iou": [0.8, 0.5, 0.8]},
    }
    write_json(folder / "detections.json.gz", {"images": [1, 2], "settings": columns})
    return folder / "detections.json.gz", annotations, folder


def log_evaluation(suite, folder: Path, **options):
    """Logs an evaluation whose files lie in `folder`. Returns the run's id."""
    detections, annotations, images = write_evaluation(folder)
    origin = {
        "checkpoint_sha256": "5" * 64,
        "config_hash": "c0ffee",
        "git_commit": None,
        "dataset_fingerprint": "f" * 64,
    }
    return tracking.log_evaluation(
        suite,
        "samp1000_lw5.0",
        0,
        "val",
        config={"model": {}},
        origin=origin,
        machine={"versions": {"torch": "2.11"}, "hardware": {"cores": 2}},
        results=RESULTS,
        diagnostics={"confidence": CONFIDENCE},
        detections=detections,
        annotations=annotations,
        images=images,
        own="rank_refine0.5",
        **options,
    )

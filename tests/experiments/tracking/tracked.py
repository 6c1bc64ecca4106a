"""What finished stages leave, as small files, for the tests of what is logged of them."""

import json
from pathlib import Path

import cv2
import numpy as np

from experiments.finished import Finished
from experiments.history import write_history
from experiments.tracking.track import track_finished
from suite.files import sha256, write_json
from suite.layout import DataFolder, EvaluationFolder, ReportFolder, RunFolder

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
FINGERPRINT = "f" * 64
IDENTITY = {"training_hash": "c0ffee", "seed": 0, "ranks": 1, "dataset_fingerprint": FINGERPRINT}  # of a training
VARIANT = "samp1000_lw5.0"


def write_log(path: Path, rows) -> None:
    """Writes a metrics.jsonl, or appends to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_training(suite, path: Path, variant=VARIANT, seed=3, history=HISTORY, weights=b"the weights") -> RunFolder:
    """A finished training with a checkpoint of eleven bytes."""
    folder = RunFolder(path)
    folder.metrics.unlink(missing_ok=True)
    write_log(folder.metrics, history)
    write_history(folder.history, list(history))
    folder.checkpoint.unlink(missing_ok=True)
    folder.checkpoint.write_bytes(weights)
    run = {
        "suite": suite.name,
        "variant": variant,
        "seed": seed,
        "config_hash": "c0ffee",
        "git_commit": "0123456789abcdef",
        "git_dirty": False,
        "versions": {"torch": "2.11"},
        "hardware": {"cores": 2},
        "inputs": {"dataset_fingerprint": FINGERPRINT},
        "mapped": {},
        "ranks": 1,
        "epochs": 2,
        "iterations": 40,
        "wall_time_s": 7.0,
        "checkpoint": {"bytes": len(weights), "sha256": sha256(folder.checkpoint)},
        "trained_on": {"split": "train", "images": 32, "seen": ["train"]},
    }
    write_json(folder.run, run)
    return folder


def log_training(suite, path: Path, **options):
    """Logs a training whose files are written into a folder. Returns the run's id."""
    return track_finished(Finished(suite, write_training(suite, path, **options).path))


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


def write_data(folder: DataFolder) -> None:
    """Two images of a split `val` with annotations, and the manifest."""
    folder.images("val").mkdir(parents=True, exist_ok=True)
    images = [{"id": i, "file_name": f"{i}.png", "width": 32, "height": 32} for i in (1, 2)]
    for image in images:
        cv2.imwrite(str(folder.images("val") / image["file_name"]), np.zeros((32, 32, 3), np.uint8))
    truth = [{"image_id": 1, "category_id": 7, "bbox": [1, 2, 10, 20]}]
    truth.append({"image_id": 1, "category_id": 7, "bbox": [0, 0, 32, 32], "iscrowd": 1})
    categories = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    write_json(folder.annotations("val"), {"images": images, "annotations": truth, "categories": categories})
    splits = {"val": {"images": 2, "annotations": 2}}
    write_json(folder.manifest, {"fingerprint": FINGERPRINT, "categories": ["cat", "dog"], "splits": splits})


def write_detections(folder: EvaluationFolder) -> None:
    """The boxes of every setting on the images of `write_data`."""
    boxes = {"image_id": [1, 1, 2], "category_id": [7, 9, 7], "bbox": [[1, 2, 10, 20], [0, 0, 5, 5], [3, 3, 4, 4]]}
    columns = {
        "off": {**boxes, "score": [0.9, 0.1, 0.5], "iou": [None] * 3},
        "rank": {**boxes, "score": [0.9, 0.1, 0.5], "iou": [0.8, 0.5, 0.6]},
        "rank_refine0.5": {**boxes, "score": [0.72, 0.1, 0.4], "iou": [0.8, 0.5, 0.8]},
    }
    write_json(folder.detections, {"images": [1, 2], "settings": columns})


def write_evaluation(suite, path: Path, variant=VARIANT, seed=0, results=RESULTS) -> EvaluationFolder:
    """A finished evaluation, and the suite's data."""
    write_data(suite.layout.data)
    folder = EvaluationFolder(path)
    write_detections(folder)
    place = {"suite": suite.name, "variant": variant, "seed": seed, "split": "val"}
    origin = {
        "checkpoint_sha256": "5" * 64,
        "config_hash": "c0ffee",
        "git_commit": None,
        "dataset_fingerprint": FINGERPRINT,
    }
    for name, contents in results.items():
        write_json(folder.setting(name), {**place, **contents, **origin})
    write_json(folder.diagnostics, {**place, "confidence": CONFIDENCE, **origin})
    machine = {"versions": {"torch": "2.11"}, "hardware": {"cores": 2}}
    ap = {name: contents["metrics"]["AP"] for name, contents in results.items()}
    write_json(folder.index, {**place, **origin, **machine, "seconds": 1.0, "AP": ap})
    return folder


def log_evaluation(suite, path: Path, **options):
    """Logs an evaluation whose files are written into a folder. Returns the run's id."""
    return track_finished(Finished(suite, write_evaluation(suite, path, **options).path))


def write_speed(suite, fps=20.0) -> None:
    """Timed inference on a CPU."""

    def row(fps):
        timed = {"median": 1000 / fps, "q1": 0.0, "q3": 0.0}
        return {"fps": fps, "latency_ms": timed, "ratio": timed, "ratio_without_pooling": timed}

    rows = {"faster_rcnn": row(fps), "refine": row(10.0)}
    result = {"device": "cpu", "seed": 0, "dataset_fingerprint": FINGERPRINT, "hardware": {"cores": 2}}
    result |= {"blocks": [{"batch_size": 1, "rows": rows}], "checkpoints": {"faster_rcnn": {"sha256": "5" * 64}}}
    result["reduced_precision"] = {"metrics": {"refine": {"AP": 0.5}, "refine_bfloat16": {"AP": 0.25}}}
    write_json(suite.layout.speed("cpu"), result)


def write_report(folder: ReportFolder) -> None:
    """A report with one table and one figure."""
    folder.tables.mkdir(parents=True, exist_ok=True)
    folder.figures.mkdir(exist_ok=True)
    folder.readme.write_text("# A report")
    (folder.tables / "main.csv").write_text("row,AP\npaper,40.6\nours,\n")
    cv2.imwrite(str(folder.figures / "ascent.png"), np.zeros((32, 32, 3), np.uint8))
    place = {"variant": VARIANT, "seed": 0, "split": "val"}
    files = {
        f"evaluations/{VARIANT}/seed0/val/off.json": {**place, "wandb_run_id": "abcd"},
        f"evaluations/{VARIANT}/seed0/val/rank.json": {**place, "wandb_run_id": "abcd"},
        f"evaluations/{VARIANT}/seed1/val/rank.json": {**place, "seed": 1, "wandb_run_id": None},
        f"runs/{VARIANT}/seed0/run.json": {"variant": VARIANT, "seed": 0, "wandb_run_id": "ef01"},
    }
    write_json(folder.provenance, {"files": files})

"""A results folder made up for the tests: random but consistent, with real COCO matching behind every AP.

Detections are ground-truth boxes with noise; how much depends on variant and setting, so that the effects resemble the
published ones. Everything follows from `seed`.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import math
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from suite.settings import PARTS

CLASSES = ("circle", "square", "triangle")
FINGERPRINT = "f" * 64
VARIANTS = (
    "faster_rcnn",
    "samp1000_lw5.0",
    "samp1000_lw5.0_bce",
    "max1000_lw5.0_periou30",
    "max1000_lw5.0_periou50",
    "max1000_lw10.0_periou50",
)
GUIDES, STEPS = ("rank", "weight", "none"), (0.25, 1.0, 2.0)  # actual λ
PARTS_OF: tuple[float, ...] = ()  # actual λ of the guide rank that is also evaluated in its two parts
FACTOR = 0.5  # published λ × factor = actual λ
NAMES = {"AP50": 0, "AP60": 2, "AP70": 4, "AP75": 5, "AP80": 6, "AP90": 8}


def linked_results(made: Path, folder: Path) -> Path:
    """The results folder of a copy of `made` whose runs, evaluations and data are links to the original's."""
    root = folder / "results/shapes"
    root.mkdir(parents=True)
    for part in ("runs", "evaluations", "data"):
        (root / part).symlink_to(made / "results/shapes" / part)
    shutil.copyfile(made / "shapes.yaml", folder / "shapes.yaml")
    return root


def sha(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def variants_of(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The block `variants` of a suite."""
    return {
        name: {
            "config": f"experiments/configs/shapes/{name}.py",
            "family": "baseline" if name == "faster_rcnn" else "iounet",
        }
        for name in names
    }


def write_suite(path: Path, **changes: Any) -> Path:
    """A suite YAML; `changes` replace keys, None removes one."""
    suite: dict[str, Any] = {
        "suite": "shapes",
        "title": "Synthetic suite",
        "description": "Made up for the tests.",
        "dataset": {"generator": "shapes", "splits": {name: {"images": 16} for name in ("train", "tune", "val")}},
        "seeds": [0, 1, 2],
        "report_split": "val",
        "scale": {"loss_weight": 2.0, "smooth_l1_beta": 0.25, "rois": 0.25, "step_size": FACTOR},
        "variants": variants_of(VARIANTS),
        "inference": {"step_sizes": {guide: [step / FACTOR for step in STEPS] for guide in GUIDES}, "num_steps": 5},
    }
    suite.update(changes)
    suite = {key: value for key, value in suite.items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(suite, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def make_dataset(root: Path, images: int, rng: np.random.Generator) -> COCO:
    """Images and annotations of `val`; one image without objects, one crowd region."""
    folder = root / "data" / "val"
    folder.mkdir(parents=True)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, images + 1):
        name = f"{number:06d}.png"
        # a coarse texture: full noise would weigh more in the example than any real picture
        texture = rng.integers(90, 150, (24, 24, 3), dtype=np.uint8)
        picture = Image.fromarray(texture).resize((96, 96), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(picture)
        for _ in range(0 if number == 2 else int(rng.integers(2, 5))):
            category = int(rng.integers(1, len(CLASSES) + 1))
            w, h = rng.integers(16, 44, 2)
            x, y = rng.integers(0, 96 - w), rng.integers(0, 96 - h)
            box = [int(v) for v in (x, y, w, h)]
            colour = [(200, 80, 60), (60, 120, 210), (80, 180, 90)][category - 1]
            corners = (box[0], box[1], box[0] + box[2], box[1] + box[3])
            if category == 1:
                draw.ellipse(corners, fill=colour)
            elif category == 2:
                draw.rectangle(corners, fill=colour)
            else:
                draw.polygon(
                    [(corners[0], corners[3]), (corners[2], corners[3]), (sum(corners[::2]) / 2, corners[1])], colour
                )
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(number == 3 and not any(a["image_id"] == 3 for a in annotations)),
                }
            )
        picture.save(folder / name)
        entries.append({"id": number, "file_name": name, "width": 96, "height": 96})
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASSES, 1)]
    data = {"images": entries, "annotations": annotations, "categories": categories}
    (root / "data" / "val.json").write_text(json.dumps(data))
    splits = {
        "train": {"images": 4 * images, "annotations": 1},
        "val": {"images": images, "annotations": len(annotations)},
    }
    manifest = {"generator": "shapes", "version": 1, "fingerprint": FINGERPRINT, "spec": {}, "splits": splits}
    (root / "data" / "dataset.json").write_text(json.dumps({**manifest, "categories": list(CLASSES)}))
    return load_coco(data)


def load_coco(data: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = data
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def evaluate(coco: COCO, detections: list[dict[str, Any]], image_ids: list[int] | None = None) -> COCOeval:
    """pycocotools' evaluation."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
        evaluation.params.maxDets = [100]
        if image_ids is not None:
            evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def mean_precision(precision: np.ndarray) -> float | None:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def matches_of(evaluation: COCOeval) -> dict[str, Any]:
    """The contents of a matches file, from pycocotools' per-image results (area: all)."""
    params = evaluation.params
    images, categories = len(params.imgIds), len(params.catIds)
    columns: dict[str, list[Any]] = {key: [] for key in ("image", "category", "score", "matched", "ignored")}
    truth = [[0] * categories for _ in range(images)]
    bits = 1 << np.arange(len(params.iouThrs))
    for k in range(categories):
        for i in range(images):
            entry = evaluation.evalImgs[k * len(params.areaRng) * images + i]
            if entry is None:
                continue
            truth[i][k] = int(sum(not ignored for ignored in entry["gtIgnore"]))
            columns["image"] += [i] * len(entry["dtScores"])
            columns["category"] += [k] * len(entry["dtScores"])
            columns["score"] += [float(score) for score in entry["dtScores"]]
            columns["matched"] += [int(bits @ column) for column in (entry["dtMatches"] > 0).T]
            columns["ignored"] += [int(bits @ column) for column in (entry["dtIgnore"] > 0).T]
    return {
        "image_ids": [int(i) for i in params.imgIds],
        "category_ids": [int(c) for c in params.catIds],
        "iou_thresholds": [round(float(t), 2) for t in params.iouThrs],
        "detections": columns,
        "ground_truth": truth,
    }


def random_detections(coco: COCO, rng: np.random.Generator, noise: float, misses: float = 0.05) -> list[dict[str, Any]]:
    """Noisy copies of the objects, doubles, and spurious boxes."""
    found = []
    for image in coco.dataset["images"]:
        for annotation in coco.imgToAnns[image["id"]]:
            if rng.random() < misses:
                continue
            box = np.asarray(annotation["bbox"], dtype=float)
            for scale, score in ((1.0, 0.9), (3.0, 0.35)):
                moved = box + rng.normal(0, noise * scale, 4) * box[[2, 3, 2, 3]]
                found.append(_detection(image, annotation["category_id"], moved, score * rng.uniform(0.6, 1.1)))
        spurious = np.concatenate([rng.uniform(0, 50, 2), rng.uniform(15, 40, 2)])
        found.append(_detection(image, int(rng.integers(1, 4)), spurious, rng.uniform(0.05, 0.6)))
    return found


def _detection(image: dict[str, Any], category: int, box: np.ndarray, score: float) -> dict[str, Any]:
    box = [round(float(v), 2) for v in (*box[:2], *np.maximum(box[2:], 2))]
    return {"image_id": image["id"], "category_id": category, "bbox": box, "score": round(float(min(score, 0.999)), 5)}


def noise_of(variant: str, guide: str | None, step: float | None) -> float:
    """How badly boxes are placed."""
    noise = 0.062 if variant == "faster_rcnn" else 0.060
    if guide is not None:
        noise -= {"rank": 0.004, "weight": 0.006, "none": 0.001}[guide]
    if step is not None:
        noise -= 0.004 - 0.004 * abs(np.log2(step / 0.5)) / 2
    if variant.endswith("bce"):
        noise -= 0.003
    if "lw10" in variant:
        noise += 0.002
    return noise


def settings_of(variant: str) -> list[tuple[str, str | None, float | None]]:
    """Name, guide and λ; the name alone tells a part of a refinement."""
    if variant == "faster_rcnn":
        return [("off", None, None)]
    refined = [(f"{guide}_refine{step:g}", guide, step) for guide in GUIDES for step in STEPS]
    parts = [(f"rank_refine{step:g}_movement", "rank", step) for step in PARTS_OF]
    parts += [("rank_score", "rank", None) for _ in PARTS_OF]
    return [("off", None, None), *[(guide, guide, None) for guide in GUIDES], *refined, *parts]


def write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


def make_results(
    root: Path,
    images: int = 16,
    variants: tuple[str, ...] = VARIANTS,
    seeds: tuple[int, ...] = (0, 1, 2),
    seed: int = 0,
    blank: Collection[tuple[str, int]] = (),
) -> Path:
    """Everything a report reads, for the suite of `write_suite`; the trainings in `blank` came to nothing."""
    coco = make_dataset(root, images, np.random.default_rng(seed))
    for variant in variants:
        for number in seeds:
            is_blank = (variant, number) in blank
            run = make_run(root, variant, number, is_blank)
            # the same noise in every setting of a checkpoint: differences are then paired, as in life
            files = {
                name: make_evaluation(root, coco, run, name, guide, step, seed, is_blank)
                for name, guide, step in settings_of(variant)
            }
            folder = root / "evaluations" / variant / f"seed{number}" / "val"
            write_json(folder / "detections.json.gz", {"images": coco.getImgIds(), "settings": files})
            write_record(folder / "wandb_run.json", f"val{number}{variant[:4]}", is_logged=variant != "faster_rcnn")
            if variant != "faster_rcnn":
                diagnostics = make_diagnostics(run)
                write_json(folder / "diagnostics.json", without_boxes(diagnostics) if is_blank else diagnostics)
    write_json(root / "speed" / "cpu.json", make_speed())
    write_record(root / "speed" / "cpu.wandb_run.json", "speed0")
    return root


def write_record(path: Path, run_id: str, is_logged: bool = True) -> None:
    """The sidecar of a stage that was logged as a W&B run."""
    write_json(path, {"identity": {}, "run_id": run_id, "is_logged": is_logged})


def _rois(variant: str) -> dict[str, Any]:
    most = {"max_num": {"published": 1000, "actual": 250}}
    if "periou" in variant:
        return {**most, "per_iou": {"published": int(variant[-2:]), "actual": int(variant[-2:]) // 4}}
    return {**most, "sample_num": {"published": 1000, "actual": 250}}


def make_run(root: Path, variant: str, seed: int, is_blank: bool = False) -> dict[str, Any]:
    folder = root / "runs" / variant / f"seed{seed}"
    iounet = variant != "faster_rcnn"
    run = {
        "suite": "shapes",
        "variant": variant,
        "seed": seed,
        "config_hash": sha("config", variant),
        "git_commit": "c0ffee" + "0" * 34,
        "git_dirty": False,
        "versions": {"python": "3.11.7", "torch": "2.11.0"},
        "hardware": {"cpu": "Test CPU", "cores": 2, "threads": 1, "gpu": None, "memory_gib": 23.4},
        "inputs": {"dataset_fingerprint": FINGERPRINT, "pretraining_sha256": "9" * 64},
        "started": "2026-01-01T00:00:00Z",
        "wall_time_s": 190.0 + seed + 25 * iounet,
        "epochs": 3,
        "iterations": 150,
        "optimizer": "AdamW",
        "checkpoint": {"bytes": 1_234_567, "sha256": sha("checkpoint", variant, seed)},
        "mapped": {"loss_weight": {"published": 5.0, "actual": 10.0}, **_rois(variant)} if iounet else {},
    }
    write_json(folder / "run.json", run)
    if iounet:
        write_record(folder / "wandb_run.json", f"run{seed}{variant[:4]}")
    rng = np.random.default_rng([seed, len(variant)])
    lines = ["step,epoch,loss,loss_iou,iou_error,lr,time,val/AP,val/AP90"]
    for step in range(1, 151):
        branch = 0.4 + np.exp(-step / 50) + rng.normal(0, 0.02)
        detection = 0.6 + 1.2 * np.exp(-step / 40) + rng.normal(0, 0.03)
        total = detection + branch if iounet else detection
        time = (0.339 if iounet else 0.272) + rng.normal(0, 0.001)
        shares = f"{branch:.5f},{branch / 6:.5f}" if iounet else ","
        lines.append(f"{step},{(step - 1) // 50 + 1},{total:.5f},{shares},0.003,{time:.5f},,")
        if step % 50 == 0:
            ap = 0.5 + 0.001 * step + 0.01 * iounet + rng.normal(0, 0.004)
            values = (0.0, 0.0) if is_blank else (ap, ap - 0.3)
            lines.append(f"{step},{step // 50},,,,,,{values[0]:.5f},{values[1]:.5f}")
    (folder / "history.csv").write_text("\n".join(lines) + "\n")
    return run


def make_evaluation(
    root: Path,
    coco: COCO,
    run: dict[str, Any],
    name: str,
    guide: str | None,
    step: float | None,
    seed: int,
    is_blank: bool = False,
) -> dict[str, Any]:
    """Write one setting's files; returns its columns for detections.json.gz."""
    variant, number = run["variant"], run["seed"]
    rng = np.random.default_rng([seed, number])
    found = random_detections(coco, rng, noise_of(variant, guide, step))
    for detection in found[::6] if guide == "none" else []:  # regular NMS keeps another box now and then
        detection["bbox"][0] += 0.12 * detection["bbox"][2]
    if is_blank:  # one speck in a corner
        found = [{**found[0], "bbox": [0.0, 0.0, 1.0, 1.0], "score": 0.06}]
    evaluated, matches = evaluated_as(coco, found, run)
    path = root / "evaluations" / variant / f"seed{number}" / "val" / f"{name}.json"
    write_json(
        path,
        {
            "suite": "shapes",
            "variant": variant,
            "seed": number,
            "split": "val",
            "setting": {
                "name": name,
                "iou_branch": guide is not None,
                "guide": guide,
                "step_size": step,
                "num_steps": 0 if step is None else 5,
                "part": part if (part := name.rpartition("_")[2]) in PARTS else None,
            },
            **evaluated,
        },
    )
    write_json(path.with_name(f"{name}.matches.json.gz"), matches)
    return {
        **{key: [d[key] for d in found] for key in ("image_id", "category_id", "bbox", "score")},
        "iou": [None if guide is None else round(float(rng.uniform(0.5, 1)), 5) for _ in found],
    }


def evaluated_as(coco: COCO, found: list[dict[str, Any]], run: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What every evaluation file has of detections, and the matches file beside it."""
    evaluation = evaluate(coco, found)
    precision = evaluation.eval["precision"]
    metrics = {"AP": mean_precision(precision[:, :, :, 0, -1])}
    metrics |= {key: mean_precision(precision[t, :, :, 0, -1]) for key, t in NAMES.items()}
    metrics |= {f"AP{size}": mean_precision(precision[:, :, :, i, -1]) for i, size in enumerate("sml", 1)}
    return {
        "metrics": metrics,
        "per_class": {c: mean_precision(precision[:, :, k, 0, -1]) for k, c in enumerate(CLASSES)},
        "images": len(coco.getImgIds()),
        "detections": len(found),
        "checkpoint_sha256": run["checkpoint"]["sha256"],
        "config_hash": sha("whole config", run["variant"]),
        "git_commit": run["git_commit"],
        "dataset_fingerprint": FINGERPRINT,
        "seconds": 1.5,
    }, matches_of(evaluation)


def make_speed(device: str = "cpu", seed: int = 0) -> dict[str, Any]:
    """A speed file in the layout of `experiments.speed.timing`: round numbers, to be checked by hand."""

    def spread(median: float, by: float) -> dict[str, float]:
        return {"median": median, "q1": round(median - by, 4), "q3": round(median + by, 4)}

    def block(batch_size: int, times: dict[str, float]) -> dict[str, Any]:
        before = {"branch_off": "faster_rcnn", "nms": "branch_off", "regular_nms": "nms", "refine": "nms"}
        before["refine_bfloat16"] = "refine"
        rows: dict[str, Any] = {}
        for key, time in times.items():
            rows[key] = {
                "fps": round(1000 * batch_size / time, 3),
                "latency_ms": spread(time, 0.5),
                "ratio": spread(time / times["faster_rcnn"], 0.01),
                "ratio_without_pooling": spread((time - 1) / (times["faster_rcnn"] - 5), 0.01),
                "stages_ms": {"pooling": 1.0, "rest": time - 1},
            }
            if key in before:
                rows[key]["adds_ms"] = {"to": before[key], **spread(time - times[before[key]], 0.1)}
                log = round(math.log(time / times[before[key]]), 6)
                rows[key]["times"] = {"to": before[key], "rounds": 4, "log_mean": log, "log_sd": 0.01}
        return {"batch_size": batch_size, "rounds": 4, "images_per_round": 4, "rows": rows}

    one = {
        "faster_rcnn": 20.0,
        "branch_off": 16.0,
        "nms": 18.0,
        "regular_nms": 17.5,
        "refine": 24.0,
        "refine_bfloat16": 22.0,
    }
    timed = ("faster_rcnn", "samp1000_lw5.0")
    return {
        "suite": "shapes",
        "device": device,
        "split": "val",
        "seed": seed,
        "threads": 1,
        "blocks": [block(1, one), block(4, {key: 2 * time for key, time in one.items()})],
        "reduced_precision": {
            "row": "refine_bfloat16",
            "fc_dtype": "bfloat16",
            "compared_with": "refine",
            "images": 12,
            "metrics": {"refine": {"AP": 0.5}, "refine_bfloat16": {"AP": 0.49875}},
            "AP_difference": -0.00125,
        },
        "checkpoints": {
            v: {"sha256": sha("checkpoint", v, seed), "config_hash": sha("whole config", v)} for v in timed
        },
        "dataset_fingerprint": FINGERPRINT,
        "git_commit": "c0ffee" + "0" * 34,
        "versions": {"python": "3.11.7", "torch": "2.11.0"},
        "hardware": {"cpu": "Test CPU", "cores": 2, "threads": 1, "gpu": "Test GPU", "memory_gib": 23.4},
    }


def make_diagnostics(run: dict[str, Any]) -> dict[str, Any]:
    """A diagnostics file in the layout of `experiments.evaluation.diagnostics`; its numbers follow from the seed."""
    rng = np.random.default_rng([run["seed"], 7])
    true_edges, edges = np.linspace(0.5, 1, 21), np.linspace(0, 1, 41)
    true = 1 - 0.5 * rng.beta(1, 3, 4000)
    confidences = {
        "class_score": np.clip(1 - rng.exponential(0.15, 4000), 0, 1),
        "predicted_iou": np.clip(true + rng.normal(0, 0.08, 4000), 0, 1),
    }
    confidence: dict[str, Any] = {"boxes": 4000, "true_iou_edges": true_edges.tolist(), "edges": edges.tolist()}
    for name, values in confidences.items():
        counts = np.histogram2d(true, values, bins=[true_edges, edges])[0].astype(int).tolist()
        pearson = round(float(np.corrcoef(values, true)[0, 1]), 5)
        confidence[name] = {"pearson": pearson, "spearman": pearson - 0.01, "histogram": counts}
    starts, changes = np.linspace(0.5, 1, 11).round(5).tolist(), np.linspace(-0.05, 0.05, 41).round(5).tolist()
    before = [200, 240, 300, 320, 400, 500, 700, 1000, 1200, 500]
    means = [round(0.84 + 0.002 * step, 5) for step in range(6)]
    shares = {"gained": [0.1 * step for step in range(6)], "lost": [0.02 * step for step in range(6)]}
    by_start = {"gained": [0.6] * 10, "lost": [0.1] * 10, "unchanged": [0.3] * 10}
    return {
        **{key: run[key] for key in ("suite", "variant", "seed", "git_commit")},
        "split": "val",
        "config_hash": sha("whole config", run["variant"]),
        "setting": {"guide": "rank", "step_size": 0.25, "num_steps": 5},
        "images": 16,
        "objects": 40,
        "confidence": confidence,
        "confidence_after_nms": confidence,
        "survivors": {
            "edges": starts,
            "no_nms": before,
            "regular": [count // 20 for count in before],
            "guided": [count // (24 - 2 * i) for i, count in enumerate(before)],
        },
        "refinement": {
            "boxes": 300,
            "unchanged_below": 0.005,
            "by_step": {"true_iou": means, **shares, "unchanged": [1 - 0.12 * step for step in range(6)]},
            "by_start": {"edges": starts, "boxes": [30] * 10, "change": [0.01] * 10, **by_start},
            "change": {"edges": changes, "boxes": [0] * 20 + [30] * 10 + [0] * 10},
            "steps": [0, 60, 60, 60, 60, 60],
        },
        "ascent": [
            {
                "step_size": step,
                "boxes": 300,
                "predicted": [round(0.9 + 0.004 * step * i, 5) for i in range(6)],
                "true": [round(0.84 + 0.002 * i * (1 - step), 5) for i in range(6)],
            }
            for step in STEPS
        ],
        "checkpoint_sha256": run["checkpoint"]["sha256"],
        "dataset_fingerprint": FINGERPRINT,
    }


def without_boxes(diagnostics: Any, key: str = "") -> Any:
    """Diagnostics of a checkpoint that has no positive box: no counts, and no means."""
    if isinstance(diagnostics, dict):
        return {name: without_boxes(value, name) for name, value in diagnostics.items()}
    if isinstance(diagnostics, list) and key not in ("edges", "true_iou_edges"):
        return [without_boxes(value, key) for value in diagnostics]
    if key in ("boxes", "histogram", "no_nms", "regular", "guided", "steps"):
        return 0
    if key in ("pearson", "spearman", "true_iou", "gained", "lost", "unchanged", "change", "predicted", "true"):
        return None
    return diagnostics

"""A made-up search for the report's tests, in the layout of `sweeps.summary`, with real matching behind its AP."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.reports import synthetic

POINTS: list[dict[str, Any]] = [
    {"published": "samp1000_lw5.0", "loss_weight": 5.0, "per_img": 1000},
    {"published": "max1000_lw5.0_periou30", "loss_weight": 5.0, "per_iou": 30},
    {"published": "max1000_lw10.0_periou50", "loss_weight": 10.0, "per_iou": 50},
    {"loss_weight": 2.5, "per_img": 400},
    {"loss_weight": 7.0, "per_iou": 70},
]
GUIDES, STEPS, FACTOR = synthetic.GUIDES, (0, 0.5, 2), synthetic.FACTOR
WINNER, BEST, DEFAULT = 3, "weight_refine1", "rank_refine0.25"


def profile(number: int) -> dict[tuple[str, float], float]:
    """AP of a trial by guide and published step size; trial 3 is the best, at (weight, 2)."""
    base = 0.6 + [0.010, 0.005, 0.0, 0.030, 0.020][number]
    gain = {"rank": 0.01, "weight": 0.02, "none": 0.0}
    return {(g, s): base + gain[g] + (0.002 * s if g != "none" else -0.004 * s) for g in GUIDES for s in STEPS}


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def make_sweep(root: Path, **summary: Any) -> Path:
    """Writes `root`/sweep for the data set in `root`/data; `summary` changes keys of sweep.json. Returns the folder."""
    folder = root / "sweep"
    folder.mkdir()
    trials: list[dict[str, Any]] = []
    profiles, curves = [], []
    for number, point in enumerate(POINTS):
        own = profile(number)
        guide, step = max(own, key=lambda key: own[key])
        best = {"value": own[guide, step], "guide": guide, "step_size": step, "seconds": 60.0, "epochs": 2}
        trials.append({"number": number, "state": "complete", "published": None, "retry_of": None, **point, **best})
        profiles += [
            {"number": number, "guide": g, "step_size": s, "actual_step_size": s * FACTOR, "AP": ap}
            for (g, s), ap in own.items()
        ]
        curves += [{"number": number, "epoch": epoch, "AP": 0.5 + 0.05 * epoch} for epoch in (1, 2)]
    again = {"loss_weight": 7.0, "per_iou": 70}
    trials.append({"number": 5, "state": "fail", **again})
    trials.append({"number": 6, "state": "pruned", "retry_of": 5, **again, "seconds": 30.0, "epochs": 1})
    _write_csv(folder / "trials.csv", trials)
    _write_csv(folder / "profiles.csv", profiles)
    _write_csv(folder / "curves.csv", curves)
    importance = {
        "method": "PED-ANOVA, best 25 % of at least 10 trials",
        "trials": 5,
        "parameters": {"loss_weight": 0.7, "per_img": 0.2, "sampling": 0.1},
        "variance": {"training": 0.5, "guide": 0.3, "step_size": 0.1, "interactions": 0.1},
    }
    (folder / "importance.json").write_text(json.dumps(importance))
    best = {
        "trial": WINNER,
        "value": profile(WINNER)["weight", 2],
        "split": "tune",
        "inference": {"guide": "weight", "step_size": {"published": 2.0, "actual": 1.0}, "num_steps": 5},
        "default": {
            "label": "samp1000_lw5.0",
            "trial": 0,
            "setting": DEFAULT,
            "value": profile(0)["rank", 0.5],
            "best_value": profile(0)["weight", 2],
        },
    }
    (folder / "best.json").write_text(json.dumps(best))
    data = json.loads((root / "data/val.json").read_text())
    coco = synthetic.load_coco(data)
    for side, noise in (("default", 0.06), ("winner", 0.045)):
        for setting, less in ((DEFAULT, 0.0), (BEST, 0.01)):
            _make_evaluation(folder / "val" / side / f"{setting}.json", coco, side, noise - less)
    states = {"complete": 5, "pruned": 1, "fail": 1}
    content = {
        "suite": "shapes",
        "study": "shapes__main",
        "base": "samp1000_lw5.0",
        "budget": 5,
        "states": states,
        "epochs": 2,
        "full_epochs": 6,
        "seconds": 330.0,
        "split": "tune",
        "report_split": "val",
        "space": {"loss_weight": [1, 20], "per_img": [250, 2000], "per_iou": [10, 100]},
        "settings": {"winner": BEST, "default": DEFAULT},
        "sampler": {"name": "TPESampler", "startup_trials": 3},
        "pruner": {"name": "MedianPruner", "startup_trials": 3},
        "dataset_fingerprint": synthetic.FINGERPRINT,
        "git_commit": "c0ffee",
        **summary,
    }
    (folder / "sweep.json").write_text(json.dumps(content))
    return folder


def _make_evaluation(path: Path, coco: Any, side: str, noise: float) -> None:
    found = synthetic.random_detections(coco, np.random.default_rng(4), noise)
    evaluation = synthetic.evaluate(coco, found)
    precision = evaluation.eval["precision"]
    metrics = {"AP": synthetic.mean_precision(precision[:, :, :, 0, -1])}
    metrics |= {key: synthetic.mean_precision(precision[t, :, :, 0, -1]) for key, t in synthetic.NAMES.items()}
    metrics |= dict.fromkeys(("APs", "APm", "APl"))
    content = {
        "suite": "shapes",
        "variant": f"sweep_{side}",
        "seed": 0,
        "split": "val",
        "setting": {"name": path.stem},
        "metrics": metrics,
        "checkpoint_sha256": synthetic.sha("sweep", side),
        "config_hash": synthetic.sha("config", side),
        "git_commit": "c0ffee",
    }
    synthetic.write_json(path, content)
    synthetic.write_json(path.with_name(f"{path.stem}.matches.json.gz"), synthetic.matches_of(evaluation))

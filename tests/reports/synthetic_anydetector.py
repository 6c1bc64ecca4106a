"""What `snakemake anydetector` makes, made up beside the results of `synthetic.make_results`.

Boxes are noisy copies of the objects. Guided NMS and each step of refinement take noise away, box regression adds some
after its second iteration; RetinaNet has no box head to be asked again.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from suite.settings import StepSize
from suite.treatments import HEADS, PLAIN, STEPS, Treatment, by_iteration, by_threshold, compared
from tests.reports.synthetic import (
    FACTOR,
    FINGERPRINT,
    evaluated_as,
    load_coco,
    make_run,
    random_detections,
    sha,
    write_json,
)

BASELINE = "faster_rcnn"
DETECTORS = {
    "cascade_rcnn": {"label": "Cascade R-CNN", "config": "experiments/configs/shapes/cascade_rcnn.py"},
    "retinanet": {"label": "RetinaNet", "config": "experiments/configs/shapes/faster_rcnn.py"},
}
REGRESSED = (BASELINE, "cascade_rcnn")
NOISE = {BASELINE: 0.062, "cascade_rcnn": 0.05, "retinanet": 0.07}
STEP_SIZES = [StepSize.of_published(step, FACTOR) for step in STEPS]
SECONDS = {"detect": 2.0, "maps": 0.5, "predict": 0.25, "guided_nms": 0.05, "refine": 1.0}


def treatments_of(detector: str) -> list[Treatment]:
    """Those that are evaluated."""
    iterations = by_iteration(STEP_SIZES, has_regression=detector in REGRESSED)
    return [*compared(STEP_SIZES), *(by_threshold() if detector == BASELINE else []), *iterations]


def noise_of(detector: str, treatment: Treatment) -> float:
    """How badly boxes are placed."""
    noise = NOISE[detector]
    if treatment.nms == "guided":
        noise -= 0.004
    if treatment.iou_threshold not in (None, 0.5):
        noise += 0.02 * abs(treatment.iou_threshold - 0.5)
    if treatment.step_size is not None:
        noise -= (0.002 if treatment.step_size.published == 2 else 0.003) * treatment.num_steps
    if treatment.moved_by == "regression":
        noise += 0.002 * (treatment.num_steps - 2)
    return noise + (0.003 if treatment.head == "class_agnostic" else 0)


def refiner_sha(head: str, seed: int) -> str:
    return sha("refiner", head, seed)


def make_refiner(root: Path, head: str, seed: int, run: dict[str, Any]) -> None:
    """The training of a refiner, as a detector's."""
    folder = root / "refiners" / head / f"seed{seed}"
    own = {**run, "variant": "samp1000_lw5.0", "head": head, "config_hash": sha("config", head)}
    write_json(folder / "run.json", {**own, "checkpoint": {"bytes": 1_000_000, "sha256": refiner_sha(head, seed)}})
    (folder / "history.csv").write_text("step,epoch,loss\n1,1,0.5\n")


def make_anydetector(root: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """Writes the detectors' trainings, refiners and treatments below a results folder that has the baseline's run."""
    coco = load_coco(json.loads((root / "data/val.json").read_text()))
    for detector in (BASELINE, *DETECTORS):
        for seed in seeds:
            if detector == BASELINE:
                run = json.loads((root / "runs" / detector / f"seed{seed}/run.json").read_text())
                for head in HEADS:
                    make_refiner(root, head, seed, run)
            else:
                run = {**make_run(root, detector, seed), "mapped": {}}
                write_json(root / "runs" / detector / f"seed{seed}/run.json", run)
            make_treatments(root, coco, run)


def make_treatments(root: Path, coco: Any, run: dict[str, Any]) -> None:
    """Every treatment of the boxes of one training."""
    detector, seed = run["variant"], run["seed"]
    folder = root / "treatments" / detector / f"seed{seed}" / "val"
    place = {"suite": "shapes", "variant": detector, "seed": seed, "split": "val"}
    made: dict[float, Any] = {}  # equal noise, equal boxes
    index: dict[str, float] = {}
    for treatment in treatments_of(detector):
        noise = round(noise_of(detector, treatment), 6)
        if noise not in made:
            rng = np.random.default_rng([seed, list(NOISE).index(detector)])
            made[noise] = evaluated_as(coco, random_detections(coco, rng, noise), run)
        evaluated, matches = made[noise]
        refiner = None if treatment.head is None else refiner_sha(treatment.head, seed)
        own = {key: value for key, value in evaluated.items() if key != "seconds"}  # those are in the index
        data = {**place, "treatment": treatment.described(), **own, "refiner_sha256": refiner}
        write_json(folder / f"{treatment.name}.json", data)
        write_json(folder / f"{treatment.name}.matches.json.gz", matches)
        index[treatment.name] = evaluated["metrics"]["AP"]
    first = made[round(noise_of(detector, PLAIN), 6)][0]
    copied = {key: first[key] for key in ("checkpoint_sha256", "config_hash", "git_commit", "images")}
    write_json(
        folder / "evaluation.json",
        {
            **place,
            **copied,
            "refiners": {head: {"sha256": refiner_sha(head, seed)} for head in HEADS},
            "dataset_fingerprint": FINGERPRINT,
            "versions": run["versions"],
            "hardware": run["hardware"],
            "candidates": 160 + 16 * seed,
            "seconds": SECONDS,
            "wall_time_s": 60.0,
            "AP": index,
        },
    )

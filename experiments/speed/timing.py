"""Times the inference of a suite's first seed: `python -m experiments speed`.

Faster R-CNN and an IoU-Net under its inference settings, interleaved image by image in one process, so that whatever
slows the machine down slows all of them: only the ratios compare between machines. What is timed is the detector's own
`simple_test`, without reading images. Before anything is timed its detections are compared with the evaluation's.

No evaluation runs in reduced precision, so what that costs in AP is measured here: on the whole reported split, of the
timed checkpoint.

A second link of the file is kept (`suite.kept`): nothing is timed twice, and what was timed is logged once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.data.datasets import build_split, dataset_fingerprint
from experiments.evaluation.inference import detect
from experiments.evaluation.metrics import evaluate_detections
from experiments.finished import Finished
from experiments.models import Opened, open_checkpoint
from experiments.runtime import hardware, prepare_process
from experiments.speed.detector import Detector
from experiments.speed.measure import summary, time_rounds
from experiments.speed.rows import REFINED, TimedSetting, speed_of, timed_settings, timed_variants
from suite import provenance
from suite.blocks import Speed
from suite.errors import SuiteError, exits_on_error
from suite.files import folder_lock, read_json, sha256, write_json
from suite.kept import forget, publish
from suite.layout import DataFolder, kept
from suite.suite import Suite, load_suite

TOLERANCE = 1e-3  # pixels, and score: of what is timed against what is evaluated


def time_inference(
    suite: Suite, *, device: str, checkpoints: Mapping[str, Path], data: DataFolder, out: Path
) -> dict[str, Any]:
    """Times every row of `timed_settings`, and writes a JSON file.

    Batch sizes are 1 and the suite's, the latter where as many images are timed at 1 as make one.

    Args:
        suite: its block `speed` says how much is timed.
        device: 'cpu' or 'cuda'.
        checkpoints: of each of `timed_variants`.
        data: the suite's images.
        out: the file.

    Returns:
        The file's contents.

    Raises:
        SuiteError: the suite lacks a variant, a checkpoint or the data is missing or damaged, or the device cannot
            compute in the suite's `speed.fc_dtype`.
        RuntimeError: what would be timed does not detect what the evaluation detects.
    """
    rows, (baseline, iounet) = timed_settings(suite), timed_variants(suite)
    speed = speed_of(suite)
    if device == "cuda" and not torch.cuda.is_available():
        raise SuiteError("speed.device is 'cuda', but torch sees no GPU here: choose 'cpu'")
    prepare_process(speed.threads, device)
    with folder_lock(out.parent):
        opened = {
            variant: open_checkpoint(suite, variant, checkpoints[variant], data, suite.report_split, device=device)
            for variant in (baseline, iounet)
        }
        _require_dtype(opened[iounet], speed)
        dataset = opened[iounet].dataset
        largest = min(suite.inference.batch_size, len(dataset))
        batch_sizes = sorted({1, largest} if largest <= speed.rounds * speed.images else {1})
        identity = {
            "suite": suite.name,
            "device": device,
            "split": suite.report_split,
            "seed": suite.seeds[0],
            "threads": speed.threads,
            "timed": {"rounds": speed.rounds, "images": speed.images, "rows": [asdict(row) for row in rows]},
            "checkpoints": {
                variant: {"sha256": sha256(own.checkpoint), "config_hash": own.config_hash}
                for variant, own in opened.items()
            },
            "dataset_fingerprint": dataset_fingerprint(data),
            **provenance.git_state(),
            "versions": provenance.versions(),
            "hardware": hardware(),
        }
        done = _done(out, identity)
        if done is not None:
            print(f"{out} is already timed: nothing to do", flush=True)
            publish(out)
            return done
        forget(out)
        detectors = {row.key: Detector(opened[row.variant].model, row.setting, row.fc_dtype) for row in rows}
        with torch.no_grad():
            blocks = [_time_block(suite, rows, detectors, opened[iounet], data, size, device) for size in batch_sizes]
        workers = opened[iounet].cfg.data.workers_per_gpu
        reduced = _cost_of_precision(rows, detectors, dataset, largest, workers)
        result = {**identity, "blocks": blocks, "reduced_precision": reduced}
        write_json(kept(out), result)
        publish(out)
        return result


def _done(out: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was timed of these very checkpoints by this very commit on this machine; None if nothing was."""
    try:
        found = read_json(kept(out))
    except (OSError, SuiteError):
        return None
    return found if found.items() >= json.loads(json.dumps(identity)).items() else None


def _require_dtype(opened: Opened, speed: Speed) -> None:
    if speed.fc_dtype is None:
        return
    head: Any = opened.model.roi_head
    try:
        head.iou_head.cast(speed.fc_dtype)
    except ValueError as error:
        raise SuiteError(f"speed.fc_dtype cannot be timed: {error}") from None


def _time_block(
    suite: Suite,
    rows: list[TimedSetting],
    detectors: dict[str, Detector],
    opened: Opened,
    data: DataFolder,
    batch_size: int,
    device: str,
) -> dict[str, Any]:
    """Checks and times every row at one batch size."""
    speed, synchronize = speed_of(suite), torch.cuda.synchronize if device == "cuda" else _nothing
    # large batches: as many rounds of one batch as take about as long
    images = speed.images if batch_size == 1 else batch_size
    rounds = speed.rounds if batch_size == 1 else max(3, speed.rounds // 4)
    full = (batch for batch in batches_of(opened.dataset, batch_size, device) if len(batch[1]) == batch_size)
    batches = list(islice(full, rounds * images // batch_size))
    check_images = min(len(opened.dataset), max(images, batch_size))
    first_images = build_split(opened.cfg, data, suite.report_split, check_images)
    largest = _check(rows, detectors, first_images, batch_size)
    timed = time_rounds(detectors, batches, rounds, images // batch_size, synchronize)
    staged = time_rounds(detectors, batches, max(3, rounds // 4), images // batch_size, synchronize, stages=True)
    block = {
        "batch_size": batch_size,
        "rounds": rounds,
        "images_per_round": images,
        "checked": {"images": check_images, "largest_difference": largest},
        "rows": summary(rows, timed, staged, batch_size),
    }
    _tell(block)
    return block


def _nothing() -> None:
    """A CPU has nothing to wait for."""


def batches_of(dataset: Any, batch_size: int, device: str) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """(images, metas), the images on the device."""
    from mmdet.datasets import build_dataloader

    for batch in build_dataloader(dataset, batch_size, 0, dist=False, shuffle=False):
        yield batch["img"][0].data[0].to(device), batch["img_metas"][0].data[0]


def _check(rows: list[TimedSetting], detectors: dict[str, Detector], dataset: Any, batch_size: int) -> float:
    """Compares every row's detections with those that are evaluated; doubles as the warm-up.

    Returns:
        The largest difference of a coordinate (pixels) or a score.
    """
    largest = 0.0
    device = str(next(detectors[rows[0].key].model.parameters()).device)
    for row in rows:
        detector = detectors[row.key]
        with detector.active():
            evaluated = detect(detector.model, dataset, [row.setting], batch_size=batch_size)[row.setting.name]
        found = zip(evaluated.image_id, evaluated.category_id, evaluated.bbox, evaluated.score, strict=True)
        expected = [(i, c, b[0], b[1], b[0] + b[2], b[1] + b[3], score) for i, c, b, score in found]
        own: list[tuple[float, ...]] = []
        ids = iter(dataset.img_ids)
        for images, metas in batches_of(dataset, batch_size, device):
            for by_class in detector(images, metas):
                image = next(ids)
                own += [(image, dataset.cat_ids[c], *box) for c, boxes in enumerate(by_class) for box in boxes.tolist()]
        same = [line[:2] for line in sorted(own)] == [line[:2] for line in sorted(expected)]
        difference = float(np.abs(np.subtract(sorted(own), sorted(expected))).max(initial=0)) if same else np.inf
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"row '{row.key}': simple_test gives {len(own)} detections on {len(dataset)} images, the evaluation "
                f"{len(expected)}; largest difference {difference:g}, allowed {TOLERANCE:g}: nothing is timed"
            )
        largest = max(largest, difference)
    return largest


def _cost_of_precision(
    rows: list[TimedSetting], detectors: dict[str, Detector], dataset: Any, batch_size: int, workers: int
) -> dict[str, Any] | None:
    """The metrics of the row in reduced precision and of the one that it is compared with; None without such a row."""
    from experiments.evaluation.inference import detect

    reduced = next((row for row in rows if row.fc_dtype), None)
    if reduced is None:
        return None
    metrics = {}
    for key in (REFINED, reduced.key):
        model = detectors[key].model
        with detectors[key].active():
            found = detect(
                model, dataset, [reduced.setting], batch_size=batch_size, progress=f"AP of {key}", workers=workers
            )
        metrics[key] = evaluate_detections(dataset.coco, found[reduced.setting.name], dataset.img_ids).metrics
    full, own = metrics[REFINED]["AP"], metrics[reduced.key]["AP"]
    difference = None if full is None or own is None else own - full
    texts = ["undefined" if value is None else f"{100 * value:.2f}" for value in (own, difference)]
    print(f"{reduced.key}: AP {texts[0]}, {texts[1]} more than {REFINED}", flush=True)
    return {
        "row": reduced.key,
        "fc_dtype": reduced.fc_dtype,
        "compared_with": REFINED,
        "images": len(dataset),
        "metrics": metrics,
        "AP_difference": difference,
    }


def _tell(block: dict[str, Any]) -> None:
    print(f"batch size {block['batch_size']}, {block['rounds']} rounds of {block['images_per_round']} images")
    for key, row in block["rows"].items():
        parts = ", ".join(f"{stage} {value:.2f}" for stage, value in row["stages_ms"].items())
        print(
            f"{key:>16}: {row['latency_ms']['median']:8.2f} ms, {row['fps']:7.2f} images/s, "
            f"ratio {row['ratio']['median']:.3f} (without RoI pooling {row['ratio_without_pooling']['median']:.3f}); "
            f"{parts}",
            flush=True,
        )


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> Finished | None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments speed", description="Time the inference of a suite's first seed."
    )
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: the suite's speed.device")
    parser.add_argument("--out", type=Path, help="default: where the workflow puts it")
    options = parser.parse_args(arguments)
    suite = load_suite(options.suite)
    variants, layout = timed_variants(suite), suite.layout
    device = options.device or speed_of(suite).device
    checkpoints = {variant: layout.run(variant, suite.seeds[0]).checkpoint for variant in variants}
    out = options.out or layout.speed(device)
    time_inference(suite, device=device, checkpoints=checkpoints, data=layout.data, out=out)
    return Finished(suite, out) if out.resolve() == layout.speed(device).resolve() else None

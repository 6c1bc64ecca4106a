"""Measures RoIAlign beside Precise RoI Pooling on trained IoU-Nets: `python -m experiments pooling`.

Of each seed's checkpoint, on the first images of the reported split: errors of the values and of the gradients in the
coordinates, and jumps of the latter. Of the first seed's also the times, and the gradient along the path of one box.
What detection makes of it is measured by `python -m experiments swap`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.data.datasets import dataset_fingerprint
from experiments.finished import Finished
from experiments.models import open_checkpoint
from experiments.pooling import gradients
from experiments.pooling.gradients import PLACES, Gradients, Jumps
from experiments.pooling.rows import EXACT, SAMPLES, pooled_settings, pooled_variant
from experiments.pooling.scenes import ROWS, scenes_of
from experiments.pooling.times import time_poolings
from experiments.pooling.values import CONVENTION_SAMPLES, Values
from experiments.runtime import hardware, prepare_process
from suite import provenance
from suite.errors import exits_on_error
from suite.files import sha256, write_json
from suite.layout import DataFolder
from suite.suite import Suite, load_suite

IMAGES, ROUNDS = 50, 20
FACTORS = (0.5, 2.0)  # boxes are also taken so many times as long, for classes of bins that few boxes have


def measure_pooling(
    suite: Suite,
    *,
    checkpoints: Mapping[int, Path],
    data: DataFolder,
    out: Path,
    images: int = IMAGES,
    rounds: int = ROUNDS,
    places: int = PLACES,
    threads: int = 1,
) -> dict[str, Any]:
    """Measures everything of the module's docstring and writes a JSON file.

    Args:
        suite: the suite.
        checkpoints: seed to its checkpoint of `experiments.pooling.rows.pooled_variant`.
        data: the suite's images.
        out: the file.
        images: of the reported split, the first ones.
        rounds: of the timing.
        places: at which each box is looked at for jumps of its gradient.
        threads: of torch.

    Returns:
        The file's contents.

    Raises:
        SuiteError: the suite has no IoU-Net, or a checkpoint or the data is missing, damaged or of another model.
        RuntimeError: what would be differentiated is not torchvision's RoIAlign.
    """
    variant, split = pooled_variant(suite), suite.report_split
    prepare_process(threads)
    found: dict[str, list[Any]] = {"values": [], "gradients": [], "jumps": []}
    origin: dict[str, Any] = {}
    path, times = None, None
    for seed, checkpoint in checkpoints.items():
        opened = open_checkpoint(suite, variant, checkpoint, data, split)
        origin[str(seed)] = {"sha256": sha256(checkpoint), "config_hash": opened.config_hash}
        values, own_gradients, jumps = Values(FACTORS), Gradients(FACTORS), Jumps(places)
        batch_size = min(images, suite.inference.batch_size)
        batches = math.ceil(min(images, len(opened.dataset)) / batch_size)
        scenes = scenes_of(opened, data, split, images, batch_size)
        for scene in tqdm(scenes, f"{variant} seed {seed}", batches, unit="batch"):
            for part in (values, own_gradients, jumps):
                part.add(scene)
            if seed == next(iter(checkpoints)):
                path = path or gradients.scan(scene)
                times = times or time_poolings(scene, rounds)
        for name, part in (("values", values), ("gradients", own_gradients), ("jumps", jumps)):
            found[name].append(part.summary())
    result = {
        "suite": suite.name,
        "variant": variant,
        "split": split,
        "seeds": list(checkpoints),
        "settings": [setting.name for setting in pooled_settings(suite)],
        "exact": EXACT,
        "samples": SAMPLES,
        "checkpoints": origin,
        "dataset_fingerprint": dataset_fingerprint(data),
        **provenance.git_state(),
        "versions": provenance.versions(),
        "hardware": hardware(),
        "threads": threads,
        "measured": {
            "images": min(images, len(opened.dataset)),
            "factors": FACTORS,
            "rows": ROWS,
            "low": gradients.LOW,
            "shift": gradients.SHIFT,
            "jump": gradients.JUMP,
            "convention_samples": CONVENTION_SAMPLES,
        },
        "existing": gradients.existing(),
        **found,
        "scan": path,
        "times": times,
    }
    write_json(out, result)
    _tell(result)
    return result


def _tell(result: Mapping[str, Any]) -> None:
    """The first seed's figures in short."""
    values = result["values"][0]
    for number, (name, rois) in enumerate(zip(ROWS, values["rois"], strict=True)):
        if rois:
            errors = ", ".join(f"{pooling} {100 * own[number]:.3g} %" for pooling, own in values["error"].items())
            print(f"{name}: {rois} RoIs, error of the values {errors}", flush=True)


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> Finished | None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments pooling", description="Measure RoIAlign beside Precise RoI Pooling."
    )
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--images", type=int, default=IMAGES, help="of the reported split (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the timing (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="default: where the workflow puts it")
    options = parser.parse_args(arguments)
    suite = load_suite(options.suite)
    variant, layout = pooled_variant(suite), suite.layout
    out = options.out or layout.measured_pooling
    measure_pooling(
        suite,
        checkpoints={seed: layout.run(variant, seed).checkpoint for seed in suite.seeds},
        data=layout.data,
        out=out,
        images=options.images,
        rounds=options.rounds,
        threads=options.threads,
    )
    return Finished(suite, out) if out.resolve() == layout.measured_pooling.resolve() else None

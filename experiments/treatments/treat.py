"""Evaluates a detector's boxes in every treatment: `python -m experiments treat --detector D --seed K`.

The refiners of the same seed, one per kind of IoU head, get the boxes of the detector before NMS. Writes the files of
`experiments.evaluation.files` per treatment (`suite.treatments`), and the boxes of some in `detections.json.gz`.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.data.datasets import dataset_classes
from experiments.evaluation.files import done_before, finish, origin_of, require_own, write_detections, write_metrics
from experiments.evaluation.inference import append, batches
from experiments.evaluation.metrics import DetectionColumns
from experiments.finished import Finished
from experiments.refinement.training import as_tensor
from experiments.runtime import prepare_process
from experiments.treatments.batch import Batch, Clock, Sight
from experiments.treatments.detector import BoxSource
from experiments.treatments.rows import treatments_of
from iounet.refiner import IoURefiner
from suite.errors import SuiteError, exits_on_error
from suite.files import folder_lock, sha256
from suite.images import read_image
from suite.kept import forget, publish
from suite.layout import DataFolder, TreatmentFolder
from suite.suite import Suite, load_suite
from suite.treatments import GUIDED, HEADS, PER_CLASS, STEPS, THRESHOLD, Treatment, compared


def treat(
    suite: Suite,
    detector: str,
    seed: int,
    split: str,
    *,
    checkpoint: Path,
    refiners: Mapping[str, Path],
    data: DataFolder,
    out: TreatmentFolder,
    threads: int = 1,
) -> dict[str, dict[str, Any]]:
    """Evaluates every treatment of a detector's boxes and writes the files of the module's docstring into `out`.

    Args:
        suite: the suite.
        detector: one of `suite.treated`.
        seed: of the trainings.
        split: the images.
        checkpoint: of the detector.
        refiners: file of the refiner by its head, one of each of `HEADS`.
        data: the suite's images.
        out: folder of the files; an evaluation that is there is replaced, unless it is this very one.
        threads: of torch.

    Returns:
        Name of the treatment to the contents of its JSON file.

    Raises:
        SuiteError: a checkpoint, a refiner or the data are missing, damaged or of another model; or `out` holds other
            files.
    """
    started = time.monotonic()
    require_own(out)
    if detector not in suite.treated:
        raise SuiteError(f"suite '{suite.name}' has no detector '{detector}'; it has {', '.join(suite.treated)}")
    for head, path in refiners.items():
        if not path.is_file():
            command = f"python -m experiments train-refiner --head {head} --seed {seed}"
            raise SuiteError(f"{path} is missing: {command}, or snakemake anydetector")
    prepare_process(threads)
    with folder_lock(out.path):
        source = BoxSource(suite, detector, checkpoint, data, split)
        hashes = {head: sha256(path) for head, path in refiners.items()}
        place = {"suite": suite.name, "variant": detector, "seed": seed, "split": split}
        origin = origin_of(checkpoint, source.config_hash, data)
        chosen = treatments_of(suite, detector)
        described = {
            one.name: {"treatment": one.described(), "refiner_sha256": hashes[one.head] if one.head else None}
            for one in chosen
        }
        done = done_before(out, described, {**place, **origin})
        if done is not None:
            print(f"{out.path} is already evaluated: nothing to do", flush=True)
            publish(out.index)
            return done
        forget(out.index)  # it says that the rest is whole, which ends here
        device = next(source.model.parameters()).device
        models = {head: _refiner(path, device, dataset_classes(data)) for head, path in refiners.items()}
        clock = Clock(device)
        found, counted = _detect(source, models, chosen, data.images(split), suite.inference.batch_size, clock)
        facts = {**place, **origin}
        results = {
            name: write_metrics(out, name, columns, source.dataset, {**facts, **described[name]})
            for name, columns in found.items()
        }
        shown = [one.name for one in compared([suite.scale.step(STEPS[0])]) if one.head in (None, PER_CLASS)]
        write_detections(out, source.dataset, {name: found[name] for name in shown})
        facts |= {
            "refiners": {head: {"sha256": own} for head, own in hashes.items()},
            "images": len(source.dataset),
            "candidates": counted,
            "seconds": _seconds(suite, clock),
            "wall_time_s": round(time.monotonic() - started, 1),
        }
        finish(out, results, facts)
        return results


def _refiner(path: Path, device: torch.device, classes: Sequence[str]) -> IoURefiner:
    try:
        refiner = IoURefiner.load(path, device)
    except ValueError as error:
        raise SuiteError(f"{error}. Move it away, and it is trained again (snakemake anydetector)") from error
    if refiner.categories != list(classes):
        raise SuiteError(
            f"{path}: its classes are {', '.join(refiner.categories)}, those of the data {', '.join(classes)}: move it "
            "away, and it is trained again (snakemake anydetector)"
        )
    return refiner


def _detect(
    source: BoxSource,
    models: Mapping[str, IoURefiner],
    chosen: Sequence[Treatment],
    folder: Path,
    batch_size: int,
    clock: Clock,
) -> tuple[dict[str, DetectionColumns], int]:
    """Name of the treatment to its detections, and how many boxes there are before NMS."""
    dataset, counted = source.dataset, 0
    found = {one.name: DetectionColumns() for one in chosen}
    what = f"{len(chosen)} treatments"
    for images, metas, rows in batches(source.model, dataset, batch_size, what, source.workers):
        pixels = [as_tensor(read_image(folder / info["filename"])) for info in dataset.data_infos[rows]]
        with clock("detect"):
            candidates = source.candidates(images, metas)
        counted += len(candidates.image_index)
        sights = {}
        for head, model in models.items():
            with clock(f"maps {head}"):
                sights[head] = Sight(model, pixels)
        regress = None
        if source.has_regression:
            regress = functools.partial(source.regress, maps=source.maps(images), metas=metas)
        batch = Batch(candidates, len(metas), sights, regress, clock)
        for one in chosen:
            for image_id, (boxes, scores, labels, ious) in zip(
                dataset.img_ids[rows], batch.detections(one), strict=True
            ):
                own = None if one.head is None else ious
                append(found[one.name], image_id, dataset.cat_ids, boxes, scores, labels, own)
    return found, counted


def _seconds(suite: Suite, clock: Clock) -> dict[str, float]:
    """What of the work is reported: the detector's, and that of the refiner with an IoU per class."""
    keys = {
        "detect": "detect",
        "maps": f"maps {PER_CLASS}",
        "predict": PER_CLASS,
        "guided_nms": (GUIDED, THRESHOLD, PER_CLASS),
        "refine": (GUIDED, THRESHOLD, PER_CLASS, suite.scale.step(STEPS[0])),
    }
    return {name: round(clock.seconds[key], 2) for name, key in keys.items()}


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> Finished:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments treat",
        description="Evaluate what refiners that were trained alone make of a detector's boxes.",
    )
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--detector", required=True, help="the baseline, or one of the suite's `detectors`")
    parser.add_argument("--seed", type=int, default=0, help="of the detector and of the refiners")
    parser.add_argument("--split", help="default: the suite's report_split")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    options = parser.parse_args(arguments)
    suite = load_suite(options.suite)
    layout, split = suite.layout, options.split or suite.report_split
    out = layout.treated(options.detector, options.seed, split)
    treat(
        suite,
        options.detector,
        options.seed,
        split,
        checkpoint=layout.run(options.detector, options.seed).checkpoint,
        refiners={head: layout.refiner(head, options.seed).checkpoint for head in HEADS},
        data=layout.data,
        out=out,
        threads=options.threads,
    )
    return Finished(suite, out.path)

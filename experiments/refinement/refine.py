"""`python -m experiments refine`: COCO's results of any detector in, refined ones out. Needs no mmdet.

Images are read and refined batch by batch; of the detections a few numbers each are held. The output is one file in
COCO's results format, highest score first, with the predicted IoU as `iou` beside the score; `<out>.run.json` beside it
says what it was made from, with which settings, and what was left out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.data.names import composed
from experiments.refinement.annotations import Annotations, read_annotations
from experiments.refinement.results import Results, read_results
from experiments.refinement.stage import AFTER, BEFORE, STAGES, require_stage
from experiments.runtime import hardware, prepare_process
from iounet.core.nms import GUIDES
from iounet.refiner import IoURefiner
from suite import provenance
from suite.errors import SuiteError, exits_on_error
from suite.files import atomic, sha256, write_json
from suite.images import read_image
from suite.utf8 import ensure_utf8

SCORE_THRESHOLDS = {BEFORE: 0.05, AFTER: 0.0}  # before NMS the paper's; after it every box is kept
PIXEL_DIGITS, SCORE_DIGITS = 3, 6


@dataclass(frozen=True)
class Options:
    """How boxes are refined; see `iounet.refiner.IoURefiner.refine`.

    Attributes:
        stage: one of `experiments.refinement.stage.STAGES`: what the boxes are said to be.
        guide: of NMS, for boxes before it.
        iou_threshold: of the NMS that is to be done, or was.
        score_threshold: boxes with lower class scores are dropped first.
        max_per_image: boxes of an image that are refined; the others are dropped.
        step_size: λ in pixels of the network's input; None = the refiner's.
        num_steps: largest number of steps.
        rescore: multiply the class scores with the predicted IoUs.
    """

    stage: str
    guide: str = "rank"
    iou_threshold: float = 0.5
    score_threshold: float = 0.0
    max_per_image: int = 100
    step_size: float | None = None
    num_steps: int = 5
    rescore: bool = True

    def arguments(self) -> dict[str, Any]:
        """Of `IoURefiner.refine`."""
        return {
            "guide": self.guide if self.stage == BEFORE else None,
            "iou_threshold": self.iou_threshold,
            "score_threshold": self.score_threshold,
            "max_per_image": self.max_per_image,
            "step_size": self.step_size,
            "num_steps": self.num_steps,
            "rescore": self.rescore,
        }


def labels_of(
    annotations: Annotations, refiner: IoURefiner, used: Sequence[int], renamed: Mapping[str, str], source: str
) -> dict[int, int]:
    """The refiner's label of each class of the annotations that detections are of.

    Args:
        annotations: that name the classes.
        refiner: that knows its own.
        used: classes of detections, by position.
        renamed: name in the annotations to the refiner's, where they differ.
        source: what messages call the refiner.

    Raises:
        SuiteError: the refiner knows no such class, or two classes would be one of its own.
    """
    if refiner.config["class_agnostic"]:
        return {position: position for position in used}
    for name in renamed:
        if composed(name) not in annotations.names:
            raise SuiteError(f"--category {name}=…: {annotations.path} has no class '{name}'")
    names = {composed(name): composed(own) for name, own in renamed.items()}
    known = {composed(name): label for label, name in enumerate(refiner.categories)}
    found: dict[int, int] = {}
    for position in used:
        own = annotations.names[position]
        label = known.get(names.get(own, own))
        if label is None:
            told = f"'{own}'" if own not in names else f"'{names[own]}' (--category {own}={names[own]})"
            raise SuiteError(
                f"{annotations.path}: class {told}, category_id {annotations.category_ids[position]!r}, is none of "
                f"{source}: it knows {_listed(refiner.categories)}. If it has another name there: --category "
                f"'{own}=NAME'; else leave detections of it out"
            )
        if label in found.values():
            other = next(key for key, value in found.items() if value == label)
            raise SuiteError(
                f"classes '{annotations.names[other]}' and '{own}' are both '{refiner.categories[label]}' of {source}: "
                "each class needs one of its own; check --category"
            )
        found[position] = label
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:8]) + (f", … ({len(names)})" if len(names) > 8 else "")


@dataclass(frozen=True)
class Refined:
    """Refined detections, highest score first: M of them.

    Attributes:
        image: `int64[M]`, positions among the images of the annotations.
        category: `int64[M]`, positions among their classes.
        boxes: `float64[M, 4]` of (x1, y1, x2, y2), in pixels of the image, not clipped to it.
        scores: `float64[M]`, from 0 to 1.
        ious: `float64[M]`, predicted where the box is; it may lie somewhat outside [0, 1].
    """

    image: np.ndarray[Any, Any]
    category: np.ndarray[Any, Any]
    boxes: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]
    ious: np.ndarray[Any, Any]

    def rows(self, annotations: Annotations) -> Iterator[dict[str, Any]]:
        """In COCO's results format."""
        columns = (self.image, self.category, self.boxes, self.scores, self.ious)
        for image, category, (x1, y1, x2, y2), score, iou in zip(*(c.tolist() for c in columns), strict=True):
            yield {
                "image_id": annotations.image_ids[image],
                "category_id": annotations.category_ids[category],
                "bbox": [round(value, PIXEL_DIGITS) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(score, SCORE_DIGITS),
                "iou": round(iou, SCORE_DIGITS),
            }


def refine_results(
    refiner: IoURefiner,
    found: Results,
    annotations: Annotations,
    folder: Path,
    labels: Mapping[int, int],
    options: Options,
    *,
    batch_size: int = 8,
    progress: str | None = None,
) -> Refined:
    """Refines detections image by image.

    Args:
        refiner: in evaluation mode, on its device.
        found: the detections.
        annotations: of the images.
        folder: of the images.
        labels: of `labels_of`.
        options: how.
        batch_size: images at once; all of one size in the network's input.
        progress: label of a progress bar with the time left, None for none.

    Raises:
        SuiteError: an image cannot be read, or has another size than the annotations say.
    """
    from tqdm import tqdm

    categories = {label: category for category, label in labels.items()}
    columns: list[tuple[int, Any]] = []
    total = len(np.unique(found.image))
    with tqdm(total=total, desc=progress, disable=progress is None, unit="image") as bar:
        for batch in _batches(refiner, found, annotations, batch_size):
            images = [_pixels(annotations, folder, image) for image, _ in batch]
            refined = refiner.refine(
                images,
                [torch.from_numpy(found.boxes[rows]) for _, rows in batch],
                [torch.from_numpy(found.scores[rows]) for _, rows in batch],
                [torch.tensor([labels[category] for category in found.category[rows].tolist()]) for _, rows in batch],
                **options.arguments(),
            )
            columns += [(image, own) for (image, _), own in zip(batch, refined, strict=True)]
            bar.update(len(batch))
    columns.sort(key=lambda one: one[0])
    scores = np.concatenate([own.scores.double().numpy() for _, own in columns]).clip(0, 1)
    order = np.argsort(-scores, kind="stable")
    label = np.concatenate([own.labels.numpy() for _, own in columns])
    return Refined(
        np.repeat([image for image, _ in columns], [len(own.scores) for _, own in columns])[order],
        np.array([categories[one] for one in label.tolist()], np.int64)[order],
        np.concatenate([own.boxes.double().numpy() for _, own in columns])[order],
        scores[order],
        np.concatenate([own.ious.double().numpy() for _, own in columns])[order],
    )


def _batches(
    refiner: IoURefiner, found: Results, annotations: Annotations, batch_size: int
) -> Iterator[list[tuple[int, Any]]]:
    """Images and their entries, so many at once as fit beside each other without being padded."""
    waiting: dict[tuple[int, int], list[tuple[int, Any]]] = {}
    for image, rows in found.by_image():
        width, height = annotations.sizes[image]
        batch = waiting.setdefault(refiner.padded(height, width), [])
        batch.append((image, rows))
        if len(batch) == batch_size:
            yield batch
            batch.clear()
    yield from filter(None, waiting.values())


def _pixels(annotations: Annotations, folder: Path, image: int) -> Tensor:
    file = annotations.file(folder, image)
    pixels = read_image(file)
    height, width = pixels.shape[:2]
    if (width, height) != annotations.sizes[image]:
        said = " x ".join(map(str, annotations.sizes[image]))
        raise SuiteError(
            f"{file} is of {width} x {height} pixels, {annotations.path} says {said} (image_id "
            f"{annotations.image_ids[image]!r}): the boxes are of another image, or of one that is scaled or turned"
        )
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def run_file(out: Path) -> Path:
    """Where it is said what the refined detections were made from."""
    return out.with_name(f"{out.name.removesuffix('.gz').removesuffix('.json')}.run.json")


def require_writable(out: Path) -> None:
    """Checks, before anything is computed, that a file can be written. Raises `SuiteError`."""
    if out.is_dir():
        raise SuiteError(f"--out {out} is a folder: name a file, for example {out / 'refined.json'}")
    if not out.name.removesuffix(".gz").endswith(".json"):
        raise SuiteError(f"--out {out}: its name must end in .json or .json.gz")
    probe = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SuiteError(f"--out {out} cannot be written ({error.strerror or error}): name another file") from None


def write_rows(out: Path, rows: Iterator[dict[str, Any]]) -> int:
    """Writes a list of rows, a line each, whole or not at all; returns how many."""
    count = 0
    with atomic(out) as part:
        # no time and no name in the header: the same rows are the same bytes
        with part.open("wb") as raw:
            file = gzip.GzipFile("", "wb", 6, raw, mtime=0) if out.name.endswith(".gz") else raw
            for row in rows:
                file.write((",\n" if count else "[\n").encode() + json.dumps(row, allow_nan=False).encode())
                count += 1
            file.write(b"\n]\n" if count else b"[]\n")
            if file is not raw:
                file.close()
    return count


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    chosen = _parser().parse_args(arguments)
    if chosen.guide is not None and chosen.input == AFTER:
        raise SuiteError(f"--guide orders boxes in NMS, which --input {AFTER} says is done: leave one of them out")
    least = SCORE_THRESHOLDS[chosen.input] if chosen.min_score is None else chosen.min_score
    options = Options(
        chosen.input,
        guide=chosen.guide or "rank",
        iou_threshold=chosen.iou_threshold,
        score_threshold=least,
        max_per_image=chosen.max_per_image,
        step_size=chosen.step_size,
        num_steps=chosen.steps,
        rescore=chosen.rescore,
    )
    started, clock = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), time.monotonic()
    for path in (chosen.out, run_file(chosen.out)):
        require_writable(path)
        for name in ("detections", "annotations", "refiner"):
            if path.exists() and getattr(chosen, name).exists() and path.samefile(getattr(chosen, name)):
                raise SuiteError(f"--out {chosen.out} would take the place of --{name}: name another file")
    if not chosen.refiner.is_file():
        raise SuiteError(f"--refiner {chosen.refiner}: no such file; python -m experiments train-refiner makes one")
    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise SuiteError("--device cuda: torch sees no GPU here")
    annotations = read_annotations(chosen.annotations)
    found = read_results(chosen.detections, annotations)
    annotations.require_files(chosen.images, np.unique(found.image).tolist())
    warning = require_stage(found, annotations, options.stage, options.iou_threshold)
    if warning:
        print(f"warning: {warning}", flush=True)
    prepare_process(chosen.threads, chosen.device, needs_mmcv=False)
    device = chosen.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        refiner = IoURefiner.load(chosen.refiner, device)
    except ValueError as error:
        raise SuiteError(f"--refiner {error}. python -m experiments train-refiner makes one") from error
    renamed = dict(chosen.category or [])
    labels = labels_of(
        annotations, refiner, np.unique(found.category).tolist(), renamed, f"the refiner {chosen.refiner}"
    )
    refined = refine_results(
        refiner,
        found,
        annotations,
        chosen.images,
        labels,
        options,
        batch_size=chosen.batch_size,
        progress=chosen.detections.name,
    )
    low = int((found.scores < least).sum())
    count = write_rows(chosen.out, refined.rows(annotations))
    step_size = refiner.step_size if options.step_size is None else options.step_size
    seconds = round(time.monotonic() - clock, 1)
    images = len(np.unique(found.image))
    record = {
        "refiner": {"path": str(chosen.refiner), "sha256": sha256(chosen.refiner)},
        "detections": {"path": str(chosen.detections), "sha256": sha256(chosen.detections)},
        "annotations": {"path": str(chosen.annotations), "sha256": sha256(chosen.annotations)},
        "images": str(chosen.images),
        "settings": {"input": options.stage, **options.arguments(), "step_size": step_size, "categories": renamed},
        "counts": {"images": images, "read": len(found.scores), "below_min_score": low, "written": count},
        "warning": warning,
        "started": started,
        "seconds": seconds,
        **provenance.git_state(),
        "versions": provenance.versions(),
        "hardware": hardware(),
    }
    write_json(run_file(chosen.out), record)
    print(
        f"{chosen.out}: {count} detections of {images} images, in {seconds:g} s ({len(found.scores)} read, "
        f"{low} of them below {least:g}; {_what(options)}). {run_file(chosen.out).name} says what they were made from"
    )
    return 0


def _what(options: Options) -> str:
    nms = f"NMS guided by {options.guide!r}" if options.stage == BEFORE else "no NMS"
    scores = "class score × predicted IoU" if options.rescore else "class score"
    return f"{nms}, at most {options.max_per_image} of an image, score: {scores}"


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} must be from 0 to 1")
    return value


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more")
    return value


def _steps(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} must be 0 or more")
    return value


def _pair(text: str) -> tuple[str, str]:
    name, mark, own = text.partition("=")
    if not mark or not name or not own:
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=NAME: the annotations' name and the refiner's")
    return name, own


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments refine",
        description="Refine the boxes of any detector: COCO's results in and out. A refiner is trained by "
        "python -m experiments train-refiner; nothing else of this project, and no mmdet, is needed.",
    )
    parser.add_argument("--refiner", type=Path, required=True, help="refiner.pth")
    parser.add_argument("--detections", type=Path, required=True, help="COCO's results, .json or .json.gz")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument(
        "--annotations",
        type=Path,
        required=True,
        help="COCO's annotations: which image has which file, which class which name; objects are not read",
    )
    parser.add_argument("--out", type=Path, required=True, help="FILE.json or FILE.json.gz; it is replaced")
    parser.add_argument(
        "--input",
        choices=STAGES,
        required=True,
        help=f"{BEFORE}: all boxes that the detector scored, of which IoU-guided NMS keeps some; {AFTER}: those that "
        "its own NMS kept, which are moved and rescored",
    )
    parser.add_argument("--guide", choices=GUIDES, help=f"what orders boxes in NMS, with {BEFORE} (default: rank)")
    parser.add_argument(
        "--iou-threshold",
        type=_share,
        default=0.5,
        help=f"of NMS: the one to do, or with {AFTER} the one that was done (default: %(default)s)",
    )
    parser.add_argument(
        "--min-score",
        type=_share,
        help="drop boxes with a lower class score first (default: "
        + ", ".join(f"{value:g} {stage}" for stage, value in SCORE_THRESHOLDS.items())
        + ")",
    )
    parser.add_argument(
        "--max-per-image",
        type=_count,
        default=100,
        help="boxes of an image that are refined, by class score; the others are dropped (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=_steps, default=5, help="of the refinement, at most; 0 moves nothing (default: %(default)s)"
    )
    parser.add_argument(
        "--step-size",
        type=_above_zero,
        help="λ, about a step's length in pixels of the network's input (default: the refiner's own)",
    )
    parser.add_argument(
        "--rescore",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="score: class score × the IoU predicted "
        "where the box ends; without it the class score (default: --rescore)",
    )
    parser.add_argument(
        "--category",
        type=_pair,
        action="append",
        metavar="NAME=NAME",
        help="a class by its name in the annotations and in the refiner, where they differ; may be given several times",
    )
    parser.add_argument("--batch-size", type=_count, default=8, help="images at once (default: %(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: the GPU if there is one")
    parser.add_argument("--threads", type=_count, default=len(os.sched_getaffinity(0)), help="of torch (default: all)")
    return parser


if __name__ == "__main__":
    ensure_utf8()
    raise SystemExit(main())

"""`python -m experiments refine`: COCO's results of any detector in, refined ones out. Needs no mmdet.

The output is one file in COCO's results format, highest score first, with the predicted IoU as `iou` beside the score;
`<out>.run.json` beside it says what it was made from, with which settings, and what was left out.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.refinement.annotations import read_annotations
from experiments.refinement.apply import Options, labels_of, refine_results
from experiments.refinement.results import reaching_beyond, read_results
from experiments.refinement.stage import AFTER, BEFORE, STAGES, require_stage
from experiments.runtime import hardware, prepare_process
from iounet.core.nms import GUIDES
from iounet.refiner import IoURefiner
from suite import provenance
from suite.errors import SuiteError, exits_on_error
from suite.files import atomic, sha256, write_json

SCORE_THRESHOLDS = {BEFORE: 0.05, AFTER: 0.0}  # before NMS the paper's; after it every box is kept


def refine_file(
    *,
    refiner: Path,
    detections: Path,
    images: Path,
    annotations: Path,
    out: Path,
    options: Options,
    renamed: Mapping[str, str] | None = None,
    batch_size: int = 8,
    device: str | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Refines the detections of a file. All that can be checked before weights are loaded is.

    Args:
        refiner: file of `train-refiner`.
        detections: COCO's results.
        images: folder of the images.
        annotations: COCO's annotations of them.
        out: file of the refined detections.
        options: how.
        renamed: class by its name in the annotations to that in the refiner, where they differ.
        batch_size: images at once.
        device: None = the GPU if there is one.
        threads: of torch.

    Returns:
        What `<out>.run.json` says.

    Raises:
        SuiteError: a file is missing or damaged, or does not fit the others; names file and entry.
    """
    started, clock = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), time.monotonic()
    sources = {"refiner": refiner, "detections": detections, "annotations": annotations}
    for path in (out, run_file(out)):
        require_writable(path)
        for name, source in sources.items():
            if path.exists() and source.exists() and path.samefile(source):
                raise SuiteError(f"--out {out} would take the place of --{name} {source}: name another file")
    if not refiner.is_file():
        raise SuiteError(f"--refiner {refiner}: no such file; python -m experiments train-refiner makes one")
    if device == "cuda" and not torch.cuda.is_available():
        raise SuiteError("--device cuda: torch sees no GPU here")
    known = read_annotations(annotations)
    found = read_results(detections, known)
    shown = np.unique(found.image).tolist()
    known.require_files(images, shown)
    told = reaching_beyond(found, known), require_stage(found, known, options.stage, options.iou_threshold)
    warnings = [warning for warning in told if warning]
    for warning in warnings:
        print(f"warning: {warning}", flush=True)
    prepare_process(threads, device, needs_mmcv=False)
    try:
        model = IoURefiner.load(refiner, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except ValueError as error:
        raise SuiteError(f"--refiner {error}. python -m experiments train-refiner makes one") from error
    used = np.unique(found.category).tolist()
    labels = labels_of(known, model, used, renamed or {}, f"the refiner {refiner}")
    refined = refine_results(
        model, found, known, images, labels, options, batch_size=batch_size, progress=detections.name
    )
    low = int((found.scores < options.score_threshold).sum())
    count = write_rows(out, refined.rows(known))
    step_size = model.step_size if options.step_size is None else options.step_size
    record = {
        **{name: {"path": str(path), "sha256": sha256(path)} for name, path in sources.items()},
        "images": str(images),
        "settings": {
            "input": options.stage,
            **options.arguments(),
            "step_size": step_size,
            "categories": dict(renamed or {}),
        },
        "counts": {"images": len(shown), "read": len(found.scores), "below_min_score": low, "written": count},
        "warnings": warnings,
        "started": started,
        "seconds": round(time.monotonic() - clock, 1),
        **provenance.git_state(),
        "versions": provenance.versions(),
        "hardware": hardware(),
    }
    write_json(run_file(out), record)
    return record


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
        raise SuiteError(f"--out {out} cannot be written ({error}): name another file") from None


def write_rows(out: Path, rows: Iterator[dict[str, Any]]) -> int:
    """Writes a list of rows, a line each, whole or not at all; returns how many."""
    count = 0
    with atomic(out) as part, contextlib.ExitStack() as opened:
        file: Any = opened.enter_context(part.open("wb"))
        if out.name.endswith(".gz"):  # no time and no name in its header: the same rows are the same bytes
            file = opened.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0))
        for row in rows:
            file.write((",\n" if count else "[\n").encode() + json.dumps(row, allow_nan=False).encode())
            count += 1
        file.write(b"\n]\n" if count else b"[]\n")
    return count


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    chosen = _parser().parse_args(arguments)
    if chosen.guide is not None and chosen.input == AFTER:
        raise SuiteError(f"--guide orders boxes in NMS, which --input {AFTER} says is done: leave one of them out")
    options = Options(
        chosen.input,
        guide=chosen.guide or "rank",
        iou_threshold=chosen.iou_threshold,
        score_threshold=SCORE_THRESHOLDS[chosen.input] if chosen.min_score is None else chosen.min_score,
        max_per_image=chosen.max_per_image,
        step_size=chosen.step_size,
        num_steps=chosen.steps,
        rescore=chosen.rescore,
    )
    record = refine_file(
        refiner=chosen.refiner,
        detections=chosen.detections,
        images=chosen.images,
        annotations=chosen.annotations,
        out=chosen.out,
        options=options,
        renamed=dict(chosen.category or []),
        batch_size=chosen.batch_size,
        device=chosen.device,
        threads=chosen.threads,
    )
    counts = record["counts"]
    print(
        f"{chosen.out}: {counts['written']} detections of {counts['images']} images in {record['seconds']:g} s, from "
        f"{counts['read']} ({counts['below_min_score']} below {options.score_threshold:g}; {_what(options)}). "
        f"{run_file(chosen.out).name} says what they were made from"
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

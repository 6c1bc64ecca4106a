"""`python -m experiments data --suite S`: makes the images of a suite, or checks and indexes those in a folder."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2

from experiments.data.folder.index import index_folder
from experiments.data.folder.source import missing
from experiments.data.folder.training_view import left_out_of_training
from experiments.data.shapes.dataset import write_dataset
from experiments.data.shapes.sheet import contact_sheet
from experiments.data.weights import check_suite_weights, missing_weights
from experiments.finished import Finished
from suite.blocks import FolderData, GeneratedData
from suite.errors import SuiteError
from suite.files import folder_lock
from suite.layout import DataFolder
from suite.suite import Suite, load_suite


def prepare_data(suite: Suite, data: DataFolder, workers: int | None = None) -> None:
    """Makes the images of a suite, or checks and indexes those in its folder; says on stderr and stdout what it found.

    Args:
        suite: a checked suite.
        data: where to write.
        workers: processes that draw, or threads that look at those of a folder; default: one per CPU.

    Raises:
        SuiteError: a file is missing, damaged or in the way; or the weights of a backbone are.
    """
    if isinstance(suite.dataset, GeneratedData):
        write_dataset(suite.dataset, data, workers, verbose=True)
        return
    if lacking := missing(suite.dataset) + missing_weights(suite):
        raise SuiteError("\n".join(lacking))
    check_suite_weights(suite)
    with folder_lock(data.path):
        manifest = index_folder(suite.dataset, data, workers or os.cpu_count() or 1)
        not_trained = left_out_of_training(suite, data)
    for name, split in manifest["splits"].items():
        print("\n    ".join([_summary(name, split), *_notes(split, not_trained.get(name, {}))]))
    classes = f"{len(manifest['categories'])} classes: {', '.join(manifest['categories'])}"
    boxes = {name: manifest["splits"][name]["boxes"] for name in suite.dataset.splits}
    print("\n    ".join([classes, *_only_learnt(boxes)]))


def _only_learnt(boxes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The classes that only `train` has boxes of, a line each: nothing is said of them later, or they are a typo.

    Args:
        boxes: of each split, by class.
    """
    return [
        f"'{name}' has boxes in `train` ({number}), and none in any other split: is it the name that was meant?"
        for name, number in boxes["train"].items()
        if number and not any(own[name] for split, own in boxes.items() if split != "train")
    ]


def _summary(name: str, split: Mapping[str, Any]) -> str:
    text = f"{name}: {split['images']} images, {split['annotations']} boxes"
    if split["crowds"]:
        text += f", {split['crowds']} of them crowds, difficult or ignored: neither learnt nor counted"
    return text + (f" (dropped: {left_out})" if (left_out := _counts(split["dropped"])) else "")


def _notes(split: Mapping[str, Any], not_trained: Mapping[str, int]) -> list[str]:
    """What is odd about the images of a split, a line each."""
    notes = []
    if left_out := _counts(not_trained):
        notes.append(f"training leaves out images: {left_out}")
    if skipped := split.get("skipped"):
        notes += [f"left out: {name} ({why})" for name, why in skipped.items()]
    if turned := split.get("turned"):
        notes.append(
            f"{len(turned)} images are turned by their EXIF entry, {turned[0]} the first: training sees them turned; "
            "make sure that their boxes were drawn so"
        )
    if without_end := split.get("without_end"):
        notes.append(f"{len(without_end)} files lack their end, {without_end[0]} the first, and are whole otherwise")
    return notes


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in counts.items() if n)


def main(arguments: Sequence[str] | None = None) -> Finished | int:
    """Command line; hands the suite's own data folder on, else returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments data",
        description="Make the images of a suite, or check and index those in a folder.",
    )
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder to write (default: the suite's own)")
    parser.add_argument("--workers", type=int, help="processes or threads (default: one per CPU)")
    parser.add_argument(
        "--sheet", type=Path, help="PNG of 24 generated images with their boxes to write; without --out, only that"
    )
    parser.add_argument("--sheet-split", help="split of the sheet (default: the last one)")
    options = parser.parse_args(arguments)
    if options.workers is not None and options.workers < 1:
        parser.error(f"--workers: expected 1 or more, got {options.workers}")
    cv2.setNumThreads(1)
    try:
        suite = load_suite(options.suite)
        if options.sheet is not None:
            split = options.sheet_split or list(suite.dataset.splits)[-1]
            if isinstance(suite.dataset, FolderData):
                parser.error(f"--sheet: the images of {options.suite} are not generated")
            if split not in suite.dataset.splits:
                known = ", ".join(suite.dataset.splits)
                parser.error(f"--sheet-split: {options.suite} has no split {split!r}; it has {known}")
            _write_sheet(suite.dataset, split, options.sheet)
        if options.out is not None or options.sheet is None:
            data = DataFolder(options.out) if options.out is not None else suite.layout.data
            prepare_data(suite, data, options.workers)
            if data.path.resolve() == suite.layout.data.path.resolve():
                return Finished(suite, data.path)
    except (SuiteError, OSError, RuntimeError) as error:  # OSError: a file that may not be read, a full disk
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues with the split it was at", file=sys.stderr)
        return 130
    return 0


def _write_sheet(dataset: GeneratedData, split: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(contact_sheet(dataset, split), cv2.COLOR_RGB2BGR)):
        raise OSError(f"could not write {path}")

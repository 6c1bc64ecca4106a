"""Makes the set of generated images that a suite asks for: COCO annotations, and in its data folder

    <split>/000001.png …   RGB images
    <split>.json           COCO instances without ``segmentation``. ``area`` is the visible mask's: COCO's size ranges
                           go by it. ``visible`` is the visible part of the whole shape. Image ids are unique over all.
    dataset.json           the manifest, written last

A killed run resumes: a split whose json has the right fingerprint and whose images are all there is kept.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from typing import Any

from experiments.data.shapes.scene import CATEGORIES
from experiments.data.shapes.split import (
    VERSION,
    quiet,
    scene_settings,
    split_fingerprint,
    split_is_complete,
    write_split,
)
from suite.blocks import GeneratedData
from suite.files import digest, folder_lock, read_json, sha256, write_json
from suite.layout import DataFolder

IDS_PER_SPLIT = 1_000_000


def spec(dataset: GeneratedData) -> dict[str, Any]:
    """The suite's block as plain data; its fingerprint depends on the order of the keys."""
    return {
        "splits": {
            name: {"images": split.images, "difficulty": split.difficulty} for name, split in dataset.splits.items()
        },
        "generator": dataset.generator,
        "image_size": dataset.image_size,
        "seed": dataset.seed,
        "objects": list(dataset.objects),
        "sizes": list(dataset.sizes),
        "classes": list(dataset.classes),
        "neighbours": dataset.neighbours,
    }


def fingerprint(dataset: GeneratedData) -> str:
    """What decides whether the images are made again: sha256 of the generator's version and the suite's block."""
    return digest({"version": VERSION, **spec(dataset)})


def _manifest(dataset: GeneratedData, data: DataFolder) -> dict[str, Any]:
    splits = {}
    for name in dataset.splits:
        contents = read_json(data.annotations(name))
        counts = {key: len(contents[key]) for key in ("images", "annotations")}
        splits[name] = {**counts, "sha256": sha256(data.annotations(name))}
    return {
        "generator": dataset.generator,
        "version": VERSION,
        "fingerprint": fingerprint(dataset),
        "spec": spec(dataset),
        "splits": splits,
        "categories": list(CATEGORIES),
    }


def _read_manifest(data: DataFolder) -> Any:
    try:
        return read_json(data.manifest)
    except (OSError, ValueError):
        return None


def _show_progress(split: str, started: float, done: int, total: int) -> None:
    """Renews a line on stderr if that is a terminal; prints one when the split is done."""
    seconds = time.monotonic() - started
    if done == total:
        print(f"{split}: {total} images in {seconds:.1f} s".ljust(50), file=sys.stderr, flush=True)
    elif sys.stderr.isatty():
        left = seconds / done * (total - done)
        print(f"{split}: {done}/{total} images, {left:.0f} s left".ljust(50), end="\r", file=sys.stderr, flush=True)


def write_dataset(dataset: GeneratedData, data: DataFolder, workers: int | None = None, verbose: bool = False) -> bool:
    """Writes the splits that are missing or differ, then the manifest; does nothing where all is there and matches.

    A second process on the same folder waits for the first and then finds the work done.

    Args:
        dataset: what to make.
        data: where to write.
        workers: processes; default: one per CPU.
        verbose: say on stderr what is done.

    Returns:
        Whether anything was written.

    Raises:
        SuiteError: see `write_split`.
    """
    workers = workers or os.cpu_count() or 1
    splits = {
        name: {
            "images": split.images,
            "scene": scene_settings(dataset, name),
            "seed": dataset.seed,
            "first_id": slot * IDS_PER_SPLIT + 1,
        }
        for slot, (name, split) in enumerate(dataset.splits.items())
    }
    with folder_lock(data.path):
        complete = all(split_is_complete(data, name, split_fingerprint(name, **s)) for name, s in splits.items())
        if complete and _read_manifest(data) == _manifest(dataset, data):
            if verbose:
                print(f"{data.path} is complete and matches the spec: nothing to do", file=sys.stderr)
            return False
        data.manifest.unlink(missing_ok=True)
        for name, settings in splits.items():
            progress = functools.partial(_show_progress, name, time.monotonic()) if verbose else quiet
            made = write_split(data, name, **settings, workers=workers, progress=progress)  # type: ignore[arg-type]
            if verbose and not made:
                print(f"{name}: {settings['images']} images kept", file=sys.stderr)
        write_json(data.manifest, _manifest(dataset, data))
        return True

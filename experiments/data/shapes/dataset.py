"""Generates the ``shapes`` detection set in COCO format: ``python -m experiments.data.shapes.dataset --help``.

Image i of a split follows from ``VERSION``, the dataset's seed, the split's name, i, and the ranges in the spec alone:
not from the number of workers, nor from the other images. Written under ``--out``:

    <split>/000001.png …   RGB images
    <split>.json           COCO instances without ``segmentation``. ``area`` is the visible mask's: COCO's size ranges
                           go by it. ``visible`` is the visible part of the whole shape. Image ids are unique over all.
    dataset.json           the manifest, written last

A killed run resumes: a split whose json has the right fingerprint and whose images are all there is kept.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from experiments.data.shapes.scene import CATEGORIES, Annotation, Array, render_scene
from experiments.data.shapes.spec import IDS_PER_SPLIT, VERSION, digest, fingerprint, spec
from experiments.tracking.data import log_dataset
from suite.errors import SuiteError
from suite.files import folder_lock, read_json, sha256, write_json
from suite.suite import GeneratedData, load_suite

CHUNK = 32  # images a worker makes at a time

Progress = Callable[[int, int], None]  # images done, images in all


def _quiet(done: int, total: int) -> None:
    """No progress shown."""


# --- one split ----------------------------------------------------------------------------------------------


def scene_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The generator that image ``index`` (from 0) of a split is drawn with."""
    return np.random.default_rng(np.random.SeedSequence([VERSION, seed, zlib.crc32(split.encode()), index]))


def _write_images(indices: range, *, folder: Path, split: str, seed: int, scene: Mapping[str, Any]) -> list[list[Any]]:
    """Draws and writes some images of a split; per image, its annotations without their masks."""
    rows = []
    for index in indices:
        image, annotations = render_scene(scene_rng(seed, split, index), **scene)
        path = folder / f"{index + 1:06d}.png"
        if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
            raise OSError(f"could not write {path}: is the disk full, or the folder gone?")
        rows.append([(a.category, a.bbox, a.area, a.visible) for a in annotations])
    return rows


def _start_worker() -> None:
    """One thread per worker; a worker whose parent was killed ends too."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _coco(split: str, fingerprint: str, image_size: int, first_id: int, rows: Sequence[Any]) -> dict[str, Any]:
    names = {name: number for number, name in enumerate(CATEGORIES, 1)}
    images, annotations = [], []
    for image_id, row in enumerate(rows, first_id):
        file_name = f"{image_id - first_id + 1:06d}.png"
        images.append({"id": image_id, "file_name": file_name, "width": image_size, "height": image_size})
        for number, (category, bbox, area, visible) in enumerate(row, 1):
            annotations.append(
                {
                    "id": image_id * 100 + number,
                    "image_id": image_id,
                    "category_id": names[category],
                    "bbox": list(bbox),
                    "area": area,
                    "iscrowd": 0,
                    "visible": visible,
                }
            )
    info = {"description": f"shapes, split {split}", "version": VERSION, "fingerprint": fingerprint}
    categories = [{"id": number, "name": name, "supercategory": "shape"} for name, number in names.items()]
    return {"info": info, "categories": categories, "images": images, "annotations": annotations}


def _clear(folder: Path) -> None:
    """Deletes a folder of numbered images; refuses one that holds anything else."""
    if folder.exists():
        foreign = [p.name for p in folder.iterdir() if not re.fullmatch(r"\d{6}\.png", p.name)]
        if foreign:
            raise SuiteError(
                f"{folder} holds {foreign[0]!r}, which is not generated: choose another --out, or move it away"
            )
        shutil.rmtree(folder)


def split_fingerprint(split: str, **settings: Any) -> str:
    """Sha256 of the generator's version, a split's name and what `write_split` takes besides folder and workers."""
    return digest({"version": VERSION, "split": split, **dict(sorted(settings.items()))})


def split_is_complete(out: str | Path, split: str, fingerprint: str) -> bool:
    """Whether ``<split>.json`` has this fingerprint and all its images are there."""
    out = Path(out)
    try:
        data = read_json(out / f"{split}.json")
        names = {image["file_name"] for image in data["images"]}
        return data["info"]["fingerprint"] == fingerprint and names == set(os.listdir(out / split))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_split(
    out: str | Path,
    split: str,
    *,
    images: int,
    seed: int = 0,
    image_size: int = 96,
    objects: tuple[int, int] = (2, 5),
    sizes: tuple[float, float] = (16, 52),
    difficulty: str = "normal",
    first_id: int = 1,
    workers: int = 1,
    progress: Progress = _quiet,
) -> bool:
    """Writes ``<out>/<split>/*.png`` and ``<out>/<split>.json`` unless they are there and match.

    Both appear whole or not at all: the images are made in ``.<split>.part`` and renamed, then the json is written.

    Args:
        out: the data folder.
        split: name of the split; part of the random seed.
        images: number of images.
        seed, image_size, objects, sizes, difficulty: see ``render_scene``.
        first_id: id of the first image; annotation ids are 100 × image id + 1, 2, …
        workers: processes; the result does not depend on it.
        progress: called with the images done and in all.

    Returns:
        Whether anything was written.

    Raises:
        SuiteError: ``<out>/<split>`` holds files that this generator did not write.
    """
    scene = {"image_size": image_size, "objects": objects, "sizes": sizes, "difficulty": difficulty}
    own = split_fingerprint(split, images=images, seed=seed, first_id=first_id, **scene)
    out = Path(out)
    if split_is_complete(out, split, own):
        return False
    folder, part, index_file = out / split, out / f".{split}.part", out / f"{split}.json"
    _clear(folder)  # before the work, so that a refusal comes at once
    index_file.unlink(missing_ok=True)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)

    make = functools.partial(_write_images, folder=part, split=split, seed=seed, scene=scene)
    chunks = [range(start, min(start + CHUNK, images)) for start in range(0, images, CHUNK)]
    rows: list[Any] = []
    workers = min(workers, len(chunks))
    if workers <= 1:
        for chunk in chunks:
            rows += make(chunk)
            progress(len(rows), images)
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
            try:
                for made in pool.map(make, chunks):
                    rows += made
                    progress(len(rows), images)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    part.rename(folder)
    write_json(index_file, _coco(split, own, image_size, first_id, rows))
    return True


# --- the set ------------------------------------------------------------------------------------------------


def _manifest(dataset: GeneratedData, out: Path) -> dict[str, Any]:
    splits = {}
    for name in dataset.splits:
        data = read_json(out / f"{name}.json")
        counts = {"images": len(data["images"]), "annotations": len(data["annotations"])}
        splits[name] = {**counts, "sha256": sha256(out / f"{name}.json")}
    manifest = {
        "generator": dataset.generator,
        "version": VERSION,
        "fingerprint": fingerprint(dataset),
        "spec": spec(dataset),
        "splits": splits,
        "categories": CATEGORIES,
    }
    return json.loads(json.dumps(manifest))  # tuples become lists: comparable with what is read back


def _read_manifest(out: Path) -> Any:
    try:
        return read_json(out / "dataset.json")
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


def write_dataset(dataset: GeneratedData, out: str | Path, workers: int | None = None, verbose: bool = False) -> bool:
    """Writes the splits that are missing or differ, then the manifest; does nothing where all is there and matches.

    A second process on the same folder waits for the first and then finds the work done.

    Args:
        dataset: what to make.
        out: the data folder.
        workers: processes; default: one per CPU.
        verbose: say on stderr what is done.

    Returns:
        Whether anything was written.

    Raises:
        SuiteError: see `write_split`.
    """
    out, workers = Path(out), workers or os.cpu_count() or 1
    splits = {
        name: {
            "images": split.images,
            "seed": dataset.seed,
            "image_size": dataset.image_size,
            "objects": dataset.objects,
            "sizes": dataset.sizes,
            "difficulty": split.difficulty,
            "first_id": slot * IDS_PER_SPLIT + 1,
        }
        for slot, (name, split) in enumerate(dataset.splits.items())
    }
    with folder_lock(out):
        complete = all(split_is_complete(out, name, split_fingerprint(name, **s)) for name, s in splits.items())
        if complete and _read_manifest(out) == _manifest(dataset, out):
            if verbose:
                print(f"{out} is complete and matches the spec: nothing to do", file=sys.stderr)
            return False
        (out / "dataset.json").unlink(missing_ok=True)
        for name, settings in splits.items():
            progress = functools.partial(_show_progress, name, time.monotonic()) if verbose else _quiet
            made = write_split(out, name, **settings, workers=workers, progress=progress)  # type: ignore[arg-type]
            if verbose and not made:
                print(f"{name}: {settings['images']} images kept", file=sys.stderr)
        write_json(out / "dataset.json", _manifest(dataset, out))
        return True


# --- the sheet ----------------------------------------------------------------------------------------------


def draw_boxes(image: Array, annotations: Sequence[Annotation], zoom: int = 3) -> Array:
    """The enlarged image, uint8 RGB, with each visible box and class name."""
    canvas = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    for a in annotations:
        x, y, w, h = (round(v * zoom) for v in a.bbox)
        cv2.rectangle(canvas, (x, y), (x + w - 1, y + h - 1), (255, 255, 255), 1)
        (width, height), _ = cv2.getTextSize(a.category, cv2.FONT_HERSHEY_SIMPLEX, 0.35, 1)
        top = max(y - height - 4, 0)
        cv2.rectangle(canvas, (x, top), (x + width + 3, top + height + 4), (255, 255, 255), -1)
        cv2.putText(
            canvas, a.category, (x + 2, top + height + 1), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (30, 30, 30), 1, cv2.LINE_AA
        )
    return canvas


def contact_sheet(dataset: GeneratedData, split: str, rows: int = 4, columns: int = 6, zoom: int = 3) -> Array:
    """The first images of a split with their boxes, uint8 RGB; drawn anew, so no data folder is needed."""
    scene: dict[str, Any] = {"image_size": dataset.image_size, "objects": dataset.objects, "sizes": dataset.sizes}
    scene["difficulty"] = dataset.splits[split].difficulty
    cell, gap = dataset.image_size * zoom, 6
    sheet = np.full((rows * (cell + gap) - gap, columns * (cell + gap) - gap, 3), 255, np.uint8)
    for index in range(min(rows * columns, dataset.splits[split].images)):
        y, x = (n * (cell + gap) for n in divmod(index, columns))
        drawn = render_scene(scene_rng(dataset.seed, split, index), **scene)
        sheet[y : y + cell, x : x + cell] = draw_boxes(*drawn, zoom=zoom)
    return sheet


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.data.shapes.dataset", description="Generates the shapes detection set."
    )
    parser.add_argument("--spec", required=True, type=Path, help="suite YAML; its dataset block is read")
    parser.add_argument("--out", type=Path, help="data folder to write, for example results/shapes/data")
    parser.add_argument("--workers", type=int, help="processes (default: one per CPU); the data do not depend on it")
    parser.add_argument(
        "--sheet", type=Path, help="also write a PNG of 24 images with their boxes; without --out, only that"
    )
    parser.add_argument("--sheet-split", help="split of the sheet (default: the last one)")
    args = parser.parse_args(argv)
    if args.out is None and args.sheet is None:
        parser.error("nothing to do: give --out (data), --sheet (picture) or both")
    if args.workers is not None and args.workers < 1:
        parser.error(f"--workers: expected 1 or more, got {args.workers}")
    cv2.setNumThreads(1)
    try:
        suite = load_suite(args.spec)
        dataset = suite.dataset
        if not isinstance(dataset, GeneratedData):
            raise SuiteError(f"{args.spec}: dataset has no `generator`: its images are not made here")
        split = args.sheet_split or list(dataset.splits)[-1]
        if split not in dataset.splits:
            parser.error(f"--sheet-split: {args.spec} has no split {split!r}; it has {', '.join(dataset.splits)}")
        if args.sheet is not None:
            args.sheet.parent.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(args.sheet), cv2.cvtColor(contact_sheet(dataset, split), cv2.COLOR_RGB2BGR)):
                raise OSError(f"could not write {args.sheet}")
        if args.out is not None:
            made = write_dataset(dataset, args.out, args.workers, verbose=True)
            if made and args.out.resolve() == (suite.layout.root / "data").resolve():
                log_dataset(suite, suite.layout.data)
    except (SuiteError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues with the split it was at", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Makes one split of generated images, with its COCO annotations.

Image i of a split follows from ``VERSION``, the dataset's seed, the split's name, i, and what ``render_scene`` takes
alone: not from the number of workers, nor from the other images.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
import shutil
import signal
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from experiments.data.shapes.scene import CATEGORIES, render_scene
from suite.blocks import GeneratedData
from suite.errors import SuiteError
from suite.files import digest, read_json, write_json
from suite.layout import DataFolder

VERSION = 4  # of the generated data: raise it with every change that moves a box or changes how an image looks
CHUNK = 32  # images a worker makes at a time

Progress = Callable[[int, int], None]  # images done, images in all


def quiet(done: int, total: int) -> None:
    """Shows no progress."""


def scene_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The generator that image ``index`` (from 0) of a split is drawn with."""
    return np.random.default_rng(np.random.SeedSequence([VERSION, seed, zlib.crc32(split.encode()), index]))


def scene_settings(dataset: GeneratedData, split: str) -> dict[str, Any]:
    """What ``render_scene`` draws the images of a split with."""
    return {
        "image_size": dataset.image_size,
        "objects": dataset.objects,
        "sizes": dataset.sizes,
        "classes": dataset.classes,
        "neighbours": dataset.neighbours,
        "difficulty": dataset.splits[split].difficulty,
    }


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


def split_is_complete(data: DataFolder, split: str, fingerprint: str) -> bool:
    """Whether a split's annotations have this fingerprint and all its images are there."""
    try:
        contents = read_json(data.annotations(split))
        names = {image["file_name"] for image in contents["images"]}
        return contents["info"]["fingerprint"] == fingerprint and names == set(os.listdir(data.images(split)))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_split(
    data: DataFolder,
    split: str,
    *,
    images: int,
    scene: Mapping[str, Any],
    seed: int = 0,
    first_id: int = 1,
    workers: int = 1,
    progress: Progress = quiet,
) -> bool:
    """Writes the images of a split and its annotations unless they are there and match.

    Both appear whole or not at all: the images are made in ``.<split>.part`` and renamed, then the json is written.

    Args:
        data: where to write.
        split: name of the split; part of the random seed.
        images: number of images.
        scene: what ``render_scene`` is called with; see ``scene_settings``.
        seed: of the dataset.
        first_id: id of the first image; annotation ids are 100 × image id + 1, 2, …
        workers: processes; the result does not depend on it.
        progress: called with the images done and in all.

    Returns:
        Whether anything was written.

    Raises:
        SuiteError: the folder of the images holds files that this generator did not write.
    """
    own = split_fingerprint(split, images=images, scene=scene, seed=seed, first_id=first_id)
    if split_is_complete(data, split, own):
        return False
    folder, index_file = data.images(split), data.annotations(split)
    part = folder.with_name(f".{split}.part")
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
    write_json(index_file, _coco(split, own, scene["image_size"], first_id, rows))
    return True

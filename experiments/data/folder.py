"""Checks a data set in a folder and indexes it: `python -m experiments.data.folder --spec S --out D`.

For a suite whose `dataset` has a `format`. The images stay where they are; in the suite's data folder there are then

    <split>.json      COCO annotations (`experiments.data.annotations`)
    <split>           a link to the folder of its images
    dataset.json      fingerprint, classes, counts; written last

so that trainings, evaluations and reports find what they find of a generated set. A split cut from another one with
`held_out: always` is taken out of that one; with `sweep` the other one keeps its images, and `<other>without<split>` is
written beside it for the trainings that must not see them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments.data.annotations import (
    SUFFIXES,
    Table,
    first_repeated,
    part_of,
    read_coco,
    read_voc,
    with_categories_of,
)
from experiments.data.download import remedy
from experiments.data.weights import check_suite_weights, missing_weights
from experiments.tracking.data import log_dataset
from suite.errors import SuiteError
from suite.files import atomic, folder_lock, write_json
from suite.suite import FolderData, load_suite

SAMPLE = 200  # images of a split that are decoded
Image.MAX_IMAGE_PIXELS = None  # one's own images may be as large as they are


def prepare(dataset: FolderData, out: Path, workers: int = 1) -> dict[str, Any]:
    """Checks the folder and writes the files of the module's docstring.

    Args:
        dataset: a suite's `dataset` in a folder.
        out: the suite's data folder.
        workers: threads that decode the sample of images.

    Returns:
        The contents of dataset.json.

    Raises:
        SuiteError: a file is missing or damaged, or a count is not what it should be; names it and what to do.
    """
    source = _Source(dataset)
    splits, parts = dataset.splits, {}
    own = [name for name, split in splits.items() if split.origin is None]
    tables = {name: source.table(name) for name in own}
    train = tables["train"]
    if not any(not annotation["iscrowd"] for annotation in train["annotations"]):
        raise SuiteError(f"{source.root}: split `train` has no box to learn from")
    wanted = dataset.num_categories
    if wanted and len(train["categories"]) != wanted:
        raise SuiteError(
            f"{source.root}: split `train` has {len(train['categories'])} categories, expected {wanted} "
            f"(dataset.num_categories): {', '.join(c['name'] for c in train['categories'])}"
        )
    tables = {name: with_categories_of(table, train, f"dataset.splits.{name}") for name, table in tables.items()}
    for name in own:
        source.check_images(name, tables[name], workers)
    contains: dict[str, list[str]] = {}
    for name, split in splits.items():
        if split.origin is not None:
            parts[name] = split.origin
            _cut(tables, contains, name, split.origin, split.take, split.held_out)
    out.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, table in tables.items():
        origin = next((o for n, o in parts.items() if name in (n, dataset.without(o, n))), name)
        _link(out / name, source.images(origin))
        written[name] = _write_table(out / f"{name}.json", table)
        written[name] |= {"contains": contains.get(name, []), "dropped": table["dropped"]}
    names = [category["name"] for category in train["categories"]]
    digest = hashlib.sha256(json.dumps([names, {n: w["sha256"] for n, w in written.items()}]).encode()).hexdigest()
    manifest = {
        "format": dataset.format,
        "download": dataset.download,
        "fingerprint": digest,
        "splits": written,
        "categories": names,
    }
    write_json(out / "dataset.json", manifest)
    return manifest


def missing(dataset: FolderData) -> list[str]:
    """What of a `dataset` block's files is not there, a message for each; only names are looked at."""
    found: list[str] = []
    try:
        source = _Source(dataset)
        for name, split in dataset.splits.items():
            for part in source.parts(name) if split.origin is None else ():
                try:
                    source.require(*part)
                except SuiteError as error:
                    found.append(str(error))
    except SuiteError as error:
        found.append(str(error))
    return found


def _cut(
    tables: dict[str, Table], contains: dict[str, list[str]], name: str, origin: str, take: float, held_out: str
) -> None:
    """Cuts a split from another one: the images whose names have the smallest hashes, whatever their order."""
    images = tables[origin]["images"]
    number = round(take * len(images)) if take < 1 else int(take)
    if not 0 < number < len(images):
        raise SuiteError(f"dataset.splits.{name}.take: {take:g} of the {len(images)} images of '{origin}' are {number}")
    ranked = sorted(images, key=lambda i: hashlib.sha256(f"{name}/{i['file_name']}".encode()).digest())
    chosen = {image["id"] for image in ranked[:number]}
    rest = part_of(tables[origin], {image["id"] for image in images} - chosen)
    tables[name] = part_of(tables[origin], chosen)
    if held_out == "always":
        tables[origin] = rest
    else:
        contains.setdefault(origin, []).append(name)
        tables[f"{origin}without{name}"] = rest


class _Source:
    """The folder, and how to say what is wrong in it."""

    def __init__(self, dataset: FolderData) -> None:
        self.dataset = dataset
        self.root = Path(os.path.expandvars(dataset.root)).expanduser()
        if not self.root.is_dir():
            raise SuiteError(f"{self.root} (dataset.root) is no folder. {self._remedy('')}")

    def images(self, split: str) -> Path:
        """Folder of a split's images."""
        return self.root / (self.dataset.splits[split].images or "JPEGImages")

    def parts(self, split: str) -> list[tuple[Path, str, Callable[[Path], bool]]]:
        """What a split must have: its images, its annotations, its list if it has one; arguments of `require`."""
        entry = self.dataset.splits[split]
        annotations = self.root / (entry.annotations or "Annotations")
        test: Callable[[Path], bool] = Path.is_file if self.dataset.format == "coco" else Path.is_dir
        found: list[tuple[Path, str, Callable[[Path], bool]]] = [(self.images(split), f"{split}.images", Path.is_dir)]
        found.append((annotations, f"{split}.annotations", test))
        if entry.list is not None:
            found.append((self.root / entry.list, f"{split}.list", Path.is_file))
        return found

    def table(self, split: str) -> Table:
        """A split's annotations; its files are there, its images counted."""
        entry = self.dataset.splits[split]
        folder, path, *lists = (self.require(*part) for part in self.parts(split))

        def image_size(name: str) -> tuple[int, int]:
            return _decoded_size(self.require(folder / name, f"{split}.images", Path.is_file))

        if self.dataset.format == "coco":
            table = read_coco(path, image_size, masks=self.dataset.masks)
        else:
            stems = _lines(lists[0]) if lists else sorted(file.stem for file in path.glob("*.xml"))
            table = read_voc(path, stems, _files_by_stem(folder, set(stems)), image_size)
        found, wanted = len(table["images"]), entry.count or len(table["images"])
        if found != wanted or not found:
            raise SuiteError(
                f"{path}: {found} images, expected {wanted if found else 'some'} (dataset.splits.{split}.count)"
            )
        return table

    def check_images(self, split: str, table: Table, workers: int) -> None:
        """Every image is there; a sample of them decodes and is as large as the annotations say."""
        folder = self.images(split)
        there = set(_files_below(folder))
        missing = [i["file_name"] for i in table["images"] if i["file_name"] not in there]
        if missing:
            first = folder / missing[0]
            raise SuiteError(
                f"{first} is missing, and {len(missing) - 1} more of the {len(table['images'])} images of split "
                f"'{split}'. {self._remedy(self._below_root(first))}"
            )
        step = max(1, len(table["images"]) // SAMPLE)
        sample = table["images"][::step][:SAMPLE]
        with ThreadPoolExecutor(max(1, workers)) as pool:
            sizes = pool.map(lambda entry: _decoded_size(folder / entry["file_name"], self._remedy), sample)
            for entry, size in zip(sample, sizes, strict=True):
                if size != (entry["width"], entry["height"]):
                    raise SuiteError(
                        f"{folder / entry['file_name']} is {size[0]} × {size[1]} pixels, the annotations say "
                        f"{entry['width']} × {entry['height']}: they do not belong together, or it is stored rotated"
                    )
        print(f"{split}: {len(table['images'])} images are there, {len(sample)} of them decoded", file=sys.stderr)

    def require(self, path: Path, key: str, test: Callable[[Path], bool]) -> Path:
        """The path if it passes the test; else raises `SuiteError`."""
        if not test(path):
            raise SuiteError(f"{path} (dataset.splits.{key}) is missing. {self._remedy(self._below_root(path))}")
        return path

    def _below_root(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _remedy(self, wanted: str) -> str:
        elsewhere = "If the data are elsewhere, set dataset.root"
        if self.dataset.download:
            return f"{remedy(self.dataset.download, wanted, self.root)}. {elsewhere}"
        return f"{elsewhere}, or the paths of dataset.splits, in the suite"


def _lines(path: Path) -> list[str]:
    """The names that a list of Pascal VOC's holds, each once."""
    try:
        names = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path} is not UTF-8 ({error}): convert it") from None
    if twice := first_repeated(names):
        raise SuiteError(f"{path} lists '{twice}' twice")
    return names


def _files_by_stem(folder: Path, stems: set[str]) -> dict[str, str]:
    """The images of the stems in a folder; refuses two of one stem, as its XML file could mean either."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    names = sorted(path.name for path in found if path.stem in stems)
    if twice := first_repeated(Path(name).stem for name in names):
        both = [name for name in names if Path(name).stem == twice]
        raise SuiteError(f"{folder}: {' and '.join(both)}: which of them belongs to {twice}.xml? Move the others away")
    return {Path(name).stem: name for name in names}


def _files_below(folder: Path) -> Iterator[str]:
    """Files below a folder by their path from there; follows links."""
    for parent, _, names in os.walk(folder, followlinks=True):
        below = Path(parent).relative_to(folder).as_posix()
        yield from names if below == "." else (f"{below}/{name}" for name in names)


def _decoded_size(path: Path, remedy_of: Callable[[str], str] = lambda wanted: "") -> tuple[int, int]:
    """(width, height) as training sees the image, that is, turned as its EXIF entry says; reads all of it.

    Pillow notices a torn file, which OpenCV fills up in silence; OpenCV, which training uses, knows fewer formats.
    """
    try:
        with Image.open(path) as image:
            image.load()
            kind, size = image.format, ImageOps.exif_transpose(image).size
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        hint = f". {remedy_of('')}" if remedy_of("") else ""
        raise SuiteError(
            f"{path} cannot be decoded ({error}; {path.stat().st_size} bytes): delete it and fetch it again{hint}"
        ) from None
    if cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) is None:
        raise SuiteError(f"{path}: OpenCV, with which images are loaded, cannot read its format ({kind}): convert it")
    return size


def _link(link: Path, target: Path) -> None:
    if link.is_dir() and not link.is_symlink():
        raise SuiteError(f"{link} is a folder; a link to {target} belongs there: move it away")
    with atomic(link) as part:
        part.symlink_to(target.resolve(), target_is_directory=True)


def _write_table(path: Path, table: Table) -> dict[str, Any]:
    """Writes a split's annotations; returns its line of the manifest."""
    kept = {key: table[key] for key in ("images", "annotations", "categories")}
    data = json.dumps({"info": {"description": path.stem}, **kept}).encode()
    with atomic(path) as part:
        part.write_bytes(data)
    counts = {key: len(kept[key]) for key in ("images", "annotations")}
    return {**counts, "sha256": hashlib.sha256(data).hexdigest()}


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.data.folder", description="Check and index the data set of a suite."
    )
    parser.add_argument("--spec", required=True, type=Path, help="suite YAML; its dataset block has a `format`")
    parser.add_argument("--out", required=True, type=Path, help="data folder, for example results/coco/data")
    parser.add_argument("--workers", type=int, default=1, help="threads that decode a sample of the images")
    options = parser.parse_args(arguments)
    try:
        suite = load_suite(options.spec)
        dataset = suite.dataset
        if not isinstance(dataset, FolderData):
            raise SuiteError(f"{options.spec}: dataset has no `format`: its images are generated, not checked")
        if lacking := missing(dataset) + missing_weights(suite):
            raise SuiteError("\n".join(lacking))
        check_suite_weights(suite)
        with folder_lock(options.out):
            manifest = prepare(dataset, options.out, options.workers)
        if options.out.resolve() == (suite.layout.root / "data").resolve():
            log_dataset(suite, suite.layout.data)
    except (SuiteError, OSError) as error:  # OSError: a file that may not be read, a full disk
        sys.exit(f"error: {error}")
    for name, split in manifest["splits"].items():
        left_out = ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in split["dropped"].items() if n)
        print(
            f"{name}: {split['images']} images, {split['annotations']} boxes"
            + (f" (dropped: {left_out})" if left_out else "")
        )
    print(f"{len(manifest['categories'])} classes: {', '.join(manifest['categories'])}")


if __name__ == "__main__":
    main()

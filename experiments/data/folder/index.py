"""Indexes a data set in a folder. The images stay where they are; in the suite's data folder there are then

    <split>.json      COCO annotations (`experiments.data.formats.table`)
    <split>           a link to the folder of its images; of a joined split a folder with a link for each member
    .inspected.json   what is known of every image file, so that it is looked at once
    dataset.json      fingerprint, classes, counts; written last

so that trainings, evaluations and reports find what they find of a generated set.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.data.folder.images import Inspector
from experiments.data.folder.shared import refuse_shared
from experiments.data.folder.source import Images, Source
from experiments.data.folder.splits import cut_splits
from experiments.data.formats.table import Table, common_categories, joined, with_categories
from suite.blocks import FolderData
from suite.errors import SuiteError
from suite.files import atomic, digest, write_json
from suite.layout import DataFolder


def index_folder(dataset: FolderData, data: DataFolder, workers: int = 1) -> dict[str, Any]:
    """Checks a data set and writes the files of the module's docstring.

    Args:
        dataset: where it lies, and its splits.
        data: where to write.
        workers: threads that look at the images.

    Returns:
        The contents of dataset.json.

    Raises:
        SuiteError: a file is missing or damaged, or a count is not what it should be; names it and what to do.
    """
    source = Source(dataset)
    if missing := source.missing():
        raise SuiteError("\n".join(missing))
    data.path.mkdir(parents=True, exist_ok=True)
    with Inspector(data.inspected, workers) as inspector:
        tables = {member: source.table(member, inspector) for member in source.members}
        learnt = [tables[member] for member in source.splits["train"].values()]
        categories = common_categories(learnt)
        _check_training_split(learnt, categories, source.root, dataset.num_categories)
        images = {}
        for member, table in tables.items():
            own = with_categories(table, categories, f"dataset.splits.{member}")
            tables[member], images[member] = source.checked_images(member, own, inspector)
    files: dict[str, list[Path]] = {name: [] for name in source.splits}
    found = {name: Images() for name in source.splits}
    whole = {}
    for name, members in source.splits.items():
        for short, member in members.items():
            files[name] += source.image_files(member, tables[member])
            found[name] += images[member].below(short) if short else images[member]
        whole[name] = joined({short: tables[member] for short, member in members.items()})
    refuse_shared(files)
    entries = {}
    for name, split in cut_splits(dataset, whole).items():
        folders = {short: source.images(member) for short, member in source.splits[split.images_of].items()}
        _link(data.images(name), folders)
        counts = _write_table(data.annotations(name), split.table)
        counts["boxes"] = _boxes_by_class(split.table)
        notes = {"dropped": split.table["dropped"], **(asdict(found[name]) if name in found else {})}
        entries[name] = {**counts, "contains": list(split.contains), **notes}
    classes = [category["name"] for category in categories]
    manifest = {
        "format": dataset.format,
        "download": dataset.download,
        "fingerprint": digest([classes, {name: entry["sha256"] for name, entry in entries.items()}]),
        "splits": entries,
        "categories": classes,
    }
    write_json(data.manifest, manifest)
    return manifest


def _boxes_by_class(table: Table) -> dict[str, int]:
    """Boxes of each class, crowds left out."""
    counts = Counter(a["category_id"] for a in table["annotations"] if not a["iscrowd"])
    return {category["name"]: counts[category["id"]] for category in table["categories"]}


def _check_training_split(
    tables: Sequence[Table], categories: Sequence[Mapping[str, Any]], root: Path, num_categories: int | None
) -> None:
    if all(annotation["iscrowd"] for table in tables for annotation in table["annotations"]):
        raise SuiteError(f"{root}: split `train` has no box to learn from")
    classes = [category["name"] for category in categories]
    if num_categories is not None and len(classes) != num_categories:
        raise SuiteError(
            f"{root}: split `train` has {len(classes)} categories, expected {num_categories} "
            f"(dataset.num_categories): {', '.join(classes)}"
        )


def _link(place: Path, folders: Mapping[str, Path]) -> None:
    """A link to the folder of a split's images; of a joined one a folder with a link for each member."""
    links = {place / member if member else place: folder for member, folder in folders.items()}
    if place not in links:
        if place.is_symlink():
            place.unlink()
        place.mkdir(exist_ok=True)
    for link, target in links.items():
        if link.is_dir() and not link.is_symlink():
            raise SuiteError(f"{link} is a folder; a link to {target} belongs there: move it away")
        with atomic(link) as part:
            part.symlink_to(target.resolve(), target_is_directory=True)


def _write_table(path: Path, table: Table) -> dict[str, Any]:
    """Writes a split's annotations; returns their counts and hash."""
    kept = {key: table[key] for key in ("images", "annotations", "categories")}
    data = json.dumps({"info": {"description": path.stem}, **kept}).encode()
    with atomic(path) as part:
        part.write_bytes(data)
    counts = {key: len(kept[key]) for key in ("images", "annotations")}
    counts["crowds"] = sum(annotation["iscrowd"] for annotation in kept["annotations"])
    return {**counts, "sha256": hashlib.sha256(data).hexdigest()}

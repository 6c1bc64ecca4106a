"""Cuts splits from other ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from experiments.data.formats.table import Table, part_of
from suite.blocks import FolderData
from suite.errors import SuiteError


@dataclass(frozen=True)
class Split:
    """A split as it is indexed.

    Attributes:
        table: its annotations.
        images_of: the split that has its images on disk: itself, or the one that it is cut from.
        contains: splits that are cut from it and whose images it still has.
    """

    table: Table
    images_of: str
    contains: tuple[str, ...] = ()


def cut_splits(dataset: FolderData, tables: Mapping[str, Table]) -> dict[str, Split]:
    """All splits of a data set.

    A split that is cut with `held_out: always` is taken out of the other one. With `sweep` the other one keeps its
    images, and its rest is a split too, named by `FolderData.without`, for trainings that must not see them.

    Args:
        dataset: says what is cut from what.
        tables: of the splits with files of their own.

    Raises:
        SuiteError: `take` would leave one of the two without images.
    """
    found = {name: Split(table, images_of=name) for name, table in tables.items()}
    for name, split in dataset.splits.items():
        if split.origin is None:
            continue
        origin = found[split.origin]
        taken, rest = _divided(origin.table, name, split.origin, split.take)
        found[name] = Split(taken, images_of=split.origin)
        if split.held_out == "always":
            found[split.origin] = replace(origin, table=rest)
        else:
            found[split.origin] = replace(origin, contains=(*origin.contains, name))
            found[dataset.without(split.origin, name)] = Split(rest, images_of=split.origin)
    return found


def _divided(table: Table, name: str, origin: str, take: float) -> tuple[Table, Table]:
    """The images whose names have the smallest hashes, whatever their order, and the rest."""
    images = table["images"]
    number = round(take * len(images)) if take < 1 else int(take)
    if len(images) < 2:
        raise SuiteError(f"dataset.splits.{name}.take: '{origin}' has a single image, which cannot be shared out")
    if not 0 < number < len(images):
        raise SuiteError(
            f"dataset.splits.{name}.take: {take:g} of the {len(images)} images of '{origin}' are {number}; both splits "
            f"need images: take 1 to {len(images) - 1}"
        )
    ranked = sorted(images, key=lambda image: hashlib.sha256(f"{name}/{image['file_name']}".encode()).digest())
    taken, rest = ({image["id"] for image in part} for part in (ranked[:number], ranked[number:]))
    return part_of(table, taken), part_of(table, rest)

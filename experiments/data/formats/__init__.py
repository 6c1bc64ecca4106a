"""Formats of annotations: a module each, with the name that `dataset.format` gives in a suite.

A new format is a new module here that has what `Format` asks for, and its name among the `format` of suite/schema.yaml.
What all formats share is in `experiments.data.formats.table`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from experiments.data.formats.table import Table
from suite.blocks import FolderSplit
from suite.errors import SuiteError

ImageSize = Callable[[str], tuple[int, int]]  # file name of an image to its (width, height) in pixels


@dataclass(frozen=True)
class Part:
    """A file or folder of a split.

    Attributes:
        key: the key of the split that names it in a suite: `images`, `annotations` or `list`.
        is_folder: it is a folder, not a file.
        default: its path below the root of the data set where the suite names none; None = there is no default.
        is_optional: a split may be without it.
    """

    key: str
    is_folder: bool = False
    default: str | None = None
    is_optional: bool = False

    def is_there(self, path: Path) -> bool:
        """Whether there is a folder, or a file, at the path."""
        return path.is_dir() if self.is_folder else path.is_file()


class Format(Protocol):
    """What a module of this folder has.

    Attributes:
        TITLE: the format's name in messages.
        PARTS: what a split has on disk.
        REFUSED: keys of a split that mean nothing in this format, each with the reason.
    """

    TITLE: str
    PARTS: tuple[Part, ...]
    REFUSED: Mapping[str, str]

    def read(self, files: Mapping[str, Path], *, image_size: ImageSize, masks: bool) -> Table:
        """Reads the annotations of a split.

        Args:
            files: key of each part to its path; all of them exist.
            image_size: asked for images whose size the annotations do not say.
            masks: keep the segmentations, if the format has any.

        Returns:
            What `experiments.data.formats.table.checked` makes of them.

        Raises:
            SuiteError: annotations that cannot be used; names the file and the entry.
        """


def format_named(name: str) -> Format:
    """The module of a format."""
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))


def paths_of(split: FolderSplit, annotations: Format, where: str) -> dict[str, str]:
    """The parts of a split.

    Args:
        split: with files of its own.
        annotations: its format.
        where: the split's key in the suite, for messages.

    Returns:
        Key of each part to its path below the root of the data set.

    Raises:
        SuiteError: the split names something that its format has not, or lacks something that has no default.
    """
    for key, reason in annotations.REFUSED.items():
        if getattr(split, key) is not None:
            raise SuiteError(f"{where}.{key}: {reason}")
    found = {}
    for part in annotations.PARTS:
        path = getattr(split, part.key) or part.default
        if path is not None:
            found[part.key] = path
        elif not part.is_optional:
            raise SuiteError(f"{where}.{part.key} is missing: the {annotations.TITLE} format has no default for it")
    return found

"""The folder that a data set lies in: what must be there, what its annotations say, and what is wrong in it."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.data.download.catalogue import remedy
from experiments.data.folder.images import Inspected, Inspector, files_below
from experiments.data.formats import Part, format_named, paths_of
from experiments.data.formats.table import Table, first_repeated, part_of
from experiments.data.names import Names, composed, path_on_disk
from suite.blocks import FolderData
from suite.errors import SuiteError

SAMPLE = 200  # images of a split that are decoded whole in any case
NAMED = 20  # missing images of a split that are named


@dataclass
class Images:
    """What was found among the images of a split, or of a member of one.

    Attributes:
        skipped: name of each image that is left out, and why.
        turned: names of the images that training sees turned, as their EXIF entry says.
        without_end: names of the images whose file lacks its end, and that training sees whole.
    """

    skipped: dict[str, str] = field(default_factory=dict)
    turned: list[str] = field(default_factory=list)
    without_end: list[str] = field(default_factory=list)

    def below(self, member: str) -> Images:
        """The same with names that start with a member's."""
        skipped = {f"{member}/{name}": why for name, why in self.skipped.items()}
        return Images(skipped, *([f"{member}/{name}" for name in names] for names in (self.turned, self.without_end)))

    def __add__(self, other: Images) -> Images:
        return Images(self.skipped | other.skipped, self.turned + other.turned, self.without_end + other.without_end)


class Source:
    """The folder of a data set.

    Attributes:
        root: the folder, with `~` and `$VARIABLES` replaced, by its name on disk.
        splits: the splits that are not cut from another one, each with its members: short name to key in the suite.
            A split that is not joined is its own only member, with the short name ''.
        members: key of each member to its files.
    """

    def __init__(self, dataset: FolderData) -> None:
        """Looks into no file.

        Raises:
            SuiteError: a split does not fit the format; names the key.
        """
        self._dataset = dataset
        self._format = format_named(dataset.format)
        self.root = path_on_disk(Path(os.path.expandvars(dataset.root)).expanduser())
        own = {name: split for name, split in dataset.splits.items() if split.origin is None}
        self.splits = {
            name: {member: f"{name}.join.{member}" for member in split.join} or {"": name}
            for name, split in own.items()
        }
        self.members = {
            key: own[name].join.get(member, own[name])
            for name, members in self.splits.items()
            for member, key in members.items()
        }
        self._paths = {part: self._paths_on_disk(part) for part in self.members}
        self._names_of: dict[str, Names] = {}

    def missing(self) -> list[str]:
        """What of the folder is not there, a message for each; only names are looked at, not images."""
        if not self.root.is_dir():
            return [f"{self.root.absolute()} (dataset.root) is no folder. {self._remedy()}"]
        return [
            self._missing(path, f"{split}.{part.key}")
            for split in self.members
            for part, path in self._parts(split)
            if not part.is_there(path)
        ]

    def images(self, split: str) -> Path:
        """Folder of a split's images."""
        return self._paths[split]["images"]

    def image_files(self, split: str, table: Table) -> list[Path]:
        """The image files of a table of a split."""
        folder = self.images(split)
        return [folder / image["file_name"] for image in table["images"]]

    def table(self, split: str, inspector: Inspector) -> Table:
        """A split's annotations, with as many images as the suite says.

        Args:
            split: its name.
            inspector: looks at the images whose size the annotations do not say.

        Raises:
            SuiteError: they cannot be used, or are of another number of images.
        """
        files = {part.key: path for part, path in self._parts(split)}

        def image_size(name: str) -> tuple[int, int]:
            on_disk = self._names(split).find(name)
            if on_disk is None:
                raise SuiteError(self._missing(files["images"] / name, f"{split}.images"))
            image = files["images"] / on_disk
            found = inspector.look(image)
            if not found.width:
                raise SuiteError(f"{image}: {found.damage}, and the annotations do not say its size")
            return found.width, found.height

        table = self._format.read(files, image_size=image_size, masks=self._dataset.masks)
        found, wanted = len(table["images"]), self.members[split].count
        if not found or found != (wanted or found):
            raise SuiteError(
                f"{files['annotations']}: {found} images, expected {wanted or 'some'} (dataset.splits.{split}.count)"
            )
        return table

    def checked_images(self, split: str, table: Table, inspector: Inspector) -> tuple[Table, Images]:
        """Looks at every image of a table.

        Args:
            split: whose images they are.
            table: the split's.
            inspector: looks at the files.

        Returns:
            The table, without the images that `dataset.on_damaged: skip` leaves out; and what was found.

        Raises:
            SuiteError: images are missing or damaged, which are named, or not as large as the annotations say.
        """
        folder, found, names = self.images(split), Images(), self._names(split)
        table = _with_names_on_disk(table, names, folder)
        lost = {entry["file_name"]: "it is missing" for entry in table["images"] if not names.find(entry["file_name"])}
        entries = [entry for entry in table["images"] if entry["file_name"] not in lost]
        if lost and (not entries or self._dataset.on_damaged == "stop"):
            raise SuiteError(self._listing_of_missing(split, list(lost), len(table["images"])))
        step = max(1, len(entries) // SAMPLE)
        whole = [number % step == 0 for number in range(len(entries))]
        seen = inspector([folder / entry["file_name"] for entry in entries], whole, f"{split}: images")
        damaged = {e["file_name"]: one.damage for e, one in zip(entries, seen, strict=True) if one.damage}
        if damaged and (len(damaged) == len(entries) or self._dataset.on_damaged == "stop"):
            raise SuiteError(_listing(folder, damaged, len(entries), split))
        for entry, one in zip(entries, seen, strict=True):
            if not one.damage:
                _require_size(folder, entry, one)
                found.turned += [entry["file_name"]] * one.is_turned
                found.without_end += [entry["file_name"]] * one.lacks_end
        found.skipped = {**lost, **damaged}
        kept = {entry["id"] for entry in table["images"] if entry["file_name"] not in found.skipped}
        return part_of(table, kept), found

    def _parts(self, split: str) -> list[tuple[Part, Path]]:
        paths = self._paths[split]
        return [(part, paths[part.key]) for part in self._format.PARTS if part.key in paths]

    def _paths_on_disk(self, split: str) -> dict[str, Path]:
        paths = paths_of(self.members[split], self._format, f"dataset.splits.{split}")
        return {key: path_on_disk(self.root / path) for key, path in paths.items()}

    def _names(self, split: str) -> Names:
        """The files of a split's images by their path from the folder, however the annotations write it.

        They may have `\\` or `./` in it, start at the root of the disk, or have accents in Unicode's other form.
        """
        folder = self.images(split)
        if split not in self._names_of:
            self._names_of[split] = Names(files_below(folder), lambda name: _plain_name(name, folder))
        return self._names_of[split]

    def _missing(self, path: Path, key: str) -> str:
        return f"{path} (dataset.splits.{key}) is missing. {self._remedy(path)}"

    def _listing_of_missing(self, split: str, names: list[str], count: int) -> str:
        paths = [self.images(split) / name for name in names]
        rest = [f"  and {len(paths) - NAMED} more"] if len(paths) > NAMED else []
        skip = "; `on_damaged: skip` in the suite's dataset leaves them out" if len(paths) < count else ""
        return "\n".join(
            [
                f"{len(paths)} of the {count} images of split '{split}' are missing:",
                *(f"  {path}" for path in paths[:NAMED]),
                *rest,
                f"{self._remedy(paths[0])}{skip}",
            ]
        )

    def _remedy(self, wanted: Path | None = None) -> str:
        """Where a file, or the whole folder, comes from."""
        elsewhere = "If the data are elsewhere, set dataset.root"
        if self._dataset.download is None:
            return f"{elsewhere}, or the paths of dataset.splits, in the suite"
        below = wanted.relative_to(self.root).as_posix() if wanted and wanted.is_relative_to(self.root) else ""
        return f"{remedy(self._dataset.download, below, self.root)}. {elsewhere}"


def _with_names_on_disk(table: Table, names: Names, folder: Path) -> Table:
    """The table with the names that its images have on disk; of those that are not there, as they are."""
    images = [{**image, "file_name": names.find(image["file_name"]) or image["file_name"]} for image in table["images"]]
    if (twice := first_repeated(image["file_name"] for image in images)) is not None:
        raise SuiteError(f"{folder / twice}: two images of the annotations are this file")
    return {**table, "images": images}


def _plain_name(name: str, folder: Path) -> str:
    path = posixpath.normpath(composed(name.replace("\\", "/")))
    return path.removeprefix(f"{composed(folder.absolute().as_posix())}/")


def _listing(folder: Path, damaged: dict[str, str], count: int, split: str) -> str:
    """All damaged images, a line each, and what can be done."""
    return "\n".join(
        [
            f"{len(damaged)} of the {count} images of split '{split}' are damaged:",
            *(f"  {folder / name}: {why}" for name, why in damaged.items()),
            "Fetch them again. If they come back as damaged, `on_damaged: skip` in the suite's dataset leaves them out",
        ]
    )


def _require_size(folder: Path, entry: dict[str, Any], found: Inspected) -> None:
    if (found.width, found.height) != (entry["width"], entry["height"]):
        why = "training sees it turned, as its EXIF entry says" if found.is_turned else "they do not belong together"
        raise SuiteError(
            f"{folder / entry['file_name']} is {found.width} × {found.height} pixels, the annotations say "
            f"{entry['width']} × {entry['height']}: {why}"
        )


def missing(dataset: FolderData) -> list[str]:
    """What of a data set's folder is not there, a message for each.

    Raises:
        SuiteError: a split does not fit the format, or `download` names no entry of the catalogue.
    """
    return Source(dataset).missing()

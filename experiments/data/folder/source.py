"""The folder that a data set lies in: what must be there, what its annotations say, and what is wrong in it."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from experiments.data.download.catalogue import remedy
from experiments.data.folder.images import decoded_size, files_below
from experiments.data.formats import Part, format_named, paths_of
from experiments.data.formats.table import Table
from suite.blocks import FolderData
from suite.errors import SuiteError

SAMPLE = 200  # images of a split that are decoded


class Source:
    """The folder of a data set.

    Attributes:
        root: the folder, with `~` and `$VARIABLES` replaced.
        splits: the splits with files of their own.
    """

    def __init__(self, dataset: FolderData) -> None:
        """Looks at no file.

        Raises:
            SuiteError: a split does not fit the format; names the key.
        """
        self._dataset = dataset
        self._format = format_named(dataset.format)
        self.root = Path(os.path.expandvars(dataset.root)).expanduser()
        self.splits = [name for name, split in dataset.splits.items() if split.origin is None]
        self._paths = {
            name: paths_of(dataset.splits[name], self._format, f"dataset.splits.{name}") for name in self.splits
        }

    def missing(self) -> list[str]:
        """What of the folder is not there, a message for each; only names are looked at, not images."""
        if not self.root.is_dir():
            return [f"{self.root} (dataset.root) is no folder. {self._remedy()}"]
        return [
            self._missing(path, f"{split}.{part.key}")
            for split in self.splits
            for part, path in self._parts(split)
            if not part.is_there(path)
        ]

    def images(self, split: str) -> Path:
        """Folder of a split's images."""
        return self.root / self._paths[split]["images"]

    def table(self, split: str) -> Table:
        """A split's annotations, with as many images as the suite says.

        Raises:
            SuiteError: they cannot be used, or are of another number of images.
        """
        files = {part.key: path for part, path in self._parts(split)}

        def image_size(name: str) -> tuple[int, int]:
            image = files["images"] / name
            if not image.is_file():
                raise SuiteError(self._missing(image, f"{split}.images"))
            return decoded_size(image)

        table = self._format.read(files, image_size=image_size, masks=self._dataset.masks)
        found, wanted = len(table["images"]), self._dataset.splits[split].count
        if not found or found != (wanted or found):
            raise SuiteError(
                f"{files['annotations']}: {found} images, expected {wanted or 'some'} (dataset.splits.{split}.count)"
            )
        return table

    def check_images(self, split: str, table: Table, workers: int) -> None:
        """Looks for every image of a table, decodes a sample of them, and says so on stderr.

        Args:
            split: whose images they are.
            table: the split's.
            workers: threads that decode.

        Raises:
            SuiteError: an image is missing, cannot be read, or is not as large as the annotations say.
        """
        folder, images = self.images(split), table["images"]
        there = set(files_below(folder))
        missing = [image["file_name"] for image in images if image["file_name"] not in there]
        if missing:
            first = folder / missing[0]
            raise SuiteError(
                f"{first} is missing, and {len(missing) - 1} more of the {len(images)} images of split "
                f"'{split}'. {self._remedy(first)}"
            )
        sample = images[:: max(1, len(images) // SAMPLE)][:SAMPLE]
        with ThreadPoolExecutor(max(1, workers)) as pool:
            sizes = pool.map(lambda image: decoded_size(folder / image["file_name"], self._remedy()), sample)
            for image, (width, height) in zip(sample, sizes, strict=True):
                if (width, height) != (image["width"], image["height"]):
                    raise SuiteError(
                        f"{folder / image['file_name']} is {width} × {height} pixels, the annotations say "
                        f"{image['width']} × {image['height']}: they do not belong together, or it is stored rotated"
                    )
        print(f"{split}: {len(images)} images are there, {len(sample)} of them decoded", file=sys.stderr)

    def _parts(self, split: str) -> list[tuple[Part, Path]]:
        paths = self._paths[split]
        return [(part, self.root / paths[part.key]) for part in self._format.PARTS if part.key in paths]

    def _missing(self, path: Path, key: str) -> str:
        return f"{path} (dataset.splits.{key}) is missing. {self._remedy(path)}"

    def _remedy(self, wanted: Path | None = None) -> str:
        """Where a file, or the whole folder, comes from."""
        elsewhere = "If the data are elsewhere, set dataset.root"
        if self._dataset.download is None:
            return f"{elsewhere}, or the paths of dataset.splits, in the suite"
        below = wanted.relative_to(self.root).as_posix() if wanted and wanted.is_relative_to(self.root) else ""
        return f"{remedy(self._dataset.download, below, self.root)}. {elsewhere}"


def missing(dataset: FolderData) -> list[str]:
    """What of a data set's folder is not there, a message for each.

    Raises:
        SuiteError: a split does not fit the format, or `download` names no entry of the catalogue.
    """
    return Source(dataset).missing()

"""The images and classes that detections speak of: COCO's annotations, of which no object is needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.data.names import composed, path_on_disk
from suite.errors import SuiteError
from suite.files import read_json


@dataclass(frozen=True)
class Annotations:
    """What a file of COCO annotations says of its images and classes.

    Attributes:
        path: the file.
        image_ids: of each image.
        file_names: below the folder of images.
        sizes: (width, height), in pixels.
        category_ids: of each class.
        names: of each class.
    """

    path: Path
    image_ids: list[Any]
    file_names: list[str]
    sizes: list[tuple[int, int]]
    category_ids: list[Any]
    names: list[str]

    def require_files(self, folder: Path, images: Iterable[int]) -> None:
        """Checks that the files of images, by position, are there. Raises `SuiteError` naming the first that is not."""
        if not folder.is_dir():
            raise SuiteError(
                f"--images {folder}: no such folder; it is the one that file_name in {self.path} starts from"
            )
        wanted = list(images)
        missing = [image for image in wanted if not self.file(folder, image).is_file()]
        if missing:
            first = missing[0]
            raise SuiteError(
                f"{folder / self.file_names[first]}: no such image (image_id {self.image_ids[first]!r} of {self.path}; "
                f"{len(missing)} of the {len(wanted)} images with detections are missing): --images is the folder that "
                "file_name starts from"
            )

    def file(self, folder: Path, image: int) -> Path:
        """Where the file of an image is."""
        return path_on_disk(folder / self.file_names[image])


def read_annotations(path: Path) -> Annotations:
    """Reads `images` and `categories` of COCO annotations.

    Raises:
        SuiteError: there is no such file, it is no JSON, or an entry lacks something; names the entry.
    """
    try:
        found = read_json(path)
    except OSError as error:
        raise SuiteError(f"--annotations {path} cannot be read ({error.strerror or error})") from None
    for key in ("images", "categories"):
        if not isinstance(found, Mapping) or not isinstance(found.get(key), list) or not found[key]:
            raise SuiteError(
                f"{path}: no list '{key}' with anything in it: --annotations is a file of COCO's annotations, such as "
                "instances_val2017.json"
            )
    images, categories = found["images"], found["categories"]
    for key, entries in (("images", images), ("categories", categories)):
        _require_ids(path, key, entries)
    for number, entry in enumerate(images):
        where = f"{path}: images, entry {number} (id {entry['id']!r})"
        if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
            raise SuiteError(f"{where}: 'file_name' is {entry.get('file_name')!r}: it must name the image's file")
        for side in ("width", "height"):
            value = entry.get(side)
            if not is_number(value) or value < 1 or value != int(value):
                raise SuiteError(f"{where}: '{side}' is {value!r}: it must be the image's {side} in pixels")
    names = []
    for number, entry in enumerate(categories):
        name = entry.get("name")
        if not isinstance(name, str):
            raise SuiteError(
                f"{path}: categories, entry {number} (id {entry['id']!r}): 'name' is {name!r}: name the class"
            )
        names.append(composed(name))
        if (other := names.index(names[-1])) < number:
            raise SuiteError(f"{path}: categories, entries {other} and {number} are both called '{name}': rename one")
    return Annotations(
        path,
        [entry["id"] for entry in images],
        [entry["file_name"] for entry in images],
        [(int(entry["width"]), int(entry["height"])) for entry in images],
        [entry["id"] for entry in categories],
        names,
    )


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require_ids(path: Path, key: str, entries: list[Any]) -> None:
    seen: dict[Any, int] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or not is_id(entry.get("id")):
            raise SuiteError(f"{path}: {key}, entry {number} has no 'id' that is a whole number or a text")
        if (other := seen.setdefault(entry["id"], number)) != number:
            raise SuiteError(
                f"{path}: {key}, entries {other} and {number} both have the id {entry['id']!r}: detections cannot say "
                "which they mean; give each an id of its own"
            )


def is_id(value: Any) -> bool:
    """Whether a value of JSON can be an id."""
    return isinstance(value, int | str) and not isinstance(value, bool)

"""COCO's detection format.

Of a split, `annotations` is the JSON file and `images` the folder that its `file_name` entries start from; both must be
named. Objects marked `iscrowd` or `ignore` become crowds, which are neither learnt nor counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.data.formats import ImageSize, Part
from experiments.data.formats.table import Table, checked
from experiments.data.formats.values import flag, is_number
from experiments.data.names import composed
from suite.errors import SuiteError

TITLE = "COCO"
PARTS = (Part("images", is_folder=True), Part("annotations"))
REFUSED = {"list": "only Pascal VOC has lists; COCO's JSON lists the images itself"}


def read(files: Mapping[str, Path], *, image_size: ImageSize, masks: bool = False) -> Table:
    """Reads the JSON file; see `experiments.data.formats.Format.read`."""
    path = files["annotations"]
    data = _contents(path)
    categories = [
        {"id": _need(c, "id", int, path, "category"), "name": composed(_need(c, "name", str, path, "category"))}
        for c in data["categories"]
    ]
    images = [_image(entry, path, image_size) for entry in data["images"]]
    annotations = [_annotation(entry, path, masks) for entry in data["annotations"]]
    return checked(images, annotations, categories, path)


def _contents(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        size = path.stat().st_size
        raise SuiteError(f"{path} is not valid JSON ({error}; {size} bytes): truncated? fetch it again") from None
    if not isinstance(data, dict):
        raise SuiteError(f"{path}: expected COCO's object with images, annotations and categories")
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list):
            raise SuiteError(f"{path}: no list '{key}'; is it an annotation file of COCO's detection format?")
    return data


def _image(entry: Any, path: Path, image_size: ImageSize) -> dict[str, Any]:
    name = _need(entry, "file_name", str, path, "image")
    width, height = entry.get("width"), entry.get("height")
    if not (isinstance(width, int) and isinstance(height, int) and min(width, height) > 0):
        width, height = image_size(name)
    return {"id": _need(entry, "id", int, path, "image"), "file_name": name, "width": width, "height": height}


def _annotation(entry: Any, path: Path, masks: bool) -> dict[str, Any]:
    kept = {key: _need(entry, key, int, path, "annotation") for key in ("id", "image_id", "category_id")}
    box = entry.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
        raise SuiteError(f"{path}: annotation {entry['id']}: bbox is {box!r}, expected four numbers x, y, w, h")
    kept |= {"bbox": box, "area": _area(entry, path), "iscrowd": int(_is_ignored(entry, path))}
    if masks:
        kept["segmentation"] = entry.get("segmentation")
        if not kept["segmentation"]:
            raise SuiteError(f"{path}: annotation {entry['id']} has no segmentation, which dataset.masks asks for")
    return kept


def _area(entry: Mapping[str, Any], path: Path) -> float:
    """The area that the file says; the box's where it says none, or none above 0."""
    area = entry.get("area")
    if area is not None and not is_number(area):
        raise SuiteError(f"{path}: annotation {entry['id']}: area is {area!r}, expected a number")
    _, _, width, height = entry["bbox"]
    return area if area is not None and area > 0 else width * height


def _is_ignored(entry: Mapping[str, Any], path: Path) -> bool:
    """Whether it is a crowd, or marked `ignore` as in files made from VOC's, CrowdHuman's and others."""
    found = []
    for key in ("iscrowd", "ignore"):
        try:
            found.append(flag(entry.get(key)))
        except ValueError as error:
            raise SuiteError(f"{path}: annotation {entry['id']}: {key} is {error}") from None
    return any(found)


def _need(entry: Any, key: str, kind: type, path: Path, what: str) -> Any:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise SuiteError(f"{path}: {what} {entry!r:.120}: key '{key}' is missing or not {kind.__name__}")
    return value

"""Annotations of a folder, COCO's JSON or Pascal VOC's XML, as one checked and normalised COCO table.

A table is `{"images", "annotations", "categories"}` as in COCO's JSON, with what mmdet and pycocotools need in every
entry, in the order of ids; annotations are numbered anew, from 1. Boxes keep their coordinates, also where they cross
the border of the image; boxes without area, and boxes entirely off the image, can be neither learnt nor found: they are
dropped and counted.
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from suite.errors import SuiteError

Table = dict[str, Any]
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def read_coco(path: Path, image_size: Callable[[str], tuple[int, int]], *, masks: bool = False) -> Table:
    """Reads a COCO annotation file.

    Args:
        path: the JSON file.
        image_size: (width, height) of an image by its file name; asked where the file does not say.
        masks: keep `segmentation`.

    Returns:
        The table, with `dropped`: how many boxes were left out.

    Raises:
        SuiteError: not JSON, or an entry that cannot be used; names the file and the entry.
    """
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
    categories = [
        {"id": _need(c, "id", int, path, "category"), "name": str(_need(c, "name", str, path, "category"))}
        for c in data["categories"]
    ]
    images = []
    for entry in data["images"]:
        name = _need(entry, "file_name", str, path, "image")
        width, height = entry.get("width"), entry.get("height")
        if not (isinstance(width, int) and isinstance(height, int) and min(width, height) > 0):
            width, height = image_size(name)
        images.append(
            {"id": _need(entry, "id", int, path, "image"), "file_name": name, "width": width, "height": height}
        )
    annotations = []
    for entry in data["annotations"]:
        kept = {key: _need(entry, key, int, path, "annotation") for key in ("id", "image_id", "category_id")}
        box = entry.get("bbox")
        if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
            raise SuiteError(f"{path}: annotation {entry['id']}: bbox is {box!r}, expected four numbers x, y, w, h")
        kept |= {"bbox": box, "area": entry.get("area", box[2] * box[3]), "iscrowd": int(bool(entry.get("iscrowd", 0)))}
        if masks:
            kept["segmentation"] = entry.get("segmentation")
            if not kept["segmentation"]:
                raise SuiteError(f"{path}: annotation {entry['id']} has no segmentation, which dataset.masks asks for")
        annotations.append(kept)
    return _checked({"images": images, "annotations": annotations, "categories": categories}, path)


def read_voc(
    folder: Path, names: Iterable[str], files: Mapping[str, str], image_size: Callable[[str], tuple[int, int]]
) -> Table:
    """Reads Pascal VOC's XML files.

    VOC counts pixels from 1 and includes the last one: a box (xmin, ymin, xmax, ymax) is (xmin − 1, ymin − 1,
    xmax − xmin + 1, ymax − ymin + 1) here. Objects marked `difficult` become crowds: neither learnt nor counted.

    Args:
        folder: of the XML files.
        names: stems of the files to read.
        files: stem of an image to its file name.
        image_size: (width, height) of an image by its file name; asked where the XML does not say.

    Returns:
        The table, with `dropped`; image ids count from 1 in the order of the names, categories are sorted by name.

    Raises:
        SuiteError: a file is missing or damaged; names it.
    """
    images, found = [], []
    for number, stem in enumerate(names, 1):
        path = folder / f"{stem}.xml"
        try:
            root = ElementTree.parse(path).getroot()
        except FileNotFoundError:
            raise SuiteError(f"{path} is missing: the split lists '{stem}'") from None
        except ElementTree.ParseError as error:
            raise SuiteError(f"{path} is not valid XML ({error})") from None
        if stem not in files:
            raise SuiteError(f"{path}: no image {stem}{'|'.join(SUFFIXES)} in the folder of images")
        size = root.find("size")
        width, height = (_whole(size, key) for key in ("width", "height"))
        if not (width and height):
            width, height = image_size(files[stem])
        images.append({"id": number, "file_name": files[stem], "width": width, "height": height})
        for element in root.iter("object"):
            name, box = (element.findtext("name") or "").strip(), element.find("bndbox")
            try:
                corners = [float(box.findtext(key) or "") for key in ("xmin", "ymin", "xmax", "ymax")]  # type: ignore[union-attr]
            except (AttributeError, ValueError):
                raise SuiteError(f"{path}: object '{name}' has no bndbox of four numbers") from None
            if not name or not all(map(math.isfinite, corners)):
                raise SuiteError(f"{path}: an object needs a name and finite coordinates, found '{name}' at {corners}")
            difficult = (element.findtext("difficult") or "0").strip() not in ("", "0")
            found.append((number, name, corners, difficult))
    classes = {name: index for index, name in enumerate(sorted({name for _, name, _, _ in found}), 1)}
    annotations = []
    for index, (image, name, (x1, y1, x2, y2), difficult) in enumerate(found, 1):
        w, h = x2 - x1 + 1, y2 - y1 + 1
        annotations.append(
            {
                "id": index,
                "image_id": image,
                "category_id": classes[name],
                "bbox": [x1 - 1, y1 - 1, w, h],
                "area": w * h,
                "iscrowd": int(difficult),
            }
        )
    categories = [{"id": index, "name": name} for name, index in classes.items()]
    return _checked({"images": images, "annotations": annotations, "categories": categories}, folder)


def with_categories_of(table: Table, reference: Table, source: str) -> Table:
    """The table with the category ids of another one, matched by name. Raises `SuiteError` for a class it lacks."""
    ids = {c["name"]: c["id"] for c in reference["categories"]}
    used = {a["category_id"] for a in table["annotations"]}
    unknown = [c["name"] for c in table["categories"] if c["name"] not in ids and c["id"] in used]
    if unknown:
        raise SuiteError(f"{source}: class '{unknown[0]}' is not among the classes of `train`: {', '.join(ids)}")
    new = {c["id"]: ids.get(c["name"]) for c in table["categories"]}
    annotations = [{**a, "category_id": new[a["category_id"]]} for a in table["annotations"]]
    return {**table, "annotations": annotations, "categories": reference["categories"]}


def first_repeated(values: Iterable[Any]) -> Any:
    """The first value that was there before; None if each occurs once."""
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def part_of(table: Table, image_ids: set[int]) -> Table:
    """The table of some of its images."""
    return {
        **table,
        "images": [i for i in table["images"] if i["id"] in image_ids],
        "annotations": [a for a in table["annotations"] if a["image_id"] in image_ids],
    }


def _checked(table: Table, source: Path) -> Table:
    """The table in order of ids, without boxes of no use; refuses one that contradicts itself."""
    for kind in ("images", "annotations", "categories"):
        if (twice := first_repeated(entry["id"] for entry in table[kind])) is not None:
            raise SuiteError(f"{source}: two {kind} have the id {twice}")
    for key, entries in (("name", table["categories"]), ("file_name", table["images"])):
        if (twice := first_repeated(entry[key] for entry in entries)) is not None:
            raise SuiteError(f"{source}: {key} '{twice}' occurs twice")
    images = {image["id"]: image for image in table["images"]}
    categories = {category["id"] for category in table["categories"]}
    kept, dropped = [], {"no_area": 0, "off_image": 0}
    for annotation in table["annotations"]:
        for key, known in (("image_id", images), ("category_id", categories)):
            if annotation[key] not in known:
                raise SuiteError(f"{source}: annotation {annotation['id']}: no {key} {annotation[key]} in the file")
        x, y, w, h = annotation["bbox"]
        image = images[annotation["image_id"]]
        if w <= 0 or h <= 0:
            dropped["no_area"] += 1
        elif x >= image["width"] or y >= image["height"] or x + w <= 0 or y + h <= 0:
            dropped["off_image"] += 1
        else:
            kept.append(annotation)
    kept.sort(key=lambda a: a["id"])
    return {
        "images": sorted(table["images"], key=lambda i: i["id"]),
        # numbered anew: to pycocotools a detection that matches the annotation 0 has no match
        "annotations": [{**annotation, "id": number} for number, annotation in enumerate(kept, 1)],
        "categories": sorted(table["categories"], key=lambda c: c["id"]),
        "dropped": dropped,
    }


def _need(entry: Any, key: str, kind: type, path: Path, what: str) -> Any:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise SuiteError(f"{path}: {what} {entry!r:.120}: key '{key}' is missing or not {kind.__name__}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(size: Any, key: str) -> int:
    text = (size.findtext(key) if size is not None else None) or "0"
    return int(float(text)) if text.strip().replace(".", "", 1).isdigit() else 0

"""The table that every format is read into, its checks, and what is done with it.

A table is `{"images", "annotations", "categories", "dropped"}`: the first three as in COCO's JSON, with what mmdet and
pycocotools need in every entry, in the order of ids; annotations are numbered anew, from 1. Boxes keep their
coordinates, also where they cross the border of the image. Boxes that mmdet does not train on are left out: those
without area, less than a pixel wide or high, or entirely off the image. `dropped` counts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from suite.errors import SuiteError

Table = dict[str, Any]


def checked(images: list[Any], annotations: list[Any], categories: list[Any], source: Path) -> Table:
    """The table of these entries.

    Args:
        images: each with id, file_name, width and height.
        annotations: each with id, image_id, category_id, bbox (x, y, width, height), area and iscrowd.
        categories: each with id and name.
        source: where they come from, for messages.

    Raises:
        SuiteError: an id or a name is there twice, or an annotation is of an image or a category that is not there.
    """
    for kind, entries in (("images", images), ("annotations", annotations), ("categories", categories)):
        if (twice := first_repeated(entry["id"] for entry in entries)) is not None:
            raise SuiteError(f"{source}: two {kind} have the id {twice}")
    for key, entries in (("name", categories), ("file_name", images)):
        if (twice := first_repeated(entry[key] for entry in entries)) is not None:
            raise SuiteError(f"{source}: {key} '{twice}' occurs twice")
    images_by_id = {image["id"]: image for image in images}
    category_ids = {category["id"] for category in categories}
    kept, dropped = [], {"no_area": 0, "under_a_pixel": 0, "off_image": 0}
    for annotation in annotations:
        _require_known(annotation, "image_id", images_by_id, source)
        _require_known(annotation, "category_id", category_ids, source)
        x, y, width, height = annotation["bbox"]
        image = images_by_id[annotation["image_id"]]
        if width <= 0 or height <= 0:
            dropped["no_area"] += 1
        elif width < 1 or height < 1:
            dropped["under_a_pixel"] += 1
        elif x >= image["width"] or y >= image["height"] or x + width <= 0 or y + height <= 0:
            dropped["off_image"] += 1
        else:
            kept.append(annotation)
    kept.sort(key=lambda a: a["id"])
    return {
        "images": sorted(images, key=lambda i: i["id"]),
        # numbered anew: to pycocotools a detection that matches the annotation 0 has no match
        "annotations": [{**annotation, "id": number} for number, annotation in enumerate(kept, 1)],
        "categories": sorted(categories, key=lambda c: c["id"]),
        "dropped": dropped,
    }


def _require_known(annotation: Any, key: str, known: Collection[int], source: Path) -> None:
    if annotation[key] not in known:
        raise SuiteError(
            f"{source}: annotation {annotation['id']}: no {key} {annotation[key]} in the file: correct the annotation, "
            f"or add what it names to the file's `{'images' if key == 'image_id' else 'categories'}`"
        )


def with_categories(table: Table, categories: list[dict[str, Any]], source: str) -> Table:
    """The table with these categories, matched by name.

    Raises:
        SuiteError: they lack a class that has objects in the table.
    """
    ids = {c["name"]: c["id"] for c in categories}
    used = {a["category_id"] for a in table["annotations"]}
    unknown = [c for c in table["categories"] if c["name"] not in ids and c["id"] in used]
    if unknown:
        name = unknown[0]["name"]
        first = next(a["image_id"] for a in table["annotations"] if a["category_id"] == unknown[0]["id"])
        image = next(image["file_name"] for image in table["images"] if image["id"] == first)
        close = get_close_matches(name, ids, 1)
        raise SuiteError(
            f"{source}: class '{name}' (of {image}, for one) is not among the classes of `train`: {', '.join(ids)}"
            + (f"; did you mean '{close[0]}'? Correct the annotations" if close else "; leave its objects out")
        )
    new = {c["id"]: ids.get(c["name"]) for c in table["categories"]}
    annotations = [{**a, "category_id": new[a["category_id"]]} for a in table["annotations"]]
    return {**table, "annotations": annotations, "categories": categories}


def common_categories(tables: Iterable[Table]) -> list[dict[str, Any]]:
    """The categories of several tables: those of the first, then whatever names the others add, numbered on."""
    found: dict[str, dict[str, Any]] = {}
    for category in (category for table in tables for category in table["categories"]):
        if category["name"] not in found:
            taken = {known["id"] for known in found.values()}
            own = category if category["id"] not in taken else {**category, "id": max(taken) + 1}
            found[category["name"]] = own
    return sorted(found.values(), key=lambda category: category["id"])


def joined(members: Mapping[str, Table]) -> Table:
    """One table of several that have the same categories: file names start with the member's, ids count from 1.

    A split that is its own only member, with the name '', stays as it is.
    """
    if "" in members:
        return members[""]
    images: list[Any] = []
    annotations: list[Any] = []
    dropped: Counter[str] = Counter()
    for member, table in members.items():
        ids = {image["id"]: number for number, image in enumerate(table["images"], len(images) + 1)}
        images += [
            {**image, "id": ids[image["id"]], "file_name": f"{member}/{image['file_name']}"}
            for image in table["images"]
        ]
        annotations += [{**entry, "image_id": ids[entry["image_id"]]} for entry in table["annotations"]]
        dropped.update(table["dropped"])
    first = next(iter(members.values()))
    return {
        "images": images,
        "annotations": [{**entry, "id": number} for number, entry in enumerate(annotations, 1)],
        "categories": first["categories"],
        "dropped": dict(dropped),
    }


def part_of(table: Table, image_ids: set[int]) -> Table:
    """The table of some of its images."""
    return {
        **table,
        "images": [i for i in table["images"] if i["id"] in image_ids],
        "annotations": [a for a in table["annotations"] if a["image_id"] in image_ids],
    }


def first_repeated(values: Iterable[Any]) -> Any:
    """The first value that was there before; None if each occurs once."""
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None

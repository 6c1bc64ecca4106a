"""Detections in COCO's results format: read entry by entry, checked, kept as columns.

A row is `{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`; what else is in it is not read. Files of
gigabytes are read in pieces: a detection takes 56 bytes of memory, whatever it takes in the file.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from experiments.refinement.annotations import Annotations, is_id, is_number
from suite.errors import SuiteError

CHUNK = 1 << 20  # characters read at once
LONGEST = 1 << 24  # characters of an entry; a longer one is taken for damage
FORMAT = "a list of COCO's results, [{'image_id': 1, 'category_id': 1, 'bbox': [x, y, width, height], 'score': 0.9}, …]"
_BLANK = re.compile(r"[ \t\r\n]*")
_EDGE = 2.0  # pixels that a box may reach beyond its image


@dataclass(frozen=True)
class Results:
    """Detections of a file, in its order: K of them.

    Attributes:
        path: the file.
        image: `int64[K]`, positions among the images of the annotations.
        category: `int64[K]`, positions among their classes.
        boxes: `float64[K, 4]` of (x1, y1, x2, y2), in pixels of the image.
        scores: `float64[K]`.
    """

    path: Path
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]

    def by_image(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """(image, its entries in the file's order) for every image that has any, in the order of the annotations."""
        order = np.argsort(self.image, kind="stable")
        images, starts = np.unique(self.image[order], return_index=True)
        yield from zip(images.tolist(), np.split(order, starts[1:]), strict=True)


def read_results(path: Path, annotations: Annotations) -> Results:
    """Reads and checks detections.

    Args:
        path: JSON; compressed if it ends in .gz.
        annotations: of the images.

    Raises:
        SuiteError: there is no such file, it is no JSON or empty, or an entry cannot be a detection of these images;
            names the entry and what to do.
    """
    images = {one: position for position, one in enumerate(annotations.image_ids)}
    categories = {one: position for position, one in enumerate(annotations.category_ids)}
    image, category, numbers = array("q"), array("q"), array("d")
    for number, entry in enumerate(entries(path)):
        if not isinstance(entry, Mapping):
            raise SuiteError(f"{path}: entry {number} is {_short(entry)}, no detection; the file must be {FORMAT}")
        where = f"{path}: entry {number}" + (f" (image_id {entry['image_id']!r})" if "image_id" in entry else "")
        for key in ("image_id", "category_id", "bbox", "score"):
            if key not in entry:
                raise SuiteError(f"{where} has no '{key}'; the file must be {FORMAT}")
        image.append(_position(images, entry["image_id"], "image_id", where, annotations.path))
        category.append(_position(categories, entry["category_id"], "category_id", where, annotations.path))
        numbers.extend(_box(entry["bbox"], where))
        numbers.append(_score(entry["score"], where))
    if not image:
        raise SuiteError(f"{path}: no detections in it: there is nothing to refine")
    columns = np.frombuffer(numbers, np.float64).reshape(-1, 5)
    found = Results(
        path,
        np.frombuffer(image, np.int64),
        np.frombuffer(category, np.int64),
        np.concatenate([columns[:, :2], columns[:, :2] + columns[:, 2:4]], axis=1),
        columns[:, 4].copy(),
    )
    _require_pixels(found, annotations)
    _require_sizes(found, annotations)
    return found


def entries(path: Path) -> Iterator[Any]:
    """The values of a JSON list, one after the other; no more than a piece of the file is held.

    Raises:
        SuiteError: the file is missing, empty, damaged, or holds no list.
    """
    try:
        with _opened(path) as file:
            yield from _values(file, path)
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: damaged, cannot be read ({error}): write or fetch it again") from None
    except OSError as error:
        raise SuiteError(f"--detections {path} cannot be read ({error.strerror or error})") from None


def _opened(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _values(file: IO[str], path: Path) -> Iterator[Any]:
    decode = json.JSONDecoder().raw_decode
    text, at = "", 0

    def following() -> str:
        """The next character that is no blank, where `at` then is; "" at the end of the file."""
        nonlocal text, at
        while True:
            at = _BLANK.match(text, at).end()  # type: ignore[union-attr]
            if at < len(text):
                return text[at]
            text, at = file.read(CHUNK), 0
            if not text:
                return ""

    first = following()
    if first != "[":
        what = "is empty" if first == "" else f"begins with {text[at : at + 20]!r}"
        raise SuiteError(f"{path} {what}: it must be {FORMAT}")
    at += 1
    number, mark = 0, following()
    if mark == "]":
        at += 1
    while mark != "]":
        while True:
            try:
                value, end = decode(text, at)
            except ValueError as error:
                value, end, problem = None, None, str(error)
            if end is not None and end < len(text):  # a number that ends with the piece may go on
                break
            more = file.read(CHUNK) if len(text) - at < LONGEST else ""
            if not more:
                if end is not None:
                    break
                rest = text[at : at + 40]
                raise SuiteError(
                    f"{path}: damaged or truncated at entry {number} ({problem.split(':')[0]}; there is "
                    f"{rest!r}): write or fetch it again"
                )
            text, at = text[at:] + more, 0
        yield value
        at, number = end, number + 1
        mark = following()
        if mark == "":
            raise SuiteError(
                f"{path}: truncated after entry {number - 1}: the list has no end. Write or fetch it again"
            )
        if mark not in ",]":
            raise SuiteError(
                f"{path}: after entry {number - 1} there is {text[at : at + 20]!r}, where ',' or ']' must be"
            )
        at += 1
        if mark == ",":
            following()
    if following():
        raise SuiteError(f"{path}: after the list there is {text[at : at + 20]!r}: it must be {FORMAT}")


def _position(known: Mapping[Any, int], value: Any, key: str, where: str, source: Path) -> int:
    position = known.get(value) if is_id(value) else None
    if position is not None:
        return position
    example = next(iter(known))
    hint = ""
    if isinstance(example, int) and isinstance(value, str):
        hint = ": its ids are numbers, not texts"
    elif isinstance(example, str) and isinstance(value, int):
        hint = ": its ids are texts, not numbers"
    elif key == "category_id":
        listed = ", ".join(map(repr, list(known)[:5])) + (", …" if len(known) > 5 else "")
        hint = f": they are {listed}. A detector's own numbers of classes, from 0 on, are not COCO's category ids"
    elif key == "image_id":
        hint = f": they are such as {example!r}. --annotations must be those of the images that were detected on"
    raise SuiteError(f"{where}: {key} {value!r} is none of {source}{hint}")


def _box(value: Any, where: str) -> list[float]:
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)):
        raise SuiteError(
            f"{where}: 'bbox' is {_short(value)}: it must be four numbers, [x, y, width, height] in pixels"
        )
    if value[2] <= 0 or value[3] <= 0:
        raise SuiteError(
            f"{where}: 'bbox' {value} has no area: its width is {value[2]:g}, its height {value[3]:g}. It must be "
            "[x, y, width, height] in pixels, both above 0: leave empty boxes out"
        )
    return value


def _score(value: Any, where: str) -> float:
    if not is_number(value):
        raise SuiteError(f"{where}: 'score' is {_short(value)}: it must be a number from 0 to 1")
    if not 0 <= value <= 1:
        raise SuiteError(
            f"{where}: 'score' is {value:g}: it must be a probability, from 0 to 1 (divide percentages by 100, take "
            "the sigmoid of logits): it is multiplied with the predicted IoU"
        )
    return float(value)


def _require_pixels(found: Results, annotations: Annotations) -> None:
    """Refuses boxes in shares of the image's sides."""
    if found.boxes.max() <= 1.0 + 1e-6 and found.boxes.min() >= 0:
        raise SuiteError(
            f"{found.path}: entry 0 (image_id {annotations.image_ids[found.image[0]]!r}) and all others lie within the "
            "first pixel of their images: these look like shares of the image's sides. Multiply x and width by its "
            "width, y and height by its height"
        )


def _require_sizes(found: Results, annotations: Annotations) -> None:
    """Refuses a file of (x1, y1, x2, y2), which as (x, y, width, height) reach beyond their images.

    Of such a file every row has x1 < x2 ≤ width. So a single row that has not says that the file is none, however far
    others reach: a detector may not clip its boxes.
    """
    sizes = np.array(annotations.sizes, np.float64)[found.image]
    second = found.boxes[:, 2:] - found.boxes[:, :2]  # as written: width and height, or x2 and y2
    could_be = (second > found.boxes[:, :2]) & (second <= sizes + _EDGE)
    if not could_be.all():
        return
    beyond = (found.boxes[:, 2:] > sizes + _EDGE).any(axis=1)
    if beyond.any():
        row = int(beyond.argmax())
        x, y = found.boxes[row, :2].tolist()
        w, h = second[row].tolist()
        width, height = sizes[row].astype(int).tolist()
        raise SuiteError(
            f"{found.path}: entry {row} (image_id {annotations.image_ids[found.image[row]]!r}): 'bbox' "
            f"[{x:g}, {y:g}, {w:g}, {h:g}] reaches beyond its image of {width} x {height} pixels as [x, y, width, "
            f"height], but not as [x1, y1, x2, y2], and so do {int(beyond.sum())} of the {len(found.image)} boxes: "
            "write [x1, y1, x2 - x1, y2 - y1]"
        )


def reaching_beyond(found: Results, annotations: Annotations) -> str | None:
    """A warning of boxes that reach beyond their images: a detector may not clip them, or some are of corners.

    None without any.
    """
    sizes = np.array(annotations.sizes, np.float64)[found.image]
    beyond = (found.boxes[:, 2:] > sizes + _EDGE).any(axis=1) | (found.boxes[:, :2] < -_EDGE).any(axis=1)
    if not beyond.any():
        return None
    row = int(beyond.argmax())
    return (
        f"{found.path}: {int(beyond.sum())} of {len(found.image)} boxes reach beyond their images, the first is "
        f"entry {row} (image_id {annotations.image_ids[found.image[row]]!r}). That a detector does not clip its boxes "
        "is fine, but each must be [x, y, width, height]"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"

"""Pascal VOC's format.

Of a split, `annotations` is the folder of the XML files (default: Annotations), `images` the folder of the images
(default: JPEGImages), and `list` a file with the names of the split's images, one a line and without suffix; without a
list every XML file counts. An image belongs to the XML file of its name, whatever the XML says; accents may be written
in either of Unicode's ways in the list, in the name of the XML file and in that of the image.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.data.formats import ImageSize, Part
from experiments.data.formats.table import Table, checked, first_repeated
from experiments.data.formats.values import flag
from experiments.data.names import Names, composed
from suite.errors import SuiteError

TITLE = "Pascal VOC"
PARTS = (
    Part("images", is_folder=True, default="JPEGImages"),
    Part("annotations", is_folder=True, default="Annotations"),
    Part("list", is_optional=True),
)
REFUSED: dict[str, str] = {}
EXPATS = ("utf-8", "utf-16")  # encodings that the parser reads itself, with a mark at the start or without
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class _Object(NamedTuple):
    image_id: int
    name: str
    corners: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax: pixels from 1, the last one included
    difficult: bool


def read(files: Mapping[str, Path], *, image_size: ImageSize, masks: bool = False) -> Table:
    """Reads the XML files; see `experiments.data.formats.Format.read`. There are no segmentations.

    VOC counts pixels from 1 and includes the last one: a box (xmin, ymin, xmax, ymax) is (xmin − 1, ymin − 1,
    xmax − xmin + 1, ymax − ymin + 1) in the table. Objects marked `difficult` become crowds, which are neither learnt
    nor counted. Image ids count from 1 in the order of the list, or of the names; categories are sorted by name.
    """
    folder = files["annotations"]
    there = sorted(file.stem for file in folder.glob("*.xml"))
    names = Names(there)
    stems = there
    if "list" in files:
        found = {stem: names.find(stem) for stem in _listed(files["list"])}
        if lost := [stem for stem, own in found.items() if own is None]:
            raise SuiteError(
                f"{folder / lost[0]}.xml is missing, as {len(lost)} of {len(found)} that {files['list']} lists: add "
                f"{'it, or take its line' if len(lost) == 1 else 'them, or take their lines'} out of the list"
            )
        stems = [own for own in found.values() if own is not None]
    images_by_stem = _files_by_stem(files["images"], stems)
    images, objects = [], []
    for image_id, stem in enumerate(stems, 1):
        path = folder / f"{stem}.xml"
        root = _parsed(path)
        file_name = images_by_stem.get(stem, f"{stem}{SUFFIXES[0]}")  # of the usual name, if it is missing
        width, height = _size(root, path) or (image_size(file_name) if stem in images_by_stem else (0, 0))
        images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        objects += [_object(element, image_id, path) for element in root.iter("object")]
    classes = {name: number for number, name in enumerate(sorted({found.name for found in objects}), 1)}
    annotations = [_annotation(found, number, classes) for number, found in enumerate(objects, 1)]
    return checked(images, annotations, [{"id": number, "name": name} for name, number in classes.items()], folder)


def _listed(path: Path) -> list[str]:
    """The names that a list holds, each once."""
    try:
        names = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path} is not UTF-8 ({error}): convert it") from None
    if twice := first_repeated(map(composed, names)):
        raise SuiteError(f"{path} lists '{twice}' twice")
    return names


def _files_by_stem(folder: Path, stems: Collection[str]) -> dict[str, str]:
    """The images of the stems in a folder; refuses two of one stem, as its XML file could mean either."""
    names, found = Names(stems), defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and (stem := names.find(path.stem)) is not None:
            found[stem].append(path.name)
    for stem, files in found.items():
        if len(files) > 1:
            raise SuiteError(
                f"{folder}: {' and '.join(files)}: which of them belongs to {stem}.xml? Move the others away"
            )
    return {stem: file for stem, (file,) in found.items()}


def _parsed(path: Path) -> ElementTree.Element:
    try:
        data = path.read_bytes()
        declared = re.match(rb"""\s*<\?xml[^>]*\bencoding=["']([\w.-]+)""", data)
        encoding = declared[1].decode() if declared else "utf-8"
        if encoding.lower() in EXPATS:
            return ElementTree.fromstring(data)
        return ElementTree.fromstring(data.decode(encoding))  # as text, whose declaration it does not go by
    except FileNotFoundError:
        raise SuiteError(f"{path} is a link to a file that is not there") from None
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path} is not valid XML ({error})") from None
    except LookupError:
        raise SuiteError(f"{path}: its encoding '{encoding}' is not known: write it as UTF-8") from None


def _text(element: ElementTree.Element, key: str, path: Path) -> str:
    """What the element says under a key, "" if nothing; refuses two answers, and elements in place of text."""
    found = element.findall(key)
    texts = sorted({(child.text or "").strip() for child in found})
    if len(texts) > 1 or any(len(child) for child in found):
        raise SuiteError(f"{path}: <{key.rpartition('/')[2]}> of an <{element.tag}> must be one text, found {texts}")
    return texts[0] if texts else ""


def _size(root: ElementTree.Element, path: Path) -> tuple[int, int] | None:
    """(width, height) in pixels; None unless the file says both: some files say nothing or 0."""
    sides = []
    for key in ("width", "height"):
        text = _text(root, f"size/{key}", path)
        if not re.fullmatch(r"([0-9]{1,9}(\.0*)?)?", text):
            raise SuiteError(f"{path}: {key} is '{text}', expected pixels; with 0 the image's own size counts")
        sides.append(int(float(text or 0)))
    width, height = sides
    return (width, height) if width and height else None


def _object(element: ElementTree.Element, image_id: int, path: Path) -> _Object:
    name = composed(_text(element, "name", path))
    sides = [_text(element, f"bndbox/{key}", path) for key in ("xmin", "ymin", "xmax", "ymax")]
    difficult = _text(element, "difficult", path)
    try:
        x1, y1, x2, y2 = map(float, sides)
    except ValueError:
        raise SuiteError(f"{path}: object '{name}' has no bndbox of four numbers") from None
    if not name or not all(map(math.isfinite, (x1, y1, x2, y2))):
        corners = [x1, y1, x2, y2]
        raise SuiteError(f"{path}: an object needs a name and finite coordinates, found '{name}' at {corners}")
    try:
        return _Object(image_id, name, (x1, y1, x2, y2), flag(difficult))
    except ValueError as error:
        raise SuiteError(f"{path}: object '{name}': difficult is {error}") from None


def _annotation(found: _Object, number: int, classes: Mapping[str, int]) -> dict[str, Any]:
    x1, y1, x2, y2 = found.corners
    width, height = x2 - x1 + 1, y2 - y1 + 1
    return {
        "id": number,
        "image_id": found.image_id,
        "category_id": classes[found.name],
        "bbox": [x1 - 1, y1 - 1, width, height],
        "area": width * height,
        "iscrowd": int(found.difficult),
    }

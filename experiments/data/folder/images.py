"""Image files of a folder: which are there, and what training sees of them.

Every file's header and end are read. A file is decoded whole, as training does it, where they leave a doubt: in a
format whose end is not known, with an EXIF entry that turns it, or without its end.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from suite.files import read_json, write_json
from suite.images import JPEG_END, Pixels, decode

Image.MAX_IMAGE_PIXELS = None  # one's own images may be as large as they are

ENDS = {"JPEG": JPEG_END, "MPO": JPEG_END, "PNG": b"IEND\xaeB`\x82"}  # by Pillow's name of the format
ORIENTATION = 0x0112  # the EXIF entry; 1 = as stored
FILLER = np.random.default_rng(0).integers(0, 255, 4096, np.uint8).tobytes()  # no 0xFF: it holds no marker


class Inspected(NamedTuple):
    """What is known of an image file.

    Attributes:
        width: pixels, as training sees the image; 0 where it sees none.
        height: likewise.
        is_turned: training sees it turned or mirrored, as its EXIF entry says, and not as it is stored.
        lacks_end: its end is missing, and yet training sees the whole image.
        damage: why training sees none of it, or a part; empty for a sound file.
    """

    width: int
    height: int
    is_turned: bool = False
    lacks_end: bool = False
    damage: str = ""


def files_below(folder: Path) -> Iterator[str]:
    """Files below a folder by their path from there; follows links."""
    for parent, _, names in os.walk(folder, followlinks=True):
        below = Path(parent).relative_to(folder).as_posix()
        yield from names if below == "." else (f"{below}/{name}" for name in names)


def inspect(path: Path, whole: bool = False) -> Inspected:
    """Reads a file's header and end, and decodes it where that leaves a doubt; `whole` = decode it in any case."""
    kind, size, orientation = _header(path)
    if not whole and kind in ENDS and orientation in (0, 1) and _ends_with(path, ENDS[kind]):
        return Inspected(*size)
    data = path.read_bytes()
    image = decode(data)
    if image is None:
        error = _error_of(path)
        if kind and kind not in ENDS and not error:
            return Inspected(
                0, 0, damage=f"OpenCV, with which images are loaded, cannot read its format ({kind}): convert it"
            )
        return Inspected(0, 0, damage=f"it cannot be decoded ({error or 'by OpenCV'}; {len(data)} bytes)")
    height, width = image.shape[:2]
    is_turned = False
    if orientation not in (0, 1):
        stored = decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        is_turned = stored is None or not np.array_equal(stored, image)
    if error := _error_of(path):
        if kind not in ("JPEG", "MPO") or not _has_all_of(data, image):
            return Inspected(
                width, height, is_turned, damage=f"it is decoded in part only ({error}; {len(data)} bytes)"
            )
        return Inspected(width, height, is_turned, lacks_end=True)
    return Inspected(width, height, is_turned)


def _header(path: Path) -> tuple[str, tuple[int, int], int]:
    """Pillow's name of the format ("" for none), (width, height) as stored, EXIF orientation (-1 for a broken one)."""
    try:
        with Image.open(path) as image:
            kind, size = image.format or "", image.size
            try:
                return kind, size, int(image.getexif().get(ORIENTATION, 1))
            except Exception:
                return kind, size, -1
    except Exception:
        return "", (0, 0), 1


def _ends_with(path: Path, end: bytes) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(end)))
        return file.read() == end


def _error_of(path: Path) -> str:
    """What Pillow says against an image; it notices a torn file, which some versions of OpenCV fill up in silence."""
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:
        return str(error).replace(str(path), path.name) or type(error).__name__
    return ""


def _has_all_of(data: bytes, image: Pixels) -> bool:
    """Whether a JPEG without its end has every block: what then follows changes no pixel."""
    longer = decode(data + FILLER)
    return longer is not None and np.array_equal(longer, image)


class Inspector:
    """Inspects files once: what it found is kept in a file, and holds for as long as size and time of change do.

    A context manager, which writes it down at the end, however it ends.

    Args:
        memory: the file; one that cannot be read is as good as none.
        workers: threads.
    """

    def __init__(self, memory: Path, workers: int) -> None:
        self._memory, self._workers = memory, max(1, workers)
        try:
            self._known: dict[str, list[Any]] = read_json(memory)
        except (OSError, ValueError):
            self._known = {}
        self._used: dict[str, list[Any]] = {}

    def __call__(self, paths: Iterable[Path], whole: Iterable[bool], progress: str) -> list[Inspected]:
        """What is known of each of the files, all of which exist.

        Args:
            paths: of the files.
            whole: which of them are decoded in any case.
            progress: label of the progress bar, which a terminal sees.
        """
        work = list(zip(paths, whole, strict=True))
        with ThreadPoolExecutor(self._workers) as pool:
            found = pool.map(lambda one: self.look(*one), work)
            return list(tqdm(found, progress, len(work), disable=None, unit="image"))

    def look(self, path: Path, whole: bool = False) -> Inspected:
        """What is known of one file, which exists; see `inspect`."""
        state = path.stat()
        mark, key = [state.st_size, state.st_mtime_ns], str(path)
        known = self._used.get(key) or self._known.get(key)
        if known is None or known[:2] != mark or whole > known[2]:
            known = [*mark, whole, *inspect(path, whole)]
        self._used[key] = known
        return Inspected(*known[3:])

    def __enter__(self) -> Inspector:
        return self

    def __exit__(self, *_: object) -> None:
        write_json(self._memory, {**self._known, **self._used})

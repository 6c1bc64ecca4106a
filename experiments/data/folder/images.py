"""Image files of a folder: which are there, and whether training can read them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from suite.errors import SuiteError

Image.MAX_IMAGE_PIXELS = None  # one's own images may be as large as they are


def files_below(folder: Path) -> Iterator[str]:
    """Files below a folder by their path from there; follows links."""
    for parent, _, names in os.walk(folder, followlinks=True):
        below = Path(parent).relative_to(folder).as_posix()
        yield from names if below == "." else (f"{below}/{name}" for name in names)


def decoded_size(path: Path, remedy: str = "") -> tuple[int, int]:
    """(width, height) as training sees the image, that is, turned as its EXIF entry says; reads all of it.

    Pillow notices a torn file, which OpenCV fills up in silence; OpenCV, which training uses, knows fewer formats.

    Args:
        path: the image.
        remedy: ends the message about an image that cannot be decoded.

    Raises:
        SuiteError: Pillow or OpenCV cannot read it.
    """
    try:
        with Image.open(path) as image:
            image.load()
            kind, size = image.format, ImageOps.exif_transpose(image).size
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        hint = f". {remedy}" if remedy else ""
        raise SuiteError(
            f"{path} cannot be decoded ({error}; {path.stat().st_size} bytes): delete it and fetch it again{hint}"
        ) from None
    if cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) is None:
        raise SuiteError(f"{path}: OpenCV, with which images are loaded, cannot read its format ({kind}): convert it")
    return size

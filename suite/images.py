"""How an image is read: by training, by the check of a data set, by the report and by Weights & Biases alike."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from suite.errors import SuiteError

Pixels = NDArray[Any]
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


def read_image(path: Path) -> Pixels:
    """An image file as mmcv loads it for training: 8 bits a channel, turned as its EXIF entry says.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        SuiteError: there is no such file, or OpenCV cannot decode it.
    """
    try:
        image = decode(path.read_bytes())
    except FileNotFoundError:
        raise SuiteError(f"{path}: no such image") from None
    except OSError as error:
        raise SuiteError(f"{path} cannot be read ({error})") from None
    if image is None:
        raise SuiteError(f"{path}: damaged image, or of a format that OpenCV cannot decode")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode(data: bytes, flags: int = cv2.IMREAD_COLOR) -> Pixels | None:
    """The image, uint8 [height, width, 3] in BGR, in a file's bytes; None if OpenCV cannot decode them."""
    try:
        return cv2.imdecode(np.frombuffer(completed(data), np.uint8), flags)
    except cv2.error:  # no bytes, or a size beyond its limit
        return None


def completed(data: bytes) -> bytes:
    """A file's bytes; a JPEG that lacks its end gets one, without which OpenCV decodes it from disk alone."""
    return data + JPEG_END if data.startswith(JPEG_START) and not data.endswith(JPEG_END) else data

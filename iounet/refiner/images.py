"""From image files' pixels to the network's input: resized, normalised, padded to a whole number of cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Of ImageNet's images, RGB, as torchvision's weights expect them.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


class Prepared(NamedTuple):
    """N images as a network takes them.

    Attributes:
        images: ``Tensor[N, 3, H, W]``; an image lies at the top left, the rest is 0.
        sizes: (height, width) of each image there, in pixels.
        factors: ``Tensor[N, 4]``: a box (x1, y1, x2, y2) of the image as it was, times these, is the box there.
    """

    images: Tensor
    sizes: list[tuple[int, int]]
    factors: Tensor


def network_size(height: int, width: int, limits: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of an image in the network's input.

    Args:
        height: of the image, in pixels.
        width: of the image.
        limits: largest long and short side; the image is scaled to meet one of them, its shape kept. ``None``: as is.
    """
    if limits is None:
        return height, width
    scale = min(max(limits) / max(height, width), min(limits) / min(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def padded_size(height: int, width: int, divisor: int) -> tuple[int, int]:
    """The sides, each up to a multiple of ``divisor``."""
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def prepare(
    images: Sequence[Tensor],
    *,
    limits: tuple[int, int] | None,
    divisor: int,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    device: torch.device | None = None,
) -> Prepared:
    """Resizes (bilinear), normalises and pads.

    Args:
        images: per image ``Tensor[3, h, w]``, RGB from 0 to 255, of any dtype; one or more.
        limits: see :func:`network_size`.
        divisor: of the padded sides.
        mean: of each channel.
        std: of each channel.
        device: of the result; ``None``: of the first image.

    Raises:
        ValueError: if there is no image, or one has another shape.
    """
    if not images:
        raise ValueError("images is empty: give one or more")
    for number, image in enumerate(images):
        if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ValueError(f"images[{number}] must have shape [3, height, width], got {list(image.shape)}")
    device = images[0].device if device is None else device
    sizes = [network_size(image.shape[1], image.shape[2], limits) for image in images]
    padded = [padded_size(*size, divisor) for size in sizes]
    batch = torch.zeros(len(images), 3, max(h for h, _ in padded), max(w for _, w in padded), device=device)
    center, scale = (torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))
    factors = []
    for target, image, (height, width) in zip(batch, images, sizes, strict=True):
        pixels = image.to(device, torch.float32)
        factors.append([width / image.shape[2], height / image.shape[1]] * 2)
        if (height, width) != image.shape[1:]:
            # to whole values, as an image file's are
            pixels = F.interpolate(pixels[None], (height, width), mode="bilinear", align_corners=False)[0].round()
        target[:, :height, :width] = (pixels - center) / scale
    return Prepared(batch, sizes, torch.tensor(factors, device=device))

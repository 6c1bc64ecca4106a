"""An image with boxes on it, and labels that keep clear of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

LABEL_POINTS = 6.0
CROWDED = 10  # boxes on an image from which on lines are thin, and labels stand only where they cover no other
SOLID, DASHED, DOTTED = "-", (0, (2.6, 1.6)), (0, (1, 1.4))
Spot = tuple[float, float, float, float]  # x, y, width, height in image pixels


@dataclass(frozen=True)
class Box:
    """A box to draw: `(x, y, w, h)` in image pixels; an empty label is not written."""

    place: tuple[float, float, float, float]
    colour: str
    label: str = ""
    line: Any = SOLID


def outline(width: float) -> list[Any]:
    """Path effects that set a line of this width off against any ground."""
    return [Stroke(linewidth=1.9 * width, foreground="black", alpha=0.75), Normal()]


def draw_image(axes: Axes, pixels: NDArray[np.uint8]) -> None:
    """Fills axes with an image, uint8 [H, W, 3]; data coordinates are its pixels."""
    height, width = pixels.shape[:2]
    axes.imshow(pixels, interpolation="lanczos", extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_boxes(axes: Axes, boxes: Sequence[Box], size: tuple[int, int], inches: float) -> None:
    """Draws boxes, and then their labels, first come first served.

    Args:
        axes: of `draw_image`.
        boxes: the most important first.
        size: width and height of the image, pixels.
        inches: what its longer side takes up.
    """
    is_crowded = len(boxes) >= CROWDED
    width = 0.9 if is_crowded else 1.7
    for box in boxes:
        x, y, w, h = box.place
        patch = Rectangle((x, y), w, h, fill=False, edgecolor=box.colour, linewidth=width, linestyle=box.line)
        patch.set_path_effects(outline(width))
        axes.add_patch(patch)
    taken: list[Spot] = []
    for box in boxes:
        spot = place_label(box.place, box.label, size, taken, inches) if box.label else None
        if spot is None or (is_crowded and not _is_clear(spot, taken)):
            continue
        taken.append(spot)
        axes.text(
            *spot[:2], box.label, color="white", fontsize=LABEL_POINTS, va="top", ha="left", parse_math=False,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "black", "edgecolor": "none", "alpha": 0.72},
        )  # fmt: skip


def place_label(
    place: Sequence[float], label: str, size: tuple[int, int], taken: Sequence[Spot], inches: float
) -> Spot:
    """Where a label goes: at a corner of its box, inside the image, clear of those taken if one is."""
    x, y, w, h = place
    scale = max(size) / inches / 72  # image pixels per point
    width, height = 0.62 * LABEL_POINTS * len(label) * scale, 1.35 * LABEL_POINTS * scale
    corners = [
        (x, y - height),
        (x, y + h),
        (x + w - width, y - height),
        (x + w - width, y + h),
        (x, y),
        (x, y + h - height),
    ]
    spots = [
        (
            float(np.clip(left, 1, size[0] - width - 1)),
            float(np.clip(top, 1, size[1] - height - 1)),
            width,
            height,
        )
        for left, top in corners
    ]
    return next((spot for spot in spots if _is_clear(spot, taken)), spots[0])


def _is_clear(spot: Spot, taken: Sequence[Spot]) -> bool:
    x, y, width, height = spot
    return all(x + width <= left or left + w <= x or y + height <= top or top + h <= y for left, top, w, h in taken)

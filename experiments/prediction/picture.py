"""Detections of several trainings on one image, beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from drawing.boxes import DOTTED, Box, draw_boxes, draw_image
from drawing.colours import of_class
from drawing.fonts import write_in_installed_fonts
from drawing.legend import class_line, plain_texts
from experiments.prediction.detect import Detection, xywh
from suite.files import atomic

INCHES, DPI = 5.0, 150  # of an image's longer side
MARGIN, TITLE = 0.08, 0.3


def draw(pixels: NDArray[Any], panels: Sequence[tuple[str, Sequence[Detection]]], score: float) -> Figure:
    """A panel for each training; a dotted box is where a box was before its refinement.

    Args:
        pixels: uint8 [H, W, 3].
        panels: a title and the detections, highest score first.
        score: detections below are left out.
    """
    height, width = pixels.shape[:2]
    scale = INCHES / max(height, width)
    w, h = width * scale, height * scale
    shown = [(title, [one for one in found if one.score >= score]) for title, found in panels]
    names = {one.label: one.name for _, found in shown for one in found}
    is_refined = any(one.before is not None for _, found in shown for one in found)
    lines = [(class_line(of_class(label)), names[label]) for label in sorted(names)]
    if is_refined:
        lines.append((Line2D([], [], color="#444444", linewidth=1.2, linestyle=DOTTED), "before refinement"))
    total = MARGIN + len(panels) * (w + MARGIN)
    columns = max(1, min(len(lines), int(total / 1.4)))
    below = MARGIN + 0.25 * -(-len(lines) // columns)
    figure = Figure(figsize=(total, TITLE + h + below), facecolor="white")
    for index, (title, found) in enumerate(shown):
        left = MARGIN + index * (w + MARGIN)
        axes = figure.add_axes((left / total, below / (TITLE + h + below), w / total, h / (TITLE + h + below)))
        axes.set_title(title, fontsize=9, fontweight="bold", loc="left", parse_math=False)
        draw_image(axes, pixels)
        starts = [Box(xywh(one.before), of_class(one.label), line=DOTTED) for one in found if one.before is not None]
        boxes = [Box(xywh(one.box), of_class(one.label), _label(one)) for one in found]
        draw_boxes(axes, starts, (width, height), INCHES)
        draw_boxes(axes, boxes, (width, height), INCHES)  # on top: a refinement may move a box by less than its line
    if lines:
        plain_texts(
            figure.legend(*zip(*lines, strict=True), loc="lower center", ncols=columns, frameon=False, fontsize=8)
        )
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG."""
    with atomic(path) as part:
        options: dict[str, Any] = {"dpi": DPI, "format": "png", "metadata": {"Software": None}}
        write_in_installed_fonts(figure, partial(figure.savefig, part, **options))


def _label(one: Detection) -> str:
    return f"{one.score:.2f}" if one.iou is None else f"{one.score:.2f} · IoU {one.iou:.2f}"

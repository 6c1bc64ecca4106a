"""Draws a sheet of generated images with their boxes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from experiments.data.shapes.scene import Annotation, Array, render_scene
from experiments.data.shapes.split import scene_rng, scene_settings
from suite.blocks import GeneratedData


def draw_boxes(image: Array, annotations: Sequence[Annotation], zoom: int = 3) -> Array:
    """The enlarged image, uint8 RGB, with each visible box and class name."""
    canvas = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    for a in annotations:
        x, y, w, h = (round(v * zoom) for v in a.bbox)
        cv2.rectangle(canvas, (x, y), (x + w - 1, y + h - 1), (255, 255, 255), 1)
        (width, height), _ = cv2.getTextSize(a.category, cv2.FONT_HERSHEY_SIMPLEX, 0.35, 1)
        top = max(y - height - 4, 0)
        cv2.rectangle(canvas, (x, top), (x + width + 3, top + height + 4), (255, 255, 255), -1)
        cv2.putText(
            canvas, a.category, (x + 2, top + height + 1), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (30, 30, 30), 1, cv2.LINE_AA
        )
    return canvas


def contact_sheet(dataset: GeneratedData, split: str, rows: int = 4, columns: int = 6, zoom: int = 3) -> Array:
    """The first images of a split with their boxes, uint8 RGB; drawn anew, so no data folder is needed."""
    scene = scene_settings(dataset, split)
    cell, gap = dataset.image_size * zoom, 6
    sheet = np.full((rows * (cell + gap) - gap, columns * (cell + gap) - gap, 3), 255, np.uint8)
    for index in range(min(rows * columns, dataset.splits[split].images)):
        y, x = (n * (cell + gap) for n in divmod(index, columns))
        drawn = render_scene(scene_rng(dataset.seed, split, index), **scene)
        sheet[y : y + cell, x : x + cell] = draw_boxes(*drawn, zoom=zoom)
    return sheet

"""Sample detections: images of the report split with ground truth and two models' detections.

The images are chosen by rule, never by eye: some evenly spaced through the split, and some evenly spaced among the
images where the IoU-Net makes a mistake, so that typical failures are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke, withStroke
from numpy.typing import NDArray
from PIL import Image

from reports.errors import ReportError
from reports.figures.style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, YELLOW
from reports.results.collect import Results
from reports.results.files import need, read_json
from reports.results.matches import Matches
from reports.results.sides import BASELINE, FIRST_VERSION, Side
from suite.errors import NotInSuite

PER_BAND = 4
SCORE_SHOWN = 0.3  # detections below are not drawn
SIDE_INCHES, LABEL_POINTS = 2.15, 6.0
STRICT = 0.75  # a box placed worse than this is drawn dashed, and counts as a mistake when images are chosen
LEGEND_COLUMNS = 7
CLASS_COLOURS = (ORANGE, SKY, GREEN, YELLOW, PURPLE, VERMILION, BLUE, "#FFFFFF")


@dataclass(frozen=True)
class Boxes:
    """Boxes on one image.

    Attributes:
        boxes: Float[N, 4], (x, y, w, h) in pixels.
        labels: what is written on each; empty on ground truth.
        true_ious: Float[N], best IoU with an object of the box's class.
    """

    boxes: NDArray[np.float64]
    categories: tuple[int, ...]
    labels: tuple[str, ...]
    true_ious: NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """One image of the sheet with its three sets of boxes; `pixels` UInt8[H, W, 3]."""

    image_id: int
    pixels: NDArray[np.uint8]
    truth: Boxes
    baseline: Boxes
    iounet: Boxes


@dataclass(frozen=True)
class Sheet:
    """What is drawn: `typical` evenly spaced images, `failures` among those with a mistake."""

    typical: tuple[Sample, ...]
    failures: tuple[Sample, ...]
    category_names: Mapping[int, str]
    seed: int


def evenly(items: Sequence[int], count: int) -> list[int]:
    """`count` items evenly spaced through a sequence, without its ends where there is room."""
    if len(items) <= count:
        return list(items)
    return [items[int((index + 0.5) * len(items) / count)] for index in range(count)]


def images_with_mistakes(matches: Matches, threshold: float = STRICT, score: float = SCORE_SHOWN) -> list[int]:
    """Ids of images with a missed or badly placed object, or a spurious box, among the detections shown.

    Args:
        matches: of the model whose mistakes are looked for.
        threshold: IoU from which a box counts as well placed; must be one of the matches' thresholds.
        score: detections below are not looked at.
    """
    t = int(np.argmin(np.abs(np.asarray(matches.iou_thresholds) - threshold)))
    shown = (matches.score >= score) & ~matches.ignored[:, t]
    hits = np.bincount(matches.image[shown & matches.matched[:, t]], minlength=len(matches.image_ids))
    spurious = np.bincount(matches.image[shown & ~matches.matched[:, t]], minlength=len(matches.image_ids))
    wrong = (hits < matches.ground_truth.sum(axis=1)) | (spurious > 0)
    return [matches.image_ids[index] for index in np.flatnonzero(wrong)]


def box_iou(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of boxes as (x, y, w, h): Float[N, 4] × Float[M, 4] → Float[N, M]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    overlap = np.clip(high - low, 0, None).prod(axis=2)
    union = boxes[:, 2:].prod(axis=1)[:, None] + others[:, 2:].prod(axis=1)[None] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def load_sheet(results: Results) -> Sheet:
    """Choose the images and read their boxes, for the suite's first seed.

    Raises:
        NotInSuite: the images are not below the results folder (data that this project did not generate).
        MissingResult: a detections or matches file is missing.
        ReportError: an image or a setting is missing in a file that should have it.
    """
    suite, seed = results.suite, results.suite.seeds[0]
    data = results.layout.data
    folder, index_path = data.images(suite.report_split), data.annotations(suite.report_split)
    if not index_path.exists():
        raise NotInSuite(f"the images of split '{suite.report_split}' are not among the results")
    index = read_json(index_path)
    images = {entry["id"]: entry for entry in need(index, "images", index_path)}
    names = {entry["id"]: entry["name"] for entry in need(index, "categories", index_path)}
    detections = {side: _detections(results, side, seed) for side in (BASELINE, FIRST_VERSION)}
    typical = evenly(sorted(images), PER_BAND)
    wrong = images_with_mistakes(results.matches(FIRST_VERSION.variant, seed, FIRST_VERSION.setting(results)))
    failures = evenly([image for image in wrong if image not in typical], PER_BAND)

    def sample(image_id: int) -> Sample:
        if image_id not in images:
            raise ReportError(f"{index_path}: no image {image_id}, which the evaluations name")
        annotations = [
            entry for entry in index["annotations"] if entry["image_id"] == image_id and not entry.get("iscrowd")
        ]
        boxes = np.asarray([entry["bbox"] for entry in annotations], dtype=float).reshape(-1, 4)
        categories = tuple(entry["category_id"] for entry in annotations)
        truth = Boxes(boxes, categories, ("",) * len(boxes), np.ones(len(boxes)))
        return Sample(
            image_id,
            _read_image(folder / images[image_id]["file_name"]),
            truth,
            *(_boxes_on(detections[side], image_id, truth) for side in (BASELINE, FIRST_VERSION)),
        )

    return Sheet(tuple(map(sample, typical)), tuple(map(sample, failures)), names, seed)


def _read_image(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise ReportError(f"{path}: no such image") from None
    except OSError as error:
        raise ReportError(f"{path}: damaged image ({error})") from None


def _detections(results: Results, side: Side, seed: int) -> Mapping[str, Any]:
    setting = side.setting(results)
    results.evaluation(side.variant, seed, setting)
    path = results.layout.evaluation(side.variant, seed, results.suite.report_split).detections
    # setting names contain dots, so no dotted key here
    settings = need(read_json(path), "settings", path)
    if setting not in settings:
        raise ReportError(f"{path}: key 'settings' has no setting '{setting}'")
    return settings[setting]


def _boxes_on(columns: Mapping[str, Any], image_id: int, truth: Boxes) -> Boxes:
    """The detections shown on one image, and each one's best IoU with an object of its class."""
    rows = [
        row
        for row, (image, score) in enumerate(zip(columns["image_id"], columns["score"], strict=True))
        if image == image_id and score >= SCORE_SHOWN
    ]
    boxes = np.asarray([columns["bbox"][row] for row in rows], dtype=float).reshape(-1, 4)
    categories = tuple(columns["category_id"][row] for row in rows)
    same = np.asarray(categories).reshape(-1, 1) == np.asarray(truth.categories).reshape(1, -1)
    overlaps = np.where(same, box_iou(boxes, truth.boxes), 0.0)
    return Boxes(
        boxes,
        categories,
        tuple(_label(columns["score"][row], columns["iou"][row]) for row in rows),
        overlaps.max(axis=1, initial=0.0),
    )


def draw_sheet(sheet: Sheet) -> Figure:
    """Two bands of images, each with a row for ground truth, Faster R-CNN and IoU-Net."""
    bands = [band for band in (sheet.typical, sheet.failures) if band]
    titles = ["Evenly spaced through the split", "Evenly spaced among images with a mistake of IoU-Net"]
    columns = max(len(band) for band in bands)
    colour = class_colours(sheet)
    side, gap, left, top = SIDE_INCHES, 0.06, 0.3, 0.32
    width = left + columns * (side + gap)
    entries = min(LEGEND_COLUMNS, len(colour) + 1)
    bottom = 0.25 + 0.25 * -(-(len(colour) + 1) // entries)
    height = len(bands) * (top + 3 * (side + gap)) + bottom
    figure = Figure(figsize=(width, height))
    for b, (band, title) in enumerate(zip(bands, titles, strict=False)):
        ceiling = height - b * (top + 3 * (side + gap)) - top
        figure.text(left / width, (ceiling + 0.09) / height, title, fontsize=10, fontweight="bold")
        for row, name in enumerate(("Ground truth", "Faster R-CNN", "Faster R-CNN + IoU-Net")):
            y = ceiling - row * (side + gap) - side
            figure.text(0.14 / width, (y + side / 2) / height, name, rotation=90, va="center", ha="center", fontsize=9)
            for column, sample in enumerate(band):
                box = ((left + column * (side + gap)) / width, y / height, side / width, side / height)
                axes = figure.add_axes(box)
                boxes = (sample.truth, sample.baseline, sample.iounet)[row]
                _draw_image(axes, sample, boxes, colour, f"image {sample.image_id}" if row == 0 else "")
    handles = [
        Line2D([], [], color=colour[c], linewidth=2.2, label=sheet.category_names[c],
               path_effects=[Stroke(linewidth=3.6, foreground="black", alpha=0.75), Normal()])
        for c in colour
    ]  # fmt: skip
    handles.append(
        Line2D([], [], color="#444444", linewidth=1.6, linestyle="--", label=f"IoU with its object < {STRICT:g}")
    )
    figure.legend(handles=handles, loc="lower center", ncols=entries, frameon=False, fontsize=9, handlelength=1.6)
    return figure


def class_colours(sheet: Sheet) -> dict[int, str]:
    """A colour per class: of all classes where the colours suffice, else of those drawn, the frequent ones first."""
    categories = sorted(sheet.category_names)
    if len(categories) > len(CLASS_COLOURS):
        drawn = [
            c for s in (*sheet.typical, *sheet.failures) for b in (s.truth, s.baseline, s.iounet) for c in b.categories
        ]
        categories = [c for c, _ in sorted(Counter(drawn).items(), key=lambda item: (-item[1], item[0]))]
    return {c: CLASS_COLOURS[i % len(CLASS_COLOURS)] for i, c in enumerate(categories)}


def _draw_image(axes: Axes, sample: Sample, boxes: Boxes, colour: Mapping[int, str], corner: str) -> None:
    height, width = sample.pixels.shape[:2]
    axes.imshow(sample.pixels, interpolation="lanczos", extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if corner:
        outline = [withStroke(linewidth=2, foreground="black")]
        axes.text(width * 0.985, height * 0.985, corner, color="white", fontsize=6.5, ha="right", va="bottom",
                  path_effects=outline)  # fmt: skip
    taken: list[tuple[float, float, float, float]] = []
    for i, (x, y, w, h) in enumerate(boxes.boxes):
        placed = boxes.true_ious[i] >= STRICT
        patch = Rectangle((x, y), w, h, fill=False, edgecolor=colour[boxes.categories[i]], linewidth=1.7)
        patch.set_linestyle("-" if placed else (0, (2.6, 1.6)))
        patch.set_path_effects([Stroke(linewidth=3.2, foreground="black", alpha=0.75), Normal()])
        axes.add_patch(patch)
    for i, box in enumerate(boxes.boxes):
        if boxes.labels[i]:
            left, top = _place_label(box, boxes.labels[i], (width, height), taken)
            axes.text(
                left, top, boxes.labels[i], color="white", fontsize=LABEL_POINTS, va="top", ha="left",
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "black", "edgecolor": "none", "alpha": 0.72},
            )  # fmt: skip


def _place_label(
    box: NDArray[np.float64], label: str, size: tuple[int, int], taken: list[tuple[float, float, float, float]]
) -> tuple[float, float]:
    """Top left corner for a label: at a corner of its box, inside the image, clear of other labels if one is."""
    x, y, w, h = box
    scale = size[0] / SIDE_INCHES / 72  # image pixels per point
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
        (float(np.clip(left, 1, size[0] - width - 1)), float(np.clip(top, 1, size[1] - height - 1)))
        for left, top in corners
    ]

    def clear(spot: tuple[float, float]) -> bool:
        return all(
            spot[0] + width <= left or left + w2 <= spot[0] or spot[1] + height <= top or top + h2 <= spot[1]
            for left, top, w2, h2 in taken
        )

    spot = next(filter(clear, spots), spots[0])
    taken.append((*spot, width, height))
    return spot


def _label(score: float, iou: float | None) -> str:
    return f"{score:.2f}" if iou is None else f"{score:.2f} · IoU {iou:.2f}"

"""Single objects, where IoU-guided NMS keeps a better box than regular NMS, and where a worse one.

Both are given the same boxes of one checkpoint. Shown are the largest changes, by rule; the caption counts all objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from drawing.boxes import DASHED, DOTTED, SOLID, Box, draw_boxes, draw_image, outline
from drawing.colours import BLUE, ORANGE
from reports.figures.figure import Illustration, require_some
from reports.figures.samples.boxes import SCORE_SHOWN, box_iou, shown_detections
from reports.results.annotations import image_files, read_annotations
from reports.results.collect import Results
from reports.results.sides import IOUNET, Side
from suite.images import read_image

PER_BAND = 6
SIDE_INCHES = 1.45
ALIKE = 0.05  # a smaller change of IoU is none
ROOM = 1.5  # side of what is shown of an image, in that of the boxes
LEAST = 40  # pixels shown
TITLES = {1: "The largest gains of IoU-guided NMS", -1: "Its largest losses"}
OBJECT, REGULAR, GUIDED = "object", "regular", "guided"
STYLES: dict[str, tuple[str, Any]] = {OBJECT: ("#FFFFFF", DOTTED), REGULAR: (ORANGE, DASHED), GUIDED: (BLUE, SOLID)}
NAMES = {OBJECT: "ground truth", REGULAR: "box kept by regular NMS", GUIDED: "box kept by IoU-guided NMS"}


def frame(results: Results) -> pd.DataFrame:
    """Every object of the report split, and the box of its class that each NMS left nearest to it.

    Returns:
        `image_id, file, class, object, regular, guided` (boxes as (x, y, w, h) in pixels; None without one),
        `regular_iou, guided_iou` (0 without a box) and `change`, guided minus regular.

    Raises:
        NotInSuite: the suite has no IoU-Net evaluated with both, or the annotations are not among the results.
        MissingResult: a file is missing.
    """
    seed = results.suite.seeds[0]
    sides = _sides()
    kept = dict(zip(sides, shown_detections(results, sides.values(), seed), strict=True))
    coco = read_annotations(results)
    files = image_files(results, coco)
    names = {entry["id"]: entry["name"] for entry in coco["categories"]}
    objects = pd.DataFrame(
        {"image_id": entry["image_id"], "category_id": entry["category_id"], OBJECT: tuple(entry["bbox"])}
        for entry in coco["annotations"]
        if not entry.get("iscrowd")
    )
    parts = []
    for _, own in objects.groupby(["image_id", "category_id"]):
        image_id, category = own["image_id"].iloc[0], own["category_id"].iloc[0]
        part: dict[str, Any] = {"image_id": image_id, "file": files[image_id], "class": names[category]}
        part[OBJECT] = own[OBJECT]
        for name, found in kept.items():
            part[name], part[f"{name}_iou"] = _nearest(own[OBJECT].tolist(), found.get(image_id), category)
        parts.append(pd.DataFrame(part))
    data = pd.concat(parts, ignore_index=True)
    return data.assign(change=data[f"{GUIDED}_iou"] - data[f"{REGULAR}_iou"])


def _sides() -> dict[str, Side]:
    return {REGULAR: Side(IOUNET, "none"), GUIDED: Side(IOUNET, "rank")}


def _nearest(
    objects: Sequence[Sequence[float]], found: pd.DataFrame | None, category: int
) -> tuple[list[tuple[float, ...] | None], NDArray[np.float64]]:
    """For each object the box of its class with the highest IoU, None where none overlaps it, and that IoU."""
    boxes = [] if found is None else found.loc[found["category_id"] == category, "bbox"].tolist()
    if not boxes:
        return [None] * len(objects), np.zeros(len(objects))
    overlaps = box_iou(np.asarray(objects, dtype=float), np.asarray(boxes, dtype=float))
    best = overlaps.max(axis=1)
    nearest = [
        tuple(boxes[index]) if iou > 0 else None for index, iou in zip(overlaps.argmax(axis=1), best, strict=True)
    ]
    return nearest, best


def chosen(data: pd.DataFrame, sign: int) -> pd.DataFrame:
    """The largest changes of a sign, one of an image, the largest first."""
    own = data[sign * data["change"] >= ALIKE]
    own = own.assign(size=own["change"].abs()).sort_values(["size", "image_id"], ascending=[False, True], kind="stable")
    return own.drop_duplicates("image_id").head(PER_BAND).drop(columns="size")


def draw(bands: Sequence[tuple[str, Sequence[tuple[NDArray[np.uint8], pd.Series]]]]) -> Figure:
    """Bands of a title and of crops, each an image UInt8[H, W, 3] with the row of `frame` that is shown of it."""
    gap, left, top, bottom, line = 0.08, 0.08, 0.3, 0.32, 0.36
    columns = max(len(crops) for _, crops in bands)
    width = 2 * left + columns * (SIDE_INCHES + gap) - gap
    band_height = top + SIDE_INCHES + line
    height = len(bands) * band_height + bottom
    figure = Figure(figsize=(width, height))
    for index, (title, crops) in enumerate(bands):
        ceiling = height - index * band_height - top
        figure.text(left / width, (ceiling + 0.08) / height, title, fontsize=10, fontweight="bold")
        for column, (pixels, row) in enumerate(crops):
            x, y = left + column * (SIDE_INCHES + gap), ceiling - SIDE_INCHES
            axes = figure.add_axes((x / width, y / height, SIDE_INCHES / width, SIDE_INCHES / height))
            shown, boxes = crop(pixels, {name: row[name] for name in STYLES if row[name] is not None})
            draw_image(axes, shown)
            drawn = [Box(place, STYLES[name][0], line=STYLES[name][1]) for name, place in boxes.items()]
            draw_boxes(axes, drawn, (shown.shape[1], shown.shape[0]), SIDE_INCHES)
            text = f"{row['class']}, image {row['image_id']}\nIoU {row['regular_iou']:.2f} → {row['guided_iou']:.2f}"
            figure.text(x / width, (y - 0.04) / height, text, fontsize=7.5, va="top", parse_math=False)
    handles = [
        Line2D([], [], color=colour, linestyle=line, linewidth=1.8, path_effects=outline(1.8), label=NAMES[name])
        for name, (colour, line) in STYLES.items()
    ]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=8.5)
    return figure


def crop(
    pixels: NDArray[np.uint8], boxes: dict[str, tuple[float, ...]]
) -> tuple[NDArray[np.uint8], dict[str, tuple[float, float, float, float]]]:
    """The square around some boxes, and the boxes in it; as much of it as the image has."""
    places = np.asarray(list(boxes.values()))
    low, high = places[:, :2].min(axis=0), (places[:, :2] + places[:, 2:]).max(axis=0)
    limits = np.array(pixels.shape[1::-1])
    side = np.minimum(max(ROOM * (high - low).max(), LEAST), limits)
    start = np.clip((low + high - side) / 2, 0, limits - side).astype(int)
    end = np.ceil(start + side).astype(int)
    moved = {name: (x - start[0], y - start[1], w, h) for name, (x, y, w, h) in boxes.items()}
    return pixels[start[1] : end[1], start[0] : end[0]], moved


def make(results: Results) -> Illustration:
    """The figure."""
    data = frame(results)
    shown = {sign: chosen(data, sign) for sign in TITLES}
    require_some([len(rows) for rows in shown.values()], "both kinds of NMS keep the same boxes")

    def drawn() -> Figure:
        return draw(
            [
                (TITLES[sign], [(read_image(row["file"]), row) for _, row in rows.iterrows()])
                for sign, rows in shown.items()
                if len(rows)
            ]
        )

    counts = _counts(data)
    seed, variant = results.suite.seeds[0], _sides()[GUIDED].own(results)
    caption = (
        f"`{variant}`, seed {seed}, without refinement. For every object the kept box of its class that is nearest to "
        f"it, among those with a score of at least {SCORE_SHOWN:g}. {counts} Shown are the largest changes, one of an "
        "image at most: extremes, not examples."
    )
    alt = f"Crops of images around single objects, with the boxes that two kinds of NMS keep. {counts}"
    table = pd.concat(shown.values()).drop(columns=["file", *STYLES])
    title = "Where IoU-guided NMS helps, and where it hurts"
    return Illustration("nms", title, caption, alt, drawn, table, raster=True)


def _counts(data: pd.DataFrame) -> str:
    """How many objects gained and lost, in a sentence or two."""
    better, worse = (data["change"] >= ALIKE).sum(), (data["change"] <= -ALIKE).sum()
    found = [data[f"{name}_iou"] >= 0.5 for name in (REGULAR, GUIDED)]
    return (
        f"Of {len(data)} objects, {better} have a better box after IoU-guided NMS (by {ALIKE:g} in IoU or more), "
        f"{worse} a worse one. At IoU 0.5, regular NMS finds {found[0].sum()} of them, IoU-guided NMS "
        f"{found[1].sum()}: it gains {(found[1] & ~found[0]).sum()} and loses {(found[0] & ~found[1]).sum()}."
    )

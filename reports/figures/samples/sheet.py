"""Sample detections: images of the report split with ground truth and two models' detections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from drawing.boxes import DASHED, SOLID, Box, draw_boxes, draw_image
from drawing.colours import OF_CLASSES, of_class
from drawing.legend import class_line, plain_texts
from reports.figures.figure import Illustration, require_some
from reports.figures.samples.boxes import SCORE_SHOWN, Boxes
from reports.figures.samples.choose import STRICT, Sample, Sheet, load_sheet
from reports.results.collect import Results
from reports.results.sides import BASELINE, FIRST_VERSION, PAPER_STEP, headline

SIDE_INCHES = 2.15
LEGEND_COLUMNS = 7
TITLES = ("Evenly spaced through the split", "Evenly spaced among images with a mistake of IoU-Net")
TRUTH = "Ground truth"
BASELINE_NAME, IOUNET_NAME = "Faster R-CNN", "Faster R-CNN + IoU-Net"


def draw(sheet: Sheet) -> Figure:
    """Up to two bands of images, each with a row for the ground truth and one for every model."""
    rows = (TRUTH, *sheet.models)
    bands = [band for band in (sheet.typical, sheet.failures) if band]
    columns = max(len(band) for band in bands)
    colour = class_colours(sheet)
    side, gap, left, top = SIDE_INCHES, 0.06, 0.3, 0.32
    tall = side * min(1.0, max(s.pixels.shape[0] / s.pixels.shape[1] for band in bands for s in band))
    width = left + columns * (side + gap)
    entries = min(LEGEND_COLUMNS, len(colour) + 1)
    bottom = 0.25 + 0.25 * -(-(len(colour) + 1) // entries)
    band_height = top + len(rows) * (tall + gap)
    height = len(bands) * band_height + bottom
    figure = Figure(figsize=(width, height))
    for b, (band, title) in enumerate(zip(bands, TITLES, strict=False)):
        ceiling = height - b * band_height - top
        figure.text(left / width, (ceiling + 0.09) / height, title, fontsize=10, fontweight="bold")
        for row, name in enumerate(rows):
            y = ceiling - row * (tall + gap) - tall
            figure.text(0.14 / width, (y + tall / 2) / height, name, rotation=90, va="center", ha="center", fontsize=9,
                        parse_math=False)  # fmt: skip
            for column, sample in enumerate(band):
                box = ((left + column * (side + gap)) / width, y / height, side / width, tall / height)
                axes = figure.add_axes(box)
                boxes = (sample.truth, *sample.found)[row]
                _draw_sample(axes, sample, boxes, colour, f"image {sample.image_id}" if row == 0 else "")
    _add_legend(figure, sheet, colour, entries)
    return figure


def _add_legend(figure: Figure, sheet: Sheet, colour: Mapping[int, str], columns: int) -> None:
    handles = [class_line(colour[category]) for category in colour]
    handles.append(Line2D([], [], color="#444444", linewidth=1.6, linestyle="--"))
    labels = [*(sheet.category_names[category] for category in colour), f"IoU with its object < {STRICT:g}"]
    legend = figure.legend(
        handles, labels, loc="lower center", ncols=columns, frameon=False, fontsize=9, handlelength=1.6
    )
    plain_texts(legend)


def class_colours(sheet: Sheet) -> dict[int, str]:
    """A colour per class: of all classes where the colours suffice, else of those drawn, the frequent ones first."""
    categories = sorted(sheet.category_names)
    if len(categories) > len(OF_CLASSES):
        drawn = [c for s in (*sheet.typical, *sheet.failures) for b in (s.truth, *s.found) for c in b.categories]
        categories = [c for c, _ in sorted(Counter(drawn).items(), key=lambda item: (-item[1], item[0]))]
    return {c: of_class(i) for i, c in enumerate(categories)}


def _draw_sample(axes: Axes, sample: Sample, boxes: Boxes, colour: Mapping[int, str], corner: str) -> None:
    draw_image(axes, sample.pixels)
    height, width = sample.pixels.shape[:2]
    if corner:
        effects = [withStroke(linewidth=2, foreground="black")]
        axes.text(width * 0.985, height * 0.985, corner, color="white", fontsize=6.5, ha="right", va="bottom",
                  path_effects=effects)  # fmt: skip
    drawn = [
        Box(tuple(place), colour[category], label, SOLID if iou >= STRICT else DASHED)
        for place, category, label, iou in zip(
            boxes.boxes.tolist(), boxes.categories, boxes.labels, boxes.true_ious, strict=True
        )
    ]
    draw_boxes(axes, drawn, (width, height), SIDE_INCHES)


def make(results: Results) -> Illustration:
    """The figure of Faster R-CNN and IoU-Net."""
    sheet = load_sheet(results, {BASELINE_NAME: BASELINE, IOUNET_NAME: FIRST_VERSION}, failures=True)
    caption = f"Seed {sheet.seed}, IoU-Net at {results.suite.scale.step(PAPER_STEP)}. {_reading(sheet)}"
    if sheet.failures:
        caption += (
            f", and evenly spaced among the images where IoU-Net misses an object, places one below IoU {STRICT:g} or "
            f"adds one ({_ids(sheet.failures)})"
        )
    return _illustration("samples", "Sample detections", sheet, caption)


def make_of_variants(results: Results) -> Illustration | None:
    """The figure of all other variants; None where there is no other."""
    sides = (BASELINE, FIRST_VERSION)
    shown = {side.own(results) for side in sides} if all(side.is_in(results) for side in sides) else set()
    others = {variant: headline(results, variant) for variant in results.suite.variants if variant not in shown}
    if not others:
        return None
    sheet = load_sheet(results, others, failures=False)
    caption = f"Seed {sheet.seed}, IoU-Nets at {results.suite.scale.step(PAPER_STEP)} where they have it. "
    return _illustration("samples_of_variants", "The other variants", sheet, caption + _reading(sheet))


def _reading(sheet: Sheet) -> str:
    return (
        f"Detections with a score of at least {SCORE_SHOWN:g}, labelled with it and, for an IoU-Net, predicted IoU. "
        f"Colour is the class; dashed boxes overlap no object of their class with IoU {STRICT:g} or more. The images "
        f"are chosen by rule, not by eye: evenly spaced ids ({_ids(sheet.typical)})"
    )


def _ids(samples: Sequence[Sample]) -> str:
    return ", ".join(str(sample.image_id) for sample in samples)


def _illustration(key: str, title: str, sheet: Sheet, caption: str) -> Illustration:
    shown = [*sheet.typical, *sheet.failures]
    counts = [sum(len(sample.found[index].labels) for sample in shown) for index in range(len(sheet.models))]
    require_some(counts, f"on the images shown no model has a detection with a score of {SCORE_SHOWN:g} or more")
    drawn = ", ".join(f"{name} {count}" for name, count in zip(sheet.models, counts, strict=True))
    alt = (
        f"{len(shown)} images, each with ground truth and the detections of {', '.join(sheet.models)}. "
        f"Objects in them: {sum(len(sample.truth.labels) for sample in shown)}; detections drawn: {drawn}."
    )
    return Illustration(key, title, caption + ".", alt, lambda: draw(sheet), raster=True)

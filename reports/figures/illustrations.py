"""The report's figures: title, caption, alternative text generated from the data, and how to draw each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from reports.figures import charts as figures
from reports.figures import curves, sample_sheet
from reports.results.collect import Results
from reports.results.published import Published
from reports.results.sides import IOUNET, PAPER_STEP
from reports.tables.table import Table, format_number


@dataclass(frozen=True)
class Illustration:
    """One figure of the report.

    Attributes:
        key: file name of its PNG, SVG and CSV.
        alt: what a reader who cannot see it should know.
        frame: the data drawn, written beside it; None for the sample sheet.
        draw: makes the figure.
        raster: it is made of images, so no SVG is written.
    """

    key: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]
    frame: pd.DataFrame | None = None
    raster: bool = False


def seeds_note(seeds: Sequence[int]) -> str:
    """What thin and thick lines are."""
    if len(seeds) == 1:
        return f"One seed ({seeds[0]})."
    return f"Thin lines are the {len(seeds)} seeds, thick lines their mean."


def loss_figure(results: Results) -> Illustration:
    """Training losses."""
    frame = curves.loss_curves(results)
    variants = list(results.suite.variants)
    detection = frame[frame["series"] == "detection"]
    ends = detection[detection["step"] == detection.groupby(["variant", "seed"])["step"].transform("max")]
    means = ends.groupby("variant", sort=False)["value"].mean()
    alt = "Line charts of the training losses by iteration. Detection loss at the end: "
    alt += ", ".join(f"{variant} {value:.2f}" for variant, value in means.items()) + "."
    caption = (
        f"Logarithmic axes; averaged over stretches of the training. {seeds_note(results.suite.seeds)} The loss of "
        "the IoU branch includes its weight: SmoothL1 and BCE are not on the same scale."
    )
    return Illustration("losses", "Training losses", caption, alt, lambda: figures.draw_losses(frame, variants), frame)


def validation_figure(results: Results) -> Illustration:
    """Validation AP by epoch."""
    frame = curves.validation_curves(results)
    variants = list(results.suite.variants)
    metric = frame["metric"].iloc[0]
    own = frame[frame["metric"] == metric]
    last = own[own["epoch"] == own["epoch"].max()].groupby("variant", sort=False)["value"].mean()
    names = " and ".join(dict.fromkeys(frame["metric"]))
    alt = f"Line charts of validation {names} by epoch. {metric} at the last epoch: "
    alt += ", ".join(f"{variant} {value:.1f}" for variant, value in last.items()) + "."
    used = results.suite.validation
    where = f"{used.images} images of `{used.split}`"
    caption = f"As evaluated during training on {where}, not on the report split. {seeds_note(results.suite.seeds)}"
    if any(used.split in run.get("trained_on", {}).get("seen", ()) for run in results.runs["data"]):
        caption += " These images are among those trained on, as published: the curves show progress, not quality."
    return Illustration(
        "validation", "AP by epoch", caption, alt, lambda: figures.draw_validation(frame, variants), frame
    )


def threshold_figure(results: Results) -> Illustration:
    """AP by IoU threshold for the steps of the ablation."""
    frame = curves.threshold_curves(results)
    last = frame[frame["step"] == frame["step"].iloc[-1]]
    alt = (
        "Line charts by IoU threshold: AP of Faster R-CNN and of the three steps of IoU-Net, and their difference to "
        "Faster R-CNN. With all steps the difference is "
    )
    ends = last.iloc[[0, -1]]
    alt += " and ".join(
        f"{format_number(row['difference'], signed=True)} points at {row['threshold']:g}" for _, row in ends.iterrows()
    )
    caption = (
        f"Steps of the ablation on `{IOUNET}`; refinement at {results.suite.scale.step(PAPER_STEP)}. "
        + _whiskers(results)
    )
    return Illustration(
        "thresholds", "AP by IoU threshold", caption, alt + ".", lambda: figures.draw_thresholds(frame), frame
    )


def _whiskers(results: Results) -> str:
    if len(results.suite.seeds) == 1:
        return "One seed: no intervals."
    return f"Whiskers are 95 % intervals over {len(results.suite.seeds)} seeds."


def improvement_figure(results: Results, published: Mapping[str, Published], main: Table) -> Illustration:
    """Improvement by metric: paper, published reproduction, this run."""
    frame = curves.improvement_by_threshold(main, published)
    parts = [
        f"{source}: "
        + ", ".join(f"{row['metric']} {format_number(row['value'], signed=True)}" for _, row in rows.iterrows())
        for source, rows in frame.groupby("source", sort=False)
    ]
    alt = "Dot chart of the improvement of IoU-Net over Faster R-CNN in points. " + "; ".join(parts) + "."
    caption = f"The improvement rows of the main result. {_whiskers(results)} The publications give none."
    title = "Improvement over Faster R-CNN, by IoU threshold"
    return Illustration("improvement", title, caption, alt, lambda: figures.draw_improvement(frame), frame)


def step_size_figure(results: Results, table: Table) -> Illustration:
    """The λ chart."""
    frame = curves.step_size_curves(table)
    box_side = curves.median_box_side(results)
    parts = []
    for source, rows in frame[frame["best"]].groupby("source", sort=False):
        best = ", ".join(
            f"{v} at {'/'.join(f'{s:g}' for s in own['step_size'])}" for v, own in rows.groupby("variant", sort=False)
        )
        parts.append(f"{source}: {best}")
    alt = "Line charts of AP by step size λ. Best λ: " + "; ".join(parts) + "."
    caption = (
        "IoU-guided NMS (rank) with refinement; λ as it was used, logarithmic axes; a ring marks each curve's optimum. "
        f"The published curves are read off a chart. {_whiskers(results)}"
    )
    return Illustration(
        "step_size", "AP by step size λ", caption, alt, lambda: figures.draw_step_sizes(frame, box_side), frame
    )


def sample_figure(results: Results) -> Illustration:
    """The sample sheet."""
    sheet = sample_sheet.load_sheet(results)
    ids = [", ".join(str(sample.image_id) for sample in band) for band in (sheet.typical, sheet.failures)]
    caption = (
        f"Seed {sheet.seed}, IoU-Net at {results.suite.scale.step(PAPER_STEP)}. Detections with a score of at least "
        f"{sample_sheet.SCORE_SHOWN:g}, labelled with score and, for IoU-Net, predicted IoU. Colour is the class; "
        f"dashed boxes overlap no object of their class with IoU {sample_sheet.STRICT:g} or more. "
        f"The images are chosen by rule, not by eye: evenly spaced ids ({ids[0]})"
    )
    if sheet.failures:
        caption += (
            f", and evenly spaced among the images where IoU-Net misses an object, places one below IoU "
            f"{sample_sheet.STRICT:g} or adds one ({ids[1]})"
        )
    shown = [*sheet.typical, *sheet.failures]
    alt = (
        f"{len(shown)} images, each with ground truth, Faster R-CNN detections and IoU-Net detections. "
        f"Objects in them: {sum(len(s.truth.labels) for s in shown)}; detections drawn: Faster R-CNN "
        f"{sum(len(s.baseline.labels) for s in shown)}, IoU-Net {sum(len(s.iounet.labels) for s in shown)}."
    )
    return Illustration(
        "samples", "Sample detections", caption + ".", alt, lambda: sample_sheet.draw_sheet(sheet), raster=True
    )

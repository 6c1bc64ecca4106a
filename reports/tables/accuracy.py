"""The report's tables, each a function from results and published numbers to a `Table`.

A table raises `NotInSuite` when the suite lacks a variant or setting it needs (it is left out of the report, with a
line saying so) and `MissingResult` when a file is missing (an error).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.errors import NotInSuite
from reports.results.collect import Results
from reports.results.published import Published
from reports.suite import setting_name
from reports.tables.cells import (
    Side,
    difference_cell,
    improvement_row,
    mean_cell,
    measured_row,
    published_cell,
    published_rows,
)
from reports.tables.table import Cell, Row, Source, Table

Sources = Mapping[str, Published]

THIS_RUN = "This run"
BASELINE = Side("faster_rcnn")
IOUNET = "samp1000_lw5.0"
BCE = "samp1000_lw5.0_bce"
PAPER_STEP, IMPROVED_STEP = 0.5, 2.0  # published λ: of the paper, and of the improved version
FIRST_VERSION = Side(IOUNET, "rank", PAPER_STEP)
ABLATION = (
    ("faster_rcnn", "Faster R-CNN", BASELINE),
    ("branch_off", "IoUNet_RCNN (branch off)", Side(IOUNET)),
    ("nms", "+ IoU-guided NMS", Side(IOUNET, "rank")),
    ("refine", "+ Refine", FIRST_VERSION),
)
IMPROVED = (
    ("faster_rcnn", "Faster R-CNN", BASELINE),
    ("first_version", "IoU-Net (first version)", FIRST_VERSION),
    ("bce", "+ BCE loss", Side(BCE, "rank", PAPER_STEP)),
    ("step_size", "+ λ = 2", Side(BCE, "rank", IMPROVED_STEP)),
    ("guide", "+ NMS by IoU × class score", Side(BCE, "weight", IMPROVED_STEP)),
)
STRICTNESS = ("AP", "AP50", "AP60", "AP70", "AP80", "AP90")


def step_label(results: Results, published: float) -> str:
    """The published λ, and the actual one where the suite scales it."""
    actual = published * results.suite.scale["step_size"]
    return f"λ = {published:g}" if actual == published else f"λ = {published:g} (here {actual:g})"


def main_table(results: Results, published: Sources) -> Table:
    """Faster R-CNN, IoU-Net and the improvement: paper, published reproduction, this run."""
    rows: list[Row] = []
    for source in published.values():
        rows += published_rows(source, "main", ["faster_rcnn", "iounet", "improvement"], STRICTNESS)
    rows += [
        measured_row(results, THIS_RUN, "Faster R-CNN", BASELINE, STRICTNESS),
        measured_row(results, THIS_RUN, "Faster R-CNN + IoU-Net", FIRST_VERSION, STRICTNESS),
        improvement_row(results, THIS_RUN, FIRST_VERSION, BASELINE, STRICTNESS),
    ]
    same = all(results.download == source.download for source in published.values())
    caption = (
        f"IoU-Net is `{IOUNET}` with IoU-guided NMS (rank) and refinement at {step_label(results, PAPER_STEP)}. "
        f"Compare the improvement rows{'' if same else '; the APs belong to different data'}."
    )
    return Table("main", "Main result", caption, STRICTNESS, tuple(rows))


def bce_table(results: Results, published: Sources) -> Table:
    """Binary cross-entropy in place of SmoothL1."""
    bce = Side(BCE, "rank", PAPER_STEP)
    rows = published_rows(published["reproduction"], "bce", ["faster_rcnn", "iounet_bce", "improvement"], STRICTNESS)
    rows += [
        measured_row(results, THIS_RUN, "Faster R-CNN", BASELINE, STRICTNESS),
        measured_row(results, THIS_RUN, "Faster R-CNN + IoU-Net (BCE)", bce, STRICTNESS),
        improvement_row(results, THIS_RUN, bce, BASELINE, STRICTNESS),
    ]
    if IOUNET in results.suite.variants:
        label = "BCE against SmoothL1"
        rows.append(improvement_row(results, THIS_RUN, bce, FIRST_VERSION, STRICTNESS, label))
    caption = f"Inference as for the main result, {step_label(results, PAPER_STEP)}. Not in the paper."
    return Table("bce", "Binary cross-entropy in place of SmoothL1", caption, STRICTNESS, tuple(rows))


def loss_weight_table(results: Results, published: Sources) -> Table:
    """Loss weight and RoI generation."""
    columns = ("loss weight", "training RoIs", "AP", "AP50", "AP75")
    source = published["reproduction"]
    rows = []
    for variant, values in source.table("loss_weight")["rows"].items():
        cells = {c: published_cell(source, "loss_weight", variant, c) for c in ("AP", "AP50", "AP75")}
        cells["loss weight"] = published_cell(source, "loss_weight", variant, "loss_weight")
        cells["training RoIs"] = Cell(values["roi_generate"], kind="text", sources=cells["AP"].sources)
        rows.append(Row(source.name, variant, cells))
    for variant in source.table("loss_weight")["rows"]:
        side = Side(variant, "rank", PAPER_STEP)
        cells = {c: mean_cell(results, side, c) for c in ("AP", "AP50", "AP75")}
        run = results.run(variant, results.suite.seeds[0])
        mapped = run["data"]["mapped"]
        weight, rois = _actual(mapped, "loss_weight"), _training_rois(mapped)
        cells["loss weight"] = Cell(weight, kind="text", sources=(Source(run["source"], "mapped.loss_weight"),))
        cells["training RoIs"] = Cell(rois, kind="text", sources=(Source(run["source"], "mapped"),))
        rows.append(Row(THIS_RUN, variant, cells))
    caption = (
        f"IoU-guided NMS (rank) and refinement at {step_label(results, PAPER_STEP)}. Rows keep the published label; "
        "the columns of this run show what was actually used."
    )
    return Table("loss_weight", "Loss weight and RoI generation", caption, columns, tuple(rows), stub="variant")


def _actual(mapped: Mapping[str, Any], key: str) -> str | None:
    value = mapped.get(key)
    if isinstance(value, Mapping):
        value = value.get("actual")
    if value is None:
        return None
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _training_rois(mapped: Mapping[str, Any]) -> str | None:
    """How a run drew the RoIs of its IoU branch: so many per IoU bin and ground truth, or so many per image."""
    per_iou, most, per_image = (_actual(mapped, key) for key in ("per_iou", "max_num", "sample_num"))
    if per_iou is not None:
        return f"per_iou={per_iou}" + (f", at most {most}" if most else "")
    return None if per_image is None else f"per_img={per_image}"


def ablation_table(results: Results, published: Sources) -> Table:
    """Faster R-CNN, IoUNet_RCNN, + IoU-guided NMS, + Refine."""
    measured = ("AP", "AP50", "AP90")
    columns = ("paper AP", "reproduction AP", *measured, "step", "total")
    rows = []
    previous: Side | None = None
    for key, label, side in ABLATION:
        cells = {f"{name} AP": published_cell(source, "ablation", key, "AP") for name, source in published.items()}
        cells |= {metric: mean_cell(results, side, metric) for metric in measured}
        if previous is not None:
            cells["step"] = difference_cell(results, side, previous, "AP")
            cells["total"] = difference_cell(results, side, BASELINE, "AP")
        previous = side
        rows.append(Row("", label, cells))
    caption = (
        "AP, AP50 and AP90 are of this run; *step* is the paired difference in AP to the row above, *total* to Faster "
        f"R-CNN. The last three rows are one checkpoint (`{IOUNET}`) under three inference settings; refinement at "
        f"{step_label(results, PAPER_STEP)}."
    )
    return Table("ablation", "Ablation", caption, columns, tuple(rows))


def step_size_table(results: Results, published: Sources) -> Table:
    """AP by λ, four experiments (the data of the λ chart)."""
    source = published["reproduction"]
    lambdas = source.table("lambda")["columns"]
    variants = list(source.table("lambda")["rows"])
    if "rank" not in results.suite.guides:
        raise NotInSuite(f"NMS guide 'rank' is not in inference.guides of suite '{results.suite.name}'")
    columns = tuple(f"{step:g}" for step in sorted({*results.suite.guides["rank"], *map(float, lambdas)}))
    rows = [
        Row(source.name, variant, {step: published_cell(source, "lambda", variant, step) for step in lambdas})
        for variant in variants
    ]
    for variant in variants:
        results.suite.require(variant)
        cells = {}
        for step in results.suite.guides["rank"]:
            setting = setting_name("rank", step)
            side = Side(variant, "rank", step / results.suite.scale["step_size"])
            assert side.setting(results) == setting
            cells[f"{step:g}"] = mean_cell(results, side, "AP")
        rows.append(Row(THIS_RUN, variant, cells))
    caption = (
        "AP with IoU-guided NMS (rank) and refinement, by the step size λ as it was actually used. λ is a step of "
        "about λ pixels: on smaller boxes the optimum lies at a smaller λ"
    )
    scale = results.suite.scale["step_size"]
    caption += "." if scale == 1 else f"; this suite maps a published λ to {scale:g} λ."
    return Table("step_size", "Step size λ of the refinement", caption, columns, tuple(rows), stub="variant, λ =")


def guide_table(results: Results, published: Sources) -> Table:
    """IoU-guided NMS as published, and multiplied by the class score."""
    source = published["reproduction"]
    columns = ("official", "class score", "difference")
    rows = []
    for variant, values in source.table("guide")["rows"].items():
        cells = {
            "official": published_cell(source, "guide", variant, "official"),
            "class score": published_cell(source, "guide", variant, "class_score"),
        }
        origin = cells["official"].sources + cells["class score"].sources
        gain = round(values["class_score"] - values["official"], 6)
        cells["difference"] = Cell(gain, kind="difference", sources=origin)
        rows.append(Row(source.name, variant, cells))
    for variant in source.table("guide")["rows"]:
        official, weighted = (Side(variant, guide, IMPROVED_STEP) for guide in ("rank", "weight"))
        cells = {
            "official": mean_cell(results, official, "AP"),
            "class score": mean_cell(results, weighted, "AP"),
            "difference": difference_cell(results, weighted, official, "AP"),
        }
        rows.append(Row(THIS_RUN, variant, cells))
    at = step_label(results, IMPROVED_STEP)
    caption = f"AP at {at}: boxes ranked by predicted IoU (official), or by IoU × class score."
    title = "IoU-guided NMS: official, and multiplied by the class score"
    return Table("guide", title, caption, columns, tuple(rows), stub="variant")


def improved_table(results: Results, published: Sources) -> Table:
    """The improvements of the published reproduction, added one by one."""
    source = published["reproduction"]
    columns = ("reproduction AP", "reproduction gain", "AP", "AP90", "gain")
    rows = []
    for key, label, side in IMPROVED:
        cells = {
            "reproduction AP": published_cell(source, "improved", key, "AP"),
            "reproduction gain": published_cell(source, "improved", key, "improvement", difference=True),
            "AP": mean_cell(results, side, "AP"),
            "AP90": mean_cell(results, side, "AP90"),
        }
        if side != BASELINE:
            cells["gain"] = difference_cell(results, side, BASELINE, "AP")
        rows.append(Row("", label, cells))
    caption = (
        "Each row adds to the one above; *gain* is the paired difference in AP to Faster R-CNN. "
        f"{step_label(results, PAPER_STEP)} first, then {step_label(results, IMPROVED_STEP)}. Not in the paper."
    )
    return Table("improved", "The improved version, step by step", caption, columns, tuple(rows))


@dataclass(frozen=True)
class Entry:
    """A table of the report and the variants it is about (for reports on some tables only)."""

    title: str
    build: Callable[[Results, Sources], Table]
    variants: Sequence[str]


FOUR = ("max1000_lw10.0_periou50", "max1000_lw5.0_periou30", "max1000_lw5.0_periou50", IOUNET)
CATALOGUE: dict[str, Entry] = {
    "main": Entry("Main result", main_table, ("faster_rcnn", IOUNET)),
    "ablation": Entry("Ablation", ablation_table, ("faster_rcnn", IOUNET)),
    "bce": Entry("Binary cross-entropy in place of SmoothL1", bce_table, ("faster_rcnn", BCE)),
    "loss_weight": Entry("Loss weight and RoI generation", loss_weight_table, FOUR),
    "step_size": Entry("Step size λ of the refinement", step_size_table, FOUR),
    "guide": Entry("IoU-guided NMS: official, and multiplied by the class score", guide_table, FOUR),
    "improved": Entry("The improved version, step by step", improved_table, ("faster_rcnn", IOUNET, BCE)),
}

"""The tables of accuracy: the main result, the ablation, and the experiments of the published reproduction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.results.collect import Results
from reports.results.published import Published
from reports.results.sides import (
    ABLATION,
    BASELINE,
    BCE,
    FIRST_VERSION,
    IMPROVED,
    IMPROVED_STEP,
    IOUNET,
    PAPER_STEP,
    PARTS,
    THIS_RUN,
    Side,
)
from reports.results.source import Source
from reports.tables.cells import (
    difference_cell,
    improvement_row,
    mean_cell,
    measured_row,
    published_cell,
    published_row,
    published_rows,
    variant_row,
)
from reports.tables.table import Cell, Row, Table, TableEntry
from suite.errors import NotInSuite

Sources = Mapping[str, Published]

STRICTNESS = ("AP", "AP50", "AP60", "AP70", "AP80", "AP90")
TWO = (BASELINE.variant, IOUNET)
NO_REFINEMENT = "no refinement"
FOUR = ("max1000_lw10.0_periou50", "max1000_lw5.0_periou30", "max1000_lw5.0_periou50", IOUNET)


def main_table(results: Results, published: Sources) -> Table:
    """Faster R-CNN, IoU-Net and the improvement: paper, published reproduction, this run."""
    rows: list[Row] = []
    for source in published.values():
        rows += published_rows(source, "main", ["faster_rcnn", "iounet", "improvement"], STRICTNESS)
    rows += [
        measured_row(results, "Faster R-CNN", BASELINE, STRICTNESS),
        measured_row(results, "Faster R-CNN + IoU-Net", FIRST_VERSION, STRICTNESS),
        improvement_row(results, FIRST_VERSION, BASELINE, STRICTNESS),
    ]
    same = all(results.download == source.download for source in published.values())
    caption = (
        f"Faster R-CNN is `{BASELINE.own(results)}`, IoU-Net `{FIRST_VERSION.own(results)}` with IoU-guided NMS (rank) "
        f"and refinement at {results.suite.scale.step(PAPER_STEP)}. "
        f"Compare the improvement rows{'' if same else '; the APs belong to different data'}."
    )
    return Table(MAIN.key, MAIN.title, caption, STRICTNESS, tuple(rows))


def bce_table(results: Results, published: Sources) -> Table:
    """Binary cross-entropy in place of SmoothL1."""
    bce = Side(BCE, "rank", PAPER_STEP)
    rows = published_rows(published["reproduction"], "bce", ["faster_rcnn", "iounet_bce", "improvement"], STRICTNESS)
    rows += [
        measured_row(results, "Faster R-CNN", BASELINE, STRICTNESS),
        measured_row(results, "Faster R-CNN + IoU-Net (BCE)", bce, STRICTNESS),
        improvement_row(results, bce, BASELINE, STRICTNESS),
    ]
    if FIRST_VERSION.is_in(results):
        label = "BCE against SmoothL1"
        rows.append(improvement_row(results, bce, FIRST_VERSION, STRICTNESS, label, key="against_smooth_l1"))
    caption = f"Inference as for the main result, {results.suite.scale.step(PAPER_STEP)}. Not in the paper."
    return Table(BCE_LOSS.key, BCE_LOSS.title, caption, STRICTNESS, tuple(rows))


def loss_weight_table(results: Results, published: Sources) -> Table:
    """Loss weight and RoI generation."""
    columns, measured = ("loss weight", "training RoIs", "AP", "AP50", "AP75"), ("AP", "AP50", "AP75")
    source = published["reproduction"]
    variants = source.table("loss_weight")["rows"]
    rows = []
    for variant, values in variants.items():
        cells = {column: published_cell(source, "loss_weight", variant, column) for column in measured}
        cells["loss weight"] = published_cell(source, "loss_weight", variant, "loss_weight")
        cells["training RoIs"] = Cell(values["roi_generate"], kind="text", sources=cells["AP"].sources)
        rows.append(published_row(source, "loss_weight", variant, cells))
    for variant in variants:
        side = Side(variant, "rank", PAPER_STEP)
        cells = {column: mean_cell(results, side, column) for column in measured}
        run = results.run(side.own(results), results.suite.seeds[0])
        mapped = run["data"]["mapped"]
        weight, rois = _actual(mapped, "loss_weight"), _training_rois(mapped)
        cells["loss weight"] = Cell(weight, kind="text", sources=(Source.of_run(run, "mapped.loss_weight"),))
        cells["training RoIs"] = Cell(rois, kind="text", sources=(Source.of_run(run, "mapped"),))
        rows.append(variant_row(side.own(results), cells))
    caption = (
        f"IoU-guided NMS (rank) and refinement at {results.suite.scale.step(PAPER_STEP)}. The columns of this run show "
        "what was actually used, whatever a row's label says."
    )
    return Table(LOSS_WEIGHT.key, LOSS_WEIGHT.title, caption, columns, tuple(rows), stub="variant")


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
    """Faster R-CNN, IoUNet_RCNN, + IoU-guided NMS, + Refine; and the two parts of the refinement, if they were run."""
    measured = ("AP", "AP50", "AP90")
    columns = ("paper AP", "reproduction AP", *measured, "step", "total")
    before: list[Side | None] = [None, *(side for _, _, side in ABLATION[:-1])]
    parts = PARTS if PARTS[0][2].is_in(results) else ()
    before += [Side(IOUNET, "rank")] * len(parts)
    rows = []
    for (key, label, side), previous in zip((*ABLATION, *parts), before, strict=True):
        cells = {metric: mean_cell(results, side, metric) for metric in measured}
        if side.part is None:
            cells |= {f"{name} AP": published_cell(source, "ablation", key, "AP") for name, source in published.items()}
        if previous is not None:
            cells["step"] = difference_cell(results, side, previous, "AP")
            cells["total"] = difference_cell(results, side, BASELINE, "AP")
        rows.append(Row("", label, cells, key=key))
    caption = (
        "AP, AP50 and AP90 are of this run; *step* is the difference in AP to the row above, *total* to Faster "
        f"R-CNN. All rows but the first are one checkpoint (`{FIRST_VERSION.own(results)}`) under several inference "
        f"settings; refinement at {results.suite.scale.step(PAPER_STEP)}."
    )
    if parts:
        caption += (
            " The last two rows each do one half of the refinement, and their *step* is to IoU-guided NMS: boxes move "
            "and keep their scores, or stay and have their scores multiplied by the predicted IoU."
        )
    return Table(ABLATION_TABLE.key, ABLATION_TABLE.title, caption, columns, tuple(rows))


def step_size_table(results: Results, published: Sources) -> Table:
    """AP of every IoU-Net by NMS guide and actual λ (the data of the λ chart).

    Raises:
        NotInSuite: there is no IoU-Net.
    """
    source, suite = published["reproduction"], results.suite
    lambdas = source.table("lambda")["columns"]
    variants = [variant for variant in suite.variants if suite.variants[variant].has_iou_branch]
    if not variants:
        raise NotInSuite(f"suite '{suite.name}' has no IoU-Net")
    rows = []
    for variant in source.table("lambda")["rows"]:
        cells = {step: published_cell(source, "lambda", variant, step) for step in lambdas}
        rows.append(published_row(source, "lambda", variant, cells))
    for guide, steps in suite.inference.step_sizes.items():
        for variant in variants:
            sides = {f"{step.actual:g}": Side(variant, guide, step.published) for step in sorted(steps)}
            sides = {NO_REFINEMENT: Side(variant, guide), **sides}
            cells = {name: mean_cell(results, side, "AP") for name, side in sides.items()}
            rows.append(variant_row(variant, cells, group=f"{THIS_RUN}, {guide}"))
    used = {step.actual for steps in suite.inference.step_sizes.values() for step in steps}
    columns = (NO_REFINEMENT, *(f"{step:g}" for step in sorted({*used, *map(float, lambdas)})))
    caption = (
        "AP in every inference setting, by what ranks the boxes in NMS (rank: the predicted IoU, weight: class score × "
        "IoU, none: the class score) and by the step size λ of the refinement as it was actually used. λ is a step of "
        "about λ pixels: on smaller boxes the optimum lies at a smaller λ"
    )
    scale = suite.scale.step_size
    caption += "." if scale == 1 else f"; this suite maps a published λ to {scale:g} λ."
    return Table(STEP_SIZE.key, STEP_SIZE.title, caption, columns, tuple(rows), stub="variant, λ =")


def guide_table(results: Results, published: Sources) -> Table:
    """IoU-guided NMS as published, and multiplied by the class score."""
    source = published["reproduction"]
    variants = source.table("guide")["rows"]
    rows = []
    for variant, values in variants.items():
        cells = {
            "official": published_cell(source, "guide", variant, "official"),
            "class score": published_cell(source, "guide", variant, "class_score"),
        }
        origin = cells["official"].sources + cells["class score"].sources
        gain = round(values["class_score"] - values["official"], 6)
        cells["difference"] = Cell(gain, kind="difference", sources=origin)
        rows.append(published_row(source, "guide", variant, cells))
    for variant in variants:
        official, weighted = (Side(variant, guide, IMPROVED_STEP) for guide in ("rank", "weight"))
        cells = {
            "official": mean_cell(results, official, "AP"),
            "class score": mean_cell(results, weighted, "AP"),
            "difference": difference_cell(results, weighted, official, "AP"),
        }
        rows.append(variant_row(official.own(results), cells))
    step = results.suite.scale.step(IMPROVED_STEP)
    caption = f"AP at {step}: boxes ranked by predicted IoU (official), or by IoU × class score."
    columns = ("official", "class score", "difference")
    return Table(GUIDE.key, GUIDE.title, caption, columns, tuple(rows), stub="variant")


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
        rows.append(Row("", label, cells, key=key))
    first, then = (results.suite.scale.step(step) for step in (PAPER_STEP, IMPROVED_STEP))
    caption = (
        "Each row adds to the one above; *gain* is the difference in AP to Faster R-CNN. "
        f"{first} first, then {then}. Not in the paper."
    )
    return Table(IMPROVED_TABLE.key, IMPROVED_TABLE.title, caption, columns, tuple(rows))


MAIN = TableEntry("main", "Main result", lambda c: main_table(c.results, c.published), TWO)
ABLATION_TABLE = TableEntry("ablation", "Ablation", lambda c: ablation_table(c.results, c.published), TWO)
BCE_LOSS = TableEntry(
    "bce",
    "Binary cross-entropy in place of SmoothL1",
    lambda c: bce_table(c.results, c.published),
    (BASELINE.variant, BCE),
)
LOSS_WEIGHT = TableEntry(
    "loss_weight", "Loss weight and RoI generation", lambda c: loss_weight_table(c.results, c.published), FOUR
)
STEP_SIZE = TableEntry(
    "step_size", "NMS guide and step size λ of the refinement", lambda c: step_size_table(c.results, c.published)
)
GUIDE = TableEntry(
    "guide",
    "IoU-guided NMS: official, and multiplied by the class score",
    lambda c: guide_table(c.results, c.published),
    FOUR,
)
IMPROVED_TABLE = TableEntry(
    "improved",
    "The improved version, step by step",
    lambda c: improved_table(c.results, c.published),
    (*TWO, BCE),
)

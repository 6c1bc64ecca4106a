"""Tables of the page on the boxes of any detector: AP of every treatment, differences, verdicts, times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.results.collect import Results
from reports.results.published import Published
from reports.results.treated import GUIDED_NMS, STAGES, Treated, TreatedSide
from reports.statistics import mean_interval
from reports.tables.cells import difference_cell, estimate_cell, mean_cell
from reports.tables.claims import verdict_row, verdicts_note
from reports.tables.table import Cell, Row, Table
from reports.verdicts import Verdict
from suite.treatments import (
    CLASS_AGNOSTIC,
    GUIDED,
    HARD,
    NUM_STEPS,
    PLAIN,
    SIGMA,
    SOFT_GAUSSIAN,
    SOFT_LINEAR,
    Treatment,
    by_threshold,
    guided,
)

METRICS = ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90")
MAIN_METRICS = ("AP", "AP90")
NMS_METRICS = ("AP", "AP50", "AP75", "AP90")
KINDS = {
    HARD: "hard NMS",
    SOFT_LINEAR: "linear Soft-NMS",
    SOFT_GAUSSIAN: "Gaussian Soft-NMS",
    GUIDED: GUIDED_NMS,
}
TIMED = 500  # images that times are told of
TIMES = {
    "detect": "detector, to its boxes",
    "maps": "feature maps",
    "predict": "predicted IoUs",
    "guided_nms": GUIDED_NMS,
    "refine": "refinement",
}
assert tuple(TIMES) == STAGES


def accuracy_table(results: Results, treated: Treated) -> Table:
    """Every metric of every treatment of each detector."""
    rows = []
    for detector, group in treated.labels.items():
        for label, treatment in treated.rows.items():
            side = TreatedSide(detector, treatment)
            cells = {metric: mean_cell(results, side, metric) for metric in METRICS}
            rows.append(Row(group, label, cells, key=treatment.name))
    caption = (
        "*Own NMS*: the detector as it is. *Guided NMS*: the box with the highest predicted IoU stays. *Refinement*: "
        f"after guided NMS, at most {NUM_STEPS} steps at {_steps(treated)}; class scores stay what they were, or "
        "(*scores × IoU*) are multiplied with the IoU predicted where the box ends. The refiner predicts one IoU per "
        "class."
    )
    return Table("treatments", "AP of each detector's boxes", caption, METRICS, tuple(rows), "what is done")


def gains_table(results: Results, treated: Treated) -> Table:
    """The differences to each detector's own NMS."""
    rows = []
    for detector, group in treated.labels.items():
        own = TreatedSide(detector, PLAIN)
        for label, treatment in list(treated.rows.items())[1:]:
            side = TreatedSide(detector, treatment)
            cells = {metric: difference_cell(results, side, own, metric) for metric in METRICS}
            rows.append(Row(group, label, cells, key=treatment.name))
    caption = "In points, of the same boxes before NMS; ± is half of the 95 % interval."
    title = "Differences to the detector's own NMS"
    return Table("treatment_gains", title, caption, METRICS, tuple(rows), "what is done")


def statements_table(verdicts: Sequence[Verdict], published: Mapping[str, Published], results: Results) -> Table:
    """What the paper argues, and what happened here."""
    columns = ("metric", "this run", "95 % interval", "verdict", "in the family")
    rows = tuple(verdict_row(verdict, published, results) for verdict in verdicts)
    title = "What the paper argues, and what happened here"
    return Table("treatment_claims", title, verdicts_note(published, results), columns, rows, stub="claim")


def nms_table(results: Results, treated: Treated) -> Table:
    """NMS of each kind at each threshold, on the baseline."""
    rows = []
    for treatment in by_threshold():
        side = TreatedSide(treated.baseline, treatment)
        cells = {metric: mean_cell(results, side, metric) for metric in NMS_METRICS}
        rows.append(Row(KINDS[treatment.nms], threshold_label(treatment), cells, key=treatment.name))
    caption = (
        f"{treated.labels[treated.baseline]}; no box is moved. Soft-NMS lowers the scores of boxes that overlap a "
        "better one: linearly where their IoU is above the threshold, or by a Gaussian of it, which has no threshold."
    )
    return Table("treatment_nms", "NMS by kind and IoU threshold", caption, NMS_METRICS, tuple(rows), "IoU threshold")


def threshold_label(treatment: Treatment) -> str:
    """The threshold of an NMS, or what the Gaussian one has in its place."""
    return f"σ = {SIGMA:g}" if treatment.nms == SOFT_GAUSSIAN else f"{treatment.iou_threshold:g}"


def heads_table(results: Results, treated: Treated) -> Table:
    """One IoU per class minus one for all classes."""
    pairs = {
        GUIDED_NMS: (guided(), guided(CLASS_AGNOSTIC)),
        "+ refinement": (treated.refined(), treated.refined(head=CLASS_AGNOSTIC)),
    }
    rows = []
    for detector, label in treated.labels.items():
        cells = {
            f"{name}, {metric}": difference_cell(
                results, TreatedSide(detector, by_class), TreatedSide(detector, agnostic), metric
            )
            for name, (by_class, agnostic) in pairs.items()
            for metric in MAIN_METRICS
        }
        rows.append(Row("", label, cells, key=detector))
    columns = tuple(f"{name}, {metric}" for name in pairs for metric in MAIN_METRICS)
    caption = (
        "Points by which the refiner with one IoU per class is above the one with one IoU for all classes; both were "
        "trained on the same images and are given the same boxes. Refinement after guided NMS, at "
        f"{treated.steps[0]}, scores kept."
    )
    title = "One IoU per class minus one for all classes"
    return Table("treatment_heads", title, caption, columns, tuple(rows), "detector")


def iterations_table(results: Results, treated: Treated, metric: str = "AP") -> Table | None:
    """Differences to the boxes where they were, after each iteration; None where nothing was iterated."""
    rows = []
    for detector, group in treated.labels.items():
        start = TreatedSide(detector, PLAIN)
        for label, treatments in treated.movers(detector).items():
            sides = {str(n): TreatedSide(detector, own) for n, own in enumerate(treatments) if n}
            cells = {name: difference_cell(results, side, start, metric) for name, side in sides.items()}
            rows.append(Row(group, label, cells, key=label))
    if not rows:
        return None
    caption = (
        f"{metric} in points, after 1 to {NUM_STEPS} iterations on the boxes that the detector's own NMS leaves; scores"
        f" are kept. Refinement at {_steps(treated)}."
    )
    columns = tuple(map(str, range(1, NUM_STEPS + 1)))
    title = f"{metric} over that before the first iteration"
    return Table(f"treatment_iterations_{metric.lower()}", title, caption, columns, tuple(rows), "moved by")


def times_table(treated: Treated) -> Table:
    """What the refiner costs beside each detector."""
    rows = []
    for detector, label in treated.labels.items():
        measured = treated.measured(detector)
        counts = [row["data"]["candidates"] / row["data"]["images"] for row in measured]
        cells = {"boxes per image": _mean(treated, detector, counts, "candidates")}
        for stage, name in TIMES.items():
            cells[name] = _mean(treated, detector, seconds(treated, detector, stage), f"seconds.{stage}")
        rows.append(Row("", label, cells, key=detector))
    images = treated.measured(treated.baseline)[0]["data"]["images"]
    caption = (
        f"Seconds per {TIMED} images ({images} were timed), measured beside whatever else ran on the machine: they say "
        "which part is long, no more. *Boxes*: before NMS. *Predicted IoUs*: of all of them; *guided "
        f"NMS*: once; *refinement*: {NUM_STEPS} steps at {treated.steps[0]}, after guided NMS."
    )
    return Table("treatment_times", "Time", caption, ("boxes per image", *TIMES.values()), tuple(rows), "detector")


def seconds(treated: Treated, detector: str, stage: str) -> list[float]:
    """What a stage took per `TIMED` images, for each seed."""
    data = [row["data"] for row in treated.measured(detector)]
    return [TIMED * float(own["seconds"][stage]) / own["images"] for own in data]


def _mean(treated: Treated, detector: str, values: Sequence[float], key: str) -> Cell:
    stale = any(row["stale"] for row in treated.measured(detector))
    return estimate_cell(mean_interval(values), sources=treated.sources(detector, key), stale=stale)


def _steps(treated: Treated) -> str:
    return " and ".join(str(step) for step in treated.steps)

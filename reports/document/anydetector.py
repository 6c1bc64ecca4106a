"""The page on a refiner with the boxes of any detector, in sentences, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.comparison import difference
from reports.context import Context
from reports.document.blocks import Bullets, Heading, Paragraph, Report
from reports.document.facts import reproducibility, scale_statement, stale_notes, statistics_notes
from reports.document.summary import summary
from reports.figures import treated_gains, treated_lines
from reports.results.collect import Results
from reports.results.published import Published
from reports.results.treated import STAGES, Treated, TreatedSide
from reports.statements import statements
from reports.statistics import Interval
from reports.tables import treated as tables
from reports.tables.table import digits_of, format_number, format_range
from reports.verdicts import judge_claims
from suite.treatments import NUM_STEPS, PLAIN, Treatment, by_threshold, guided

TITLE = "IoU-Net for any detector"
NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six")
ITERATED = (
    "The paper sets iterative box regression beside refinement (its figure 4). Box regression asks the detector's own "
    "box head again about the boxes that it has just moved. Refinement asks the refiner whether a move was any good."
)
PAIRED = (
    "A detector's boxes are given to the refiners of the same seed, and a seed's refiners are the same for every "
    "detector: all differences of this page, means over detectors too, are paired by seed."
)


def assemble(results: Results, treated: Treated, published: Mapping[str, Published]) -> Report:
    """Make the page.

    Args:
        results: with the evaluations of each treatment (`reports.results.treatments.with_treatments`).
        treated: the detectors, and what was done with their boxes.
        published: the published sources; they say what the images are.

    Raises:
        MissingResult: an evaluation's matches are missing.
    """
    verdicts, untested = judge_claims(results, published, statements(treated))
    context = Context(results, published, verdicts=verdicts, treated=treated)
    report = Report(context)
    report.add(
        Heading(TITLE, 1), Paragraph(premise(results)), Paragraph(scale_statement(results, published), aside=True)
    )
    report.add(Heading("In short"), Bullets([*summary(context), *answers(results, treated)]))
    report.add(Heading(counted(len(treated.labels), "detector")), tables.accuracy_table(results, treated))
    report.add(tables.gains_table(results, treated), treated_gains.make(results, treated))
    if verdicts:
        report.add(tables.statements_table(verdicts, published, results))
    if untested:
        report.add(Bullets([f"Not tested: {claim.text}: {reason}." for claim, reason in untested]))
    report.add(
        Heading("NMS by threshold"), tables.nms_table(results, treated), treated_lines.make_nms(results, treated)
    )
    report.add(Heading("One IoU per class, or one for all"), tables.heads_table(results, treated))
    if treated.iterated or treated.regressed:
        report.add(Heading("Again and again: box regression against refinement"), Paragraph(ITERATED))
    for metric in tables.MAIN_METRICS:
        parts = (
            treated_lines.make_iterations(results, treated, metric),
            tables.iterations_table(results, treated, metric),
        )
        report.add(*(part for part in parts if part is not None))
    report.add(Heading("Time"), tables.times_table(treated))
    report.add(Heading("How the numbers are made"), Bullets([*statistics_notes(results), PAIRED]))
    if stale := [*stale_notes(results), *_stale(treated)]:
        report.add(Heading("Stale results (†)"), Bullets(stale))
    report.add(Heading("Machine, versions, seeds"), Bullets(reproducibility(results)))
    return report


def premise(results: Results) -> str:
    """What the page is about."""
    inputs = [run["inputs"] for run in results.runs["data"] if "head" in run]
    if results.suite.pretraining is not None:
        start = "It starts from the same pretraining as the detectors"
    elif all("backbone_sha256" in own for own in inputs):
        start = "Its backbone starts from the weights that the config names"
    else:
        start = "It starts from random weights"
    return (
        "The paper trains IoU-Net alone, on jittered ground truth, and gives it the boxes of other detectors (section "
        "4). Here such a refiner is a backbone with an FPN and an IoU head: it has no RPN and no R-CNN. "
        f"{start}, and has never seen a detector's box. All of this page is measured by `snakemake anydetector`."
    )


def answers(results: Results, treated: Treated) -> list[str]:
    """What was measured, in sentences; each follows from the numbers below it."""
    found = [f"**{metric}.** {gain_sentence(results, treated, metric)}" for metric in tables.MAIN_METRICS]
    found.append(f"**NMS.** {nms_sentence(results, treated)}")
    if iterated := iterations_sentence(results, treated):
        found.append(f"**Iterations.** {iterated}")
    return [*found, f"**Time.** {time_sentence(treated)}"]


def gain_sentence(results: Results, treated: Treated, metric: str) -> str:
    """What guided NMS alone, and with refinement, add to each detector's own NMS."""
    parts = []
    for detector, label in treated.labels.items():
        own = TreatedSide(detector, PLAIN)
        alone, both = (
            difference_text(difference(results, TreatedSide(detector, treatment), own, metric))
            for treatment in (guided(), treated.refined())
        )
        parts.append(f"{label}: {alone} by guided NMS, {both} with refinement")
    return f"Points over the detector's own NMS, refinement at {treated.steps[0]}. {'; '.join(parts)}."


def nms_sentence(results: Results, treated: Treated, metric: str = "AP90") -> str:
    """The best of each kind of NMS over its thresholds."""
    best: dict[str, tuple[float, str]] = {}
    for treatment in by_threshold():
        side = TreatedSide(treated.baseline, treatment)
        mean = _mean(list(side.per_seed(results, metric).values()))
        label = tables.threshold_label(treatment)
        best[treatment.nms] = max(best.get(treatment.nms, (mean, label)), (mean, label), key=lambda own: own[0])
    shown = [f"{tables.KINDS[nms]} {format_number(mean)} (at {label})" for nms, (mean, label) in best.items()]
    return f"Highest {metric} on {treated.labels[treated.baseline]} by kind of NMS: {', '.join(shown)}."


def iterations_sentence(results: Results, treated: Treated, metric: str = "AP") -> str:
    """What the last iteration has added, by what moved the boxes; '' where nothing was iterated."""
    parts = []
    for detector, label in treated.labels.items():
        ends = [
            f"{difference_text(_over(results, detector, treatments, metric))} by {name}"
            for name, treatments in treated.movers(detector).items()
        ]
        if ends:
            parts.append(f"{label}: {', '.join(ends)}")
    return f"Points of {metric} after {NUM_STEPS} of them. {'; '.join(parts)}." if parts else ""


def _over(results: Results, detector: str, treatments: Sequence[Treatment], metric: str) -> Interval:
    last, first = (TreatedSide(detector, treatments[place]) for place in (-1, 0))
    return difference(results, last, first, metric)


def time_sentence(treated: Treated) -> str:
    """What the refiner takes beside each detector."""
    asked, refined = [], []
    for detector, label in treated.labels.items():
        took = {stage: _mean(tables.seconds(treated, detector, stage)) for stage in STAGES}
        detect, refine = took.pop("detect"), took.pop("refine")
        if detect:
            asked.append(f"{format_number(100 * sum(took.values()) / detect, 0)} % ({label})")
            refined.append(f"{format_number(100 * refine / detect, 0)} %")
    return (
        f"Guided NMS, with the refiner's maps and IoUs, adds {', '.join(asked)} to the detector's own time, refinement "
        f"another {', '.join(refined)}."
        if asked
        else "The detectors took no time."
    )


def difference_text(interval: Interval) -> str:
    """A difference with its interval, where that decides."""
    text = format_number(interval.mean, digits_of(interval.mean), signed=True)
    return f"{text} ({format_range(*interval.bounds)})" if interval.decides and interval.bounds else text


def counted(number: int, name: str) -> str:
    """A number of things as a heading: Three detectors."""
    word = NUMBERS[number] if number < len(NUMBERS) else str(number)
    return f"{word} {name}{'' if number == 1 else 's'}"


def _stale(treated: Treated) -> list[str]:
    rows = treated.indices.to_dict("records")
    return [f"`{row['source']}`: {row['stale']}." for row in rows if row["stale"]]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

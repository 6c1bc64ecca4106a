"""The page on RoI poolings: whether Precise RoI Pooling is RoIAlign with more samples, in sentences and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from reports.comparison import difference
from reports.context import Context
from reports.document.blocks import Bullets, Heading, Paragraph, Report
from reports.document.facts import reproducibility, scale_statement, stale_notes, statistics_notes
from reports.errors import NothingToShow
from reports.figures import pooling_accuracy, pooling_errors, pooling_path
from reports.results.collect import Results
from reports.results.pooling import BORDER, EXACT, OWN, MeasuredPooling, setting_label
from reports.results.published import Published
from reports.statistics import Interval, holm
from reports.tables import pooling as tables
from reports.tables.table import format_number, format_range

TITLE = "Isn't it RoIAlign with more samples?"
ASKED = (
    "Asked of Precise RoI Pooling in "
    "[mmdetection#4371](https://github.com/open-mmlab/mmdetection/issues/4371) and "
    "[pytracking#109](https://github.com/visionml/pytracking/issues/109). Both pool the same bilinear surface: "
    "PrRoIPool integrates it over each bin, RoIAlign takes the mean of n × n samples, which is the midpoint rule of "
    "that integral. The rule is exact where the surface has no kink inside a bin, and there is one wherever a line "
    "through the centres of the map's cells runs through it. All of this page is measured on trained detectors by "
    "`snakemake pooling`."
)
SWAPPED = (
    "The checkpoints were trained with PrRoIPool, and only their inference gets another pooling: the tables say how "
    "far one can take the other's place in a trained detector, not which one trains the better detector. Heads that "
    "are trained with RoIAlign's values may make up for their error. `experiments/pooling.yaml`, laid over the suite, "
    "trains with each."
)
CHANCE = 0.05  # over all differences of a metric together


def assemble(results: Results, measured: MeasuredPooling, published: Mapping[str, Published]) -> Report:
    """Make the page.

    Args:
        results: with the evaluations of each pooling (`reports.results.pooling.with_poolings`).
        measured: the file.
        published: the published sources; they say what the images are.

    Raises:
        MissingResult: an evaluation is missing.
    """
    report = Report(Context(results, published, pooling=measured))
    report.add(Heading(TITLE, 1), Paragraph(ASKED), Paragraph(scale_statement(results, published), aside=True))
    report.add(Heading("In short"), Bullets(answers(results, measured)))
    report.add(Heading("Values"), Bullets(conventions(measured)), tables.values_table(measured))
    report.add(pooling_errors.make(measured))
    report.add(Heading("Gradient in the coordinates"), tables.existing_table(measured))
    report.add(tables.gradients_table(measured), tables.direction_table(measured))
    try:
        report.add(pooling_path.make(measured))
    except NothingToShow as reason:
        report.add(Paragraph(f"Figure “The gradient along the path of a box”: {reason}."))
    report.add(Heading("Time"), tables.times_table(measured))
    report.add(Heading("Inside IoU-Net"), Paragraph(SWAPPED))
    report.add(*(tables.accuracy_table(results, measured, metric) for metric in pooling_accuracy.METRICS))
    report.add(pooling_accuracy.make(results, measured))
    report.add(Heading("How the numbers are made"), Bullets(statistics_notes(results)))
    if stale := [*stale_notes(results), *([f"`{measured.source}`: {measured.stale}."] if measured.stale else [])]:
        report.add(Heading("Stale results (†)"), Bullets(stale))
    report.add(Heading("Machine, versions, seeds"), Bullets(reproducibility(results)))
    return report


def answers(results: Results, measured: MeasuredPooling) -> list[str]:
    """The page's conclusions; each follows from the numbers below it."""
    return [
        f"**Values.** {values_sentence(measured)}",
        f"**Gradient.** {gradient_sentence(measured)}",
        f"**Time.** {time_sentence(measured)}",
        *(f"**{metric}.** {accuracy_sentence(results, measured, metric)}" for metric in pooling_accuracy.METRICS),
        SWAPPED.partition(": ")[0] + ".",
    ]


def values_sentence(measured: MeasuredPooling) -> str:
    """How far the values are off, and whether samples help."""
    own = {pooling: measured.mean("values", "error", pooling, row=OWN).mean for pooling in measured.poolings}
    text = f"At the detector's own boxes RoIAlign is off by {_each(measured, own, '%', 100)} of the exact values. "
    numbered = [own[pooling] for pooling in measured.numbered]
    gains = [coarse / fine for coarse, fine in pairwise(numbered) if fine > 0]
    samples = [measured.data["samples"][pooling] for pooling in measured.numbered]
    doubles = all(more == 2 * fewer for fewer, more in pairwise(samples))
    if gains and min(gains) > 1:
        by = f"{format_number(min(gains))} to {format_number(max(gains))}"
        text += f"{'Each doubling of' if doubles else 'Each step up in'} the samples divides that by {by}"
        text += ": inside the map PrRoIPool's values are RoIAlign's with more samples."
    else:
        text += "More samples do not always bring it closer."
    if measured.has(BORDER):
        last = measured.numbered[-1]
        border = measured.mean("values", "error", last, row=BORDER).mean
        if border > 2 * own[last]:
            text += (
                f" At the map's border {format_number(100 * border)} % remain with {measured.label(last)}: there the "
                "surfaces differ, not the sampling."
            )
    return text


def gradient_sentence(measured: MeasuredPooling) -> str:
    """Which gradients there are, how right they are, and how they jump."""
    existing: Mapping[str, bool] = measured.data["existing"]
    without = [f"`{name}`" for name, exists in existing.items() if not exists]
    text = (
        f"{_joined(without)} {'passes' if len(without) == 1 else 'pass'} none on to the coordinates: boxes cannot be "
        "refined with them as they are. "
        if without
        else "Every operator passes one on to the coordinates. "
    )
    errors = {p: measured.mean("gradients", "against_exact", p, "error", row=OWN).mean for p in measured.poolings}
    cosines = {p: measured.mean("gradients", "against_exact", p, "cosine", row=OWN).mean for p in measured.poolings}
    low, high = min(cosines, key=cosines.__getitem__), max(cosines, key=cosines.__getitem__)
    text += (
        f"Differentiated at its samples, RoIAlign has one, off by {_each(measured, errors, '%', 100)} of the exact one "
        f"at the detector's own boxes; the median cosine between the two is {format_number(cosines[low], 3)} "
        f"({measured.label(low)}) to {format_number(cosines[high], 3)} ({measured.label(high)}). "
    )
    values = {p: measured.mean("values", "error", p, row=OWN).mean for p in measured.poolings}
    times = [errors[p] / values[p] for p in measured.poolings if values[p] > 0]
    if times and min(times) > 1:
        text += f"That is {format_number(min(times))} to {format_number(max(times))} times the error of the values. "
    return text + _jumps(measured)


def _jumps(measured: MeasuredPooling) -> str:
    """At how many places the gradient jumps, and by how much."""
    shift, jump = measured.data["measured"]["shift"], measured.data["measured"]["jump"]
    change = f"by {shift:g} pixels changes it by more than {100 * jump:g} %"
    shares = {p: measured.mean("jumps", "share", p).mean for p in measured.poolings}
    if not any(shares.values()):
        return f"No shift {change}."
    sizes = {p: measured.mean("jumps", "size", p).mean for p in measured.poolings}
    sizes = {p: size for p, size in sizes.items() if not math.isnan(size)}
    text = f"It jumps where a box moves: a shift {change} at {_each(measured, shares, '%', 100)} of the places"
    text += f", there by {_each(measured, sizes, '%', 100)} (medians)" if sizes else ""
    exact = measured.mean("jumps", "share", EXACT).mean
    return f"{text}; with PrRoIPool at {format_number(100 * exact, 2)} %."


def time_sentence(measured: MeasuredPooling) -> str:
    """What each costs, relative to Precise RoI Pooling."""
    timed = measured.data["times"]["timed"]
    forward = {p: timed[tables.FORWARD][p]["ratio"]["median"] for p in measured.poolings}
    slower = [_short(measured, p) for p in forward if timed[tables.FORWARD][p]["ratio"]["q1"] > 1]
    text = f"Forwards RoIAlign takes {_each(measured, forward, 'times', 1, 2)} as long as PrRoIPool here"
    longer = "all of them" if len(slower) == len(forward) else _joined(slower) if slower else "none"
    text += f", {longer} longer. "
    plain = timed[tables.GRADIENT][tables.PLAIN]["ratio"]["median"]
    gradient = {p: timed[tables.GRADIENT][p]["ratio_to_plain"]["median"] for p in measured.poolings}
    return text + (
        "With the gradient in the coordinates, both in plain torch, it takes "
        f"{_each(measured, gradient, 'times', 1, 2)} as long; there PrRoIPool's plain torch takes "
        f"{format_number(plain)} times as long as its kernel."
    )


def accuracy_sentence(results: Results, measured: MeasuredPooling, metric: str) -> str:
    """Which differences are beyond chance, and within what RoIAlign is as good."""
    found = {
        (pooling, side): difference(results, replace(side, pooling=pooling), side, metric)
        for pooling in measured.poolings
        for side in measured.sides
    }
    if not all(interval.decides for interval in found.values()):
        largest = max(found.values(), key=lambda interval: abs(interval.mean))
        return (
            f"One training decides nothing; the largest difference to PrRoIPool is "
            f"{format_number(largest.mean, 2, signed=True)} points."
        )
    adjusted = holm([two_sided(interval) for interval in found.values()])
    beyond = [key for key, p in zip(found, adjusted, strict=True) if p <= CHANCE]
    text = f"Of {len(found)} differences to PrRoIPool {len(beyond) or 'none'} "
    text += f"{'is' if len(beyond) < 2 else 'are'} beyond chance (Holm, {100 * CHANCE:g} % over all of them)"
    text += f": {'; '.join(_difference(measured, *key, found[key]) for key in beyond)}. " if beyond else ". "
    most = {p: _most([found[p, side] for side in measured.sides]) for p in measured.poolings}
    within = ", ".join(f"{format_number(own, 2)} with {measured.label(p)}" for p, own in most.items())
    return text + f"In every setting the 95 % interval keeps {metric} within so many points of PrRoIPool's: {within}."


def two_sided(interval: Interval) -> float:
    """p value of “there is no difference”."""
    return min(1.0, 2 * min(interval.p_above(0.0), interval.p_below(0.0)))


def conventions(measured: MeasuredPooling) -> list[str]:
    """What is compared: where the samples lie."""
    found = {
        key: max(own["conventions"][key] or 0.0 for own in measured.data["values"])
        for key in ("aligned_false", "plain_torch")
    }
    unmoved = [own["conventions"]["unmoved"] for own in measured.data["values"]]
    lines = [
        "PrRoIPool's coordinates have no half-pixel shift. `aligned=True` takes half a cell away, so RoIs are moved by "
        "half a cell before; `aligned=False` reads the same points but makes every RoI at least one cell long. Of RoIs "
        f"that are, the two {_apart(found['aligned_false'])}.",
        f"The RoIAlign that is differentiated is torchvision's in its values: the two {_apart(found['plain_torch'])}.",
    ]
    if None not in unmoved:
        samples = measured.data["measured"]["convention_samples"]
        lines.append(
            f"`aligned=True` without the move, as detectors are configured that are trained with it, is off by "
            f"{format_number(100 * sum(unmoved) / len(unmoved))} % with {samples} × {samples} samples: half a cell "
            "beside the place. It is not compared further."
        )
    return lines


def _apart(largest: float) -> str:
    """How far two sets of values lie apart."""
    return f"differ by at most {largest:.0e} of the largest value" if largest else "are equal to the last digit"


def _each(
    measured: MeasuredPooling, values: Mapping[str, float], unit: str, factor: float, digits: int | None = None
) -> str:
    """Values with their poolings: 4.1 % (1 × 1), 1.2 % (2 × 2) and 1.3 % (adaptive)."""
    parts = []
    for pooling, value in values.items():
        own = factor * value
        places = digits if digits is not None else (2 if abs(own) < 1 else 1)
        parts.append(f"{format_number(own, places)} {unit} ({_short(measured, pooling)})")
    return _joined(parts)


def _short(measured: MeasuredPooling, pooling: str) -> str:
    return measured.label(pooling).removeprefix("RoIAlign, ")


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _difference(measured: MeasuredPooling, pooling: str, side: object, interval: Interval) -> str:
    assert interval.bounds is not None
    return (
        f"{measured.label(pooling)}, {setting_label(side)}: "  # type: ignore[arg-type]
        f"{format_number(interval.mean, 2, signed=True)} ({format_range(*interval.bounds)})"
    )


def _most(intervals: Sequence[Interval]) -> float:
    """The end of these intervals that is farthest from 0."""
    return max(abs(bound) for interval in intervals for bound in interval.bounds or ())

"""The report as a list of blocks: what it says and in which order, from tables, figures and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.claims import Bootstrap, Verdict, judge_claims, load_claims, scoreboard
from reports.document.facts import (
    published_notes,
    reproducibility,
    scale_statement,
    stale_notes,
    statistics_notes,
    untrained_notes,
)
from reports.document.summary import summary
from reports.errors import NotInSuite, ReportError
from reports.figures import diagnostics
from reports.figures import illustrations as pictures
from reports.figures.illustrations import Illustration
from reports.figures.sweep_figures import FIGURES as SWEEP_FIGURES
from reports.results.collect import Results
from reports.results.published import Published
from reports.results.sweep import Sweep, comparison_table, conclusion, load_sweep, trials_table
from reports.tables.accuracy import CATALOGUE, IOUNET
from reports.tables.runs import models_table, training_cost_table
from reports.tables.speed import speed_figure, speed_table
from reports.tables.table import Table


@dataclass(frozen=True)
class Heading:
    """A section's heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Text with inline markdown; `aside` sets it off from the rest."""

    text: str
    aside: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list of lines with inline markdown."""

    items: Sequence[str]


@dataclass(frozen=True)
class TableBlock:
    """A numbered table."""

    table: Table
    number: int


@dataclass(frozen=True)
class FigureBlock:
    """A numbered figure."""

    illustration: Illustration
    number: int


Block = Heading | Paragraph | Bullets | TableBlock | FigureBlock


@dataclass
class Report:
    """Blocks in order, and the results they were made from."""

    results: Results
    blocks: list[Block] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    sweep: Sweep | None = None

    @property
    def tables(self) -> list[Table]:
        """All tables, in order."""
        return [block.table for block in self.blocks if isinstance(block, TableBlock)]

    @property
    def illustrations(self) -> list[Illustration]:
        """All figures, in order."""
        return [block.illustration for block in self.blocks if isinstance(block, FigureBlock)]

    def add_table(self, table: Table) -> None:
        """Append a table with the next number."""
        self.blocks.append(TableBlock(table, len(self.tables) + 1))

    def add_figure(self, illustration: Illustration) -> None:
        """Append a figure with the next number."""
        self.blocks.append(FigureBlock(illustration, len(self.illustrations) + 1))


RUN_TABLES = {"speed": speed_table, "models": models_table, "training_cost": training_cost_table}
RUN_TITLES = {"speed": "Inference speed", "models": "Log and model", "training_cost": "Cost of training"}
PARTS = (*CATALOGUE, *RUN_TABLES)  # what `only` may name


def variants_of(parts: Sequence[str], suite_variants: Sequence[str]) -> list[str]:
    """The suite's variants that a report on some parts reads."""
    needed = {v for part in parts for v in (CATALOGUE[part].variants if part in CATALOGUE else suite_variants)}
    return [variant for variant in suite_variants if variant in needed]


def assemble(
    results: Results,
    published: Mapping[str, Published],
    only: Sequence[str] | None = None,
    resamples: int | None = None,
) -> Report:
    """Make the report.

    Args:
        results: what was collected.
        published: the published sources.
        only: parts to report (see `PARTS`), without the claims and training curves; everything by default.
        resamples: image resamples for the intervals of the claims; 0 for none.

    Raises:
        MissingResult: a table, figure or claim that the suite can have lacks a file.
        ReportError: nothing of the report is in the suite.
    """
    report = Report(results)
    left_out: list[str] = []
    parts = list(only or PARTS)

    def attempt(title: str, make: Callable[[], Table | Illustration]) -> Table | Illustration | None:
        try:
            made = make()
        except NotInSuite as reason:
            left_out.append(f"{title}: {reason}.")
            return None
        return made

    made: dict[str, Table] = {}
    for key in parts:
        build, title = (
            (CATALOGUE[key].build, CATALOGUE[key].title) if key in CATALOGUE else (RUN_TABLES[key], RUN_TITLES[key])
        )
        table = attempt(f"Table “{title}”", lambda build=build: build(results, published))  # type: ignore[misc]
        if isinstance(table, Table):
            made[key] = table
    verdicts = report.verdicts = _verdicts(results, published, only, resamples, left_out)
    if not made:
        raise ReportError(f"{results.suite.path}: no table of the report has its variants in this suite")

    report.blocks.append(Heading(results.suite.title, 1))
    if results.suite.description:
        report.blocks.append(Paragraph(results.suite.description))
    report.blocks.append(Paragraph(scale_statement(results, published), aside=True))
    if verdicts:
        report.blocks.append(Heading("In short"))
        report.blocks.append(Bullets(summary(results, published, verdicts)))
        report.add_table(scoreboard(verdicts, published))

    def section(title: str, tables: Sequence[str], figures: Sequence[tuple[str, Callable[[], Illustration]]]) -> None:
        blocks = len(report.blocks)
        for key in tables:
            if key in made:
                report.add_table(made[key])
        for name, make in figures:
            figure = attempt(f"Figure “{name}”", make)
            if isinstance(figure, Illustration):
                report.add_figure(figure)
        if len(report.blocks) > blocks:
            report.blocks.insert(blocks, Heading(title))

    def when(key: str, name: str, make: Callable[[], Illustration]) -> list[tuple[str, Callable[[], Illustration]]]:
        return [(name, make)] if key in made else []

    section(
        "Main result",
        ["main"],
        when("main", "Improvement", lambda: pictures.improvement_figure(results, published, made["main"])),
    )
    section(
        "Ablation",
        ["ablation"],
        when("ablation", "AP by IoU threshold", lambda: pictures.threshold_figure(results)),
    )
    if only is None:
        figures = _diagnostic_figures(results, left_out)
        if figures:
            made["confidence"] = diagnostics.confidence_table(results)
        section("Why it works", ["confidence"], figures)
    has_pair = "main" in made and IOUNET in results.suite.variants
    section(
        "Sample detections", [], [("Sample detections", lambda: pictures.sample_figure(results))] if has_pair else []
    )
    section("Loss, and training RoIs", ["bce", "loss_weight"], [])
    section(
        "Step size of the refinement",
        ["step_size"],
        when("step_size", "AP by step size λ", lambda: pictures.step_size_figure(results, made["step_size"])),
    )
    section("Improvements of the published reproduction", ["guide", "improved"], [])
    section(
        "Inference speed",
        ["speed"],
        when("speed", "Time of inference", lambda: speed_figure(results, published)),
    )
    training = [
        ("Training losses", lambda: pictures.loss_figure(results)),
        ("AP by epoch", lambda: pictures.validation_figure(results)),
    ]
    if only is None:
        _search(report, attempt, resamples)
    section("Training", [], training if only is None else [])
    section("Runs", ["models", "training_cost"], [])
    untrained = untrained_notes(results)
    if untrained and only is None:
        report.blocks += [Heading("Not trained"), Bullets(untrained)]
    _appendix(report, published, left_out, verdicts)
    return report


def _search(
    report: Report, attempt: Callable[[str, Callable[[], Any]], Table | Illustration | None], resamples: int | None
) -> None:
    """The section on the hyper-parameter search."""
    report.sweep = sweep = load_sweep(report.results)
    report.blocks.append(Heading("Hyper-parameter search"))
    if sweep is None:
        report.blocks.append(
            Paragraph("Not run: `snakemake sweep` runs the search that a suite's `sweep:` block describes.")
        )
        return
    report.blocks.append(Bullets(conclusion(report.results, sweep, resamples)))
    report.add_table(comparison_table(sweep, resamples))
    report.add_table(trials_table(sweep))
    for name, make in SWEEP_FIGURES.items():
        figure = attempt(f"Figure “{name}”", lambda make=make: make(sweep))  # type: ignore[misc]
        if isinstance(figure, Illustration):
            report.add_figure(figure)


def _diagnostic_figures(results: Results, left_out: list[str]) -> list[tuple[str, Callable[[], Illustration]]]:
    """The figures of `reports.figures.diagnostics`, as far as there are diagnostics."""
    without = diagnostics.missing(results)
    if without:
        left_out.append(f"Diagnostics (“Why it works”): no diagnostics.json for {', '.join(without)}.")
    if results.diagnostics.empty:
        return []
    makers = {
        "Class score and predicted IoU": diagnostics.confidence_figure,
        "Survivors of NMS": diagnostics.survivor_figure,
        "Refinement": diagnostics.refinement_figure,
        "Ascent": diagnostics.ascent_figure,
    }
    return [(name, lambda make=make: make(results)) for name, make in makers.items()]  # type: ignore[misc]


def _verdicts(
    results: Results,
    published: Mapping[str, Published],
    only: Sequence[str] | None,
    resamples: int | None,
    left_out: list[str],
) -> list[Verdict]:
    if only is not None:
        return []
    bootstrap = (
        None if resamples == 0 else Bootstrap(results, **({} if resamples is None else {"resamples": resamples}))
    )
    verdicts, without = judge_claims(results, published, load_claims(), bootstrap)
    left_out += [f"Claim “{claim.text}”: {reason}." for claim, reason in without]
    return verdicts


def _appendix(
    report: Report, published: Mapping[str, Published], left_out: Sequence[str], verdicts: Sequence[Verdict]
) -> None:
    results = report.results
    report.blocks += [Heading("How the numbers are made"), Bullets(statistics_notes(results, verdicts))]
    stale = stale_notes(results)
    if stale:
        report.blocks += [Heading("Stale results (†)"), Bullets(stale)]
    report.blocks += [Heading("Machine, versions, seeds"), Bullets(reproducibility(results))]
    report.blocks += [Heading("Published figures"), Bullets(published_notes(published))]
    if left_out:
        report.blocks += [Heading("Left out"), Bullets(left_out)]

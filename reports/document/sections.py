"""The report's sections, as data: what each shows, and in which order.

A new table is a module in `reports/tables` and one line here; a new figure one in
`reports/figures`, a line in its `catalogue`, and its key here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reports.context import Context
from reports.document.facts import (
    published_notes,
    reproducibility,
    stale_notes,
    statistics_notes,
    untrained_notes,
)
from reports.document.search import conclusion
from reports.document.summary import claim_notes, summary
from reports.registration import registered_notes
from reports.results.diagnostics import missing
from reports.tables import accuracy, claims, confidence, runs, search, speed, variants
from reports.tables.table import TableEntry


@dataclass(frozen=True)
class Section:
    """A section of the report: heading, text, tables, figures. Without any of these there is no heading.

    Attributes:
        figures: keys of `reports.figures.catalogue.FIGURES`.
        text: its lines (a list) or its one paragraph (a string).
        missing: what it cannot show, as lines for “Left out”.
        is_part: whether a report on some parts (`--only`) can have it; its tables are then such parts.
    """

    title: str
    tables: tuple[TableEntry, ...] = ()
    figures: tuple[str, ...] = ()
    text: Callable[[Context], Sequence[str] | str] = lambda context: ()
    missing: Callable[[Context], Sequence[str]] = lambda context: ()
    is_part: bool = True


def _diagnostics_missing(context: Context) -> list[str]:
    without = missing(context.results)
    return [f"Diagnostics (“Why it works”): no diagnostics.json for {', '.join(without)}."] if without else []


def _search_text(context: Context) -> list[str] | str:
    if context.search is None:
        return "Not run: `snakemake sweep` runs the search that a suite's `sweep:` block describes."
    return conclusion(context.results, context.search)


SECTIONS = (
    Section("In short", tables=(claims.CLAIMS,), text=summary, is_part=False),
    Section("Behind the verdicts", tables=(claims.EFFECTS, claims.POWER), text=claim_notes, is_part=False),
    Section("Main result", tables=(accuracy.MAIN,), figures=("improvement",)),
    Section("Ablation", tables=(accuracy.ABLATION_TABLE,), figures=("thresholds",)),
    Section(
        "Why it works",
        tables=(confidence.CONFIDENCE,),
        figures=("confidence", "survivors", "refinement", "ascent"),
        text=lambda c: confidence.premise(c.results),
        missing=_diagnostics_missing,
        is_part=False,
    ),
    Section("Every variant", tables=(variants.EVERY_VARIANT, variants.BY_CLASS)),
    Section("Sample detections", figures=("samples", "nms", "samples_of_variants")),
    Section("Loss, and training RoIs", tables=(accuracy.BCE_LOSS, accuracy.LOSS_WEIGHT)),
    Section("Step size of the refinement", tables=(accuracy.STEP_SIZE,), figures=("step_size",)),
    Section("Improvements of the published reproduction", tables=(accuracy.GUIDE, accuracy.IMPROVED_TABLE)),
    Section("Inference speed", tables=(speed.SPEED,), figures=("speed",)),
    Section(
        "Hyper-parameter search",
        tables=(search.COMPARISON, search.TRIALS),
        figures=("sweep_history", "sweep_importance", "sweep_slices", "sweep_pairs", "sweep_profiles"),
        text=_search_text,
        is_part=False,
    ),
    Section("Training", figures=("losses", "validation"), is_part=False),
    Section("Runs", tables=(runs.MODELS, runs.TRAINING_COST)),
    Section("Not trained", text=lambda c: untrained_notes(c.results), is_part=False),
    Section("Registered before the run", text=lambda c: registered_notes(c.results), is_part=False),
    Section("How the numbers are made", text=lambda c: statistics_notes(c.results)),
    Section("Stale results (†)", text=lambda c: stale_notes(c.results)),
    Section("Machine, versions, seeds", text=lambda c: reproducibility(c.results)),
    Section("Published figures", text=lambda c: published_notes(c.published)),
)
TABLES: dict[str, TableEntry] = {entry.key: entry for section in SECTIONS for entry in section.tables}
PARTS = tuple(entry.key for section in SECTIONS if section.is_part for entry in section.tables)  # what `only` may name

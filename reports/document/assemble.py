"""From results to the report's blocks: one loop over the sections, and a line for whatever is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from reports.claims import load_claims
from reports.context import Context
from reports.document.blocks import Bullets, Heading, Paragraph, Report
from reports.document.facts import scale_statement
from reports.document.sections import PARTS, SECTIONS, TABLES, Section
from reports.errors import NothingToShow, ReportError
from reports.figures.catalogue import FIGURES
from reports.figures.figure import Illustration
from reports.results.blank import blank_notes
from reports.results.collect import Results
from reports.results.published import Published
from reports.results.search import load_search
from reports.tables.table import Table, TableEntry
from reports.verdicts import Verdict, judge_claims
from suite.errors import NotInSuite
from suite.suite import Suite

Made = TypeVar("Made")


def variants_of(suite: Suite, only: Sequence[str]) -> list[str]:
    """The suite's variants that a report on some parts reads.

    Raises:
        ReportError: no such part.
    """
    for part in only:
        if part not in PARTS:
            raise ReportError(f"--only {part}: unknown; choose from {', '.join(PARTS)}")
    needed = {suite.roles.get(name, name) for part in only for name in TABLES[part].variants or suite.variants}
    return [variant for variant in suite.variants if variant in needed]


def assemble(
    results: Results,
    published: Mapping[str, Published],
    only: Sequence[str] | None = None,
) -> Report:
    """Make the report.

    Args:
        results: what was collected.
        published: the published sources.
        only: parts to report (`PARTS`), without the sections that are about everything; the whole report by default.

    Raises:
        MissingResult: a table, figure or claim that the suite can have lacks a file.
        ReportError: nothing of the report is in the suite.
    """
    verdicts, untested = ([], []) if only is not None else _judged(results, published)
    search = load_search(results) if only is None else None
    context = Context(results, published, search, verdicts)
    sections = [section for section in SECTIONS if section.is_part or only is None]
    left_out: list[str] = []
    tables = _tables(context, sections, only, left_out)
    if not any(part in tables for part in PARTS):
        raise ReportError(f"suite '{results.suite.name}': no table of the report has its variants in this suite")
    left_out += untested

    report = Report(context)
    report.add(Heading(results.suite.title, 1))
    if results.suite.description:
        report.add(Paragraph(results.suite.description))
    report.add(Paragraph(scale_statement(results, published), aside=True))
    if only is not None and (notes := blank_notes(results)):  # the whole report has them in its first section
        report.add(Bullets(notes))
    for section in sections:
        _add_section(report, section, tables, left_out)
    if left_out:
        report.add(Heading("Left out"), Bullets(left_out))
    return report


def _judged(results: Results, published: Mapping[str, Published]) -> tuple[list[Verdict], list[str]]:
    """The verdicts, and a line for each reason for which the suite cannot test some claims."""
    verdicts, untested = judge_claims(results, published, load_claims())
    by_reason: dict[str, list[str]] = {}
    for claim, reason in untested:
        by_reason.setdefault(reason, []).append(f"“{claim.text}”")
    lines = [
        f"Claim{'s' if len(claims) > 1 else ''} {', '.join(claims)}: {reason}." for reason, claims in by_reason.items()
    ]
    return verdicts, lines


def _tables(
    context: Context, sections: Sequence[Section], only: Sequence[str] | None, left_out: list[str]
) -> dict[str, Table]:
    """The tables of the sections, by key."""
    tables = {}
    for entry in (entry for section in sections for entry in section.tables):
        if only is not None and entry.key not in only:
            continue
        table = _attempt(f"Table “{entry.title}”", partial(_table, entry, context), left_out)
        if table is not None:
            tables[entry.key] = table
    return tables


def _table(entry: TableEntry, context: Context) -> Table | None:
    context.results.suite.require(*entry.variants)
    return entry.make(context)


def _add_section(report: Report, section: Section, tables: Mapping[str, Table], left_out: list[str]) -> None:
    """Append what there is of a section."""
    context = report.context
    parts: list[Paragraph | Bullets | Table | Illustration] = []
    text = section.text(context)
    if text:
        parts.append(Paragraph(text) if isinstance(text, str) else Bullets(text))
    parts += [tables[entry.key] for entry in section.tables if entry.key in tables]
    left_out += section.missing(context)
    for entry in (FIGURES[key] for key in section.figures):
        if entry.table and entry.table not in tables:
            continue
        figure = _attempt(f"Figure “{entry.title}”", partial(entry.make, context), left_out)
        if figure is not None:
            parts.append(figure)
    if parts:
        report.add(Heading(section.title), *parts)


def _attempt(name: str, make: Callable[[], Made], left_out: list[str]) -> Made | None:
    """What `make` makes; None, and a line in `left_out`, where the suite lacks what it needs or it would be empty."""
    try:
        return make()
    except (NotInSuite, NothingToShow) as reason:
        left_out.append(f"{name}: {reason}.")
        return None

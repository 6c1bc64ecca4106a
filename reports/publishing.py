"""What every page of a suite's results has in common: its folder, its example, the line that says what was written."""

from __future__ import annotations

from pathlib import Path

from reports.document.blocks import Report
from reports.document.links import Links
from reports.example import write_example
from reports.writing import check_replaceable, replace_folder, write_report
from suite.layout import ReportFolder


def check_folders(out: Path, example: Path | None) -> None:
    """Refuse folders that hold anything but a report, before one is built. Raises `ReportError`."""
    for folder in (out, example):
        if folder is not None:
            check_replaceable(folder)


def publish(report: Report, results: Path, out: Path, example: Path | None) -> None:
    """Replace a report's folder, and that of its example, once the new one is complete.

    Args:
        report: the report.
        results: the results folder that its links lead to.
        out: the report's folder.
        example: of a light copy, with what its links lead to beside it, thinned; None for no copy.
    """
    replace_folder(out, lambda folder: write_report(report, folder, Links(results, out)))
    if example is not None:
        replace_folder(example, lambda folder: write_example(report, folder, Links(results, example, copied=True)))


def published(report: Report, out: Path) -> str:
    """The line that says what was written."""
    counts = f"{_count(len(report.tables), 'table')}, {_count(len(report.illustrations), 'figure')}"
    return f"{ReportFolder(out).readme}: {counts}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"

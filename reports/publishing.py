"""What every page of a suite's results has in common: its command line, its folder, its example, what is said of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from reports.document.blocks import Report
from reports.document.links import Links
from reports.errors import ReportError
from reports.example import write_example
from reports.writing import check_replaceable, replace_folder, write_report
from suite.errors import SuiteError
from suite.layout import ReportFolder


def run_command(
    parser: argparse.ArgumentParser, build: Callable[..., Report], arguments: Sequence[str] | None = None
) -> int:
    """A page's command line; returns the exit status.

    Args:
        parser: has the options that this page alone has.
        build: takes suite, results and out, and every other option by its name.
        arguments: of the command line.
    """
    parser.add_argument("--suite", type=Path, required=True, help="the suite's YAML")
    parser.add_argument("--results", type=Path, required=True, help="its results folder, results/<suite>")
    parser.add_argument("--out", type=Path, required=True, help="the page's folder, replaced when the new is complete")
    parser.add_argument("--example", type=Path, help="also write a light copy here, with the files it links to")
    parser.add_argument("--resamples", type=int, help="image sets behind the intervals of differences; 0 for none")
    options = vars(parser.parse_args(arguments))
    suite, results, out = (options.pop(name) for name in ("suite", "results", "out"))
    try:
        report = build(suite, results, out, **options)
    except (ReportError, SuiteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(_written(report, out))
    return 0


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


def _written(report: Report, out: Path) -> str:
    """The line that says what was written."""
    counts = f"{_count(len(report.tables), 'table')}, {_count(len(report.illustrations), 'figure')}"
    return f"{ReportFolder(out).readme}: {counts}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"

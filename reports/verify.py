"""Judge the code by a run: `python -m reports.verify --suite S --results FOLDER --reference FILE`.

Compares every figure of the run with the distribution that many trainings of the same recipe gave
(`reports/reference/`). Whether the paper's claims hold is the report's matter, not this command's.

0: every figure is within chance; 1: one is not; 2: the run cannot be judged.
With `--record` the run's trainings are added to the reference.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reports.errors import ReportError
from reports.reference.compare import FALSE_ALARM, compare
from reports.reference.trainings import FEWEST, FOLDER, joined, read_trainings, trainings_of, write_trainings
from reports.results.collect import collect
from reports.tables.table import format_number
from suite.errors import SuiteError
from suite.suite import Suite, load_suite
from suite.utf8 import ensure_utf8

PASSED, FAILED, UNDECIDABLE = 0, 1, 2


def verify(suite: Path, results: Path, reference: Path) -> tuple[int, list[str]]:
    """Judge a run.

    Returns:
        The exit status, and what to print.

    Raises:
        ReportError: the run, or the reference, is incomplete or damaged, or they are of two recipes.
    """
    loaded = load_suite(suite)
    known = read_trainings(reference)
    rows = compare(trainings_of(collect(loaded, results)), known)
    outside = [row for row in rows if not row.fits]
    lines = [
        f"{row.variant}, {row.setting}, {row.metric}: {format_number(row.run)}, "
        f"reference {format_number(row.reference)} ± {format_number(row.tolerance)}"
        for row in sorted(outside, key=lambda row: -abs(row.run - row.reference) / row.tolerance)
    ]
    lines.append(
        f"{len(rows) - len(outside)} of {len(rows)} figures of {len(loaded.seeds)} trainings per variant are within "
        f"chance of the reference's {known.number} (false alarms of a whole run: {FALSE_ALARM:.0%})"
    )
    return (FAILED if outside else PASSED), lines


def record(suite: Suite, results: Path, reference: Path) -> str:
    """Add a run's trainings to the reference; one that it has already is not added again.

    Returns:
        What to print.

    Raises:
        ReportError: the run is incomplete or stale, or of another recipe than the reference.
    """
    run = trainings_of(collect(suite, results))
    known = joined(read_trainings(reference), run) if reference.exists() else run
    write_trainings(reference, known)
    return f"{reference}: {known.number} trainings of each variant, {FEWEST} are needed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.verify", description="Fail if a run's figures are not those of the reference."
    )
    parser.add_argument("--suite", type=Path, required=True, help="the suite's YAML")
    parser.add_argument("--results", type=Path, required=True, help="its results folder, results/<suite>")
    parser.add_argument("--reference", type=Path, help=f"default: {FOLDER.name}/<suite>.json")
    parser.add_argument("--record", action="store_true", help="add this run to the reference instead")
    options = parser.parse_args(arguments)
    try:
        suite = load_suite(options.suite)
        reference = options.reference or FOLDER / f"{suite.name}.json"
        if options.record:
            print(record(suite, options.results, reference))
            return PASSED
        status, lines = verify(options.suite, options.results, reference)
    except (ReportError, SuiteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return UNDECIDABLE
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    ensure_utf8()
    raise SystemExit(main())

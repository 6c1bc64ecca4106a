"""Exit status from a report's verdicts, for the CI of a reproducer: `python -m reports.verify --report FOLDER`.

0: no claim is contradicted; 1: one is; 2: there are no verdicts to go by, or one of them rests on stale results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reports.claims import CONTRADICTED
from reports.errors import ReportError
from reports.results.files import read_json
from reports.tables.table import format_number, format_range
from suite.layout import ReportFolder

PASSED, FAILED, UNDECIDABLE = 0, 1, 2


def verify(report: Path) -> tuple[int, list[str]]:
    """Judge a report.

    Args:
        report: its folder, with verdicts.json.

    Returns:
        The exit status, and a line for each claim.

    Raises:
        ReportError: verdicts.json is missing, damaged or empty.
    """
    path = ReportFolder(report).verdicts
    verdicts = read_json(path)
    if not verdicts:
        raise ReportError(f"{path}: no claim was judged")
    width = max(len(verdict["verdict"]) for verdict in verdicts)
    lines = []
    for verdict in verdicts:
        interval = f", 95 % interval {format_range(*verdict['interval'])}" if verdict["interval"] else ", no interval"
        effect = f"{verdict['metric']} {format_number(verdict['difference'], signed=True)}{interval}"
        stale = " (stale: run the suite again)" if verdict["stale"] else ""
        lines.append(f"{verdict['verdict']:<{width}}  {verdict['claim']}: {effect}{stale}")
    if any(verdict["stale"] for verdict in verdicts):
        return UNDECIDABLE, lines
    return FAILED if any(verdict["verdict"] == CONTRADICTED for verdict in verdicts) else PASSED, lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.verify", description="Fail if a report contradicts a published claim."
    )
    parser.add_argument("--report", type=Path, required=True, help="the report's folder")
    options = parser.parse_args(arguments)
    try:
        status, lines = verify(options.report)
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNDECIDABLE
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    raise SystemExit(main())

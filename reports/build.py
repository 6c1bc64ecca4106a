"""Build the report.

python -m reports.build --suite experiments/shapes.yaml --results results/shapes --out results/shapes/report
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reports.document.assemble import assemble, variants_of
from reports.document.blocks import Report
from reports.document.sections import PARTS
from reports.publishing import check_folders, publish, run_command
from reports.results.collect import collect
from reports.results.published import load_published
from suite.suite import load_suite
from suite.utf8 import ensure_utf8


def build(
    suite: Path,
    results: Path,
    out: Path,
    *,
    only: Sequence[str] | None = None,
    seeds: list[int] | None = None,
    example: Path | None = None,
    resamples: int | None = None,
) -> Report:
    """Build the report of a suite's results.

    Args:
        suite: the suite's YAML.
        results: its results folder.
        out: the report's folder; replaced only when the new report is complete.
        only: parts to report (`reports.document.sections.PARTS`); everything by default.
        seeds: report these seeds in place of the suite's.
        example: also write a light copy here, with what its links lead to beside it, thinned.
        resamples: image sets behind the intervals of differences; 0 for none.

    Raises:
        ReportError: naming file and key.
        SuiteError: the suite cannot be used.

        `out` and `example` are then as they were.
    """
    check_folders(out, example)
    loaded = load_suite(suite)
    if seeds:
        loaded = loaded.changed(seeds=seeds)
    variants = variants_of(loaded, only) if only else None
    report = assemble(collect(loaded, results, variants, resamples), load_published(), only)
    publish(report, results, out, example)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.build", description="Build the report of a suite's results."
    )
    parser.add_argument("--only", nargs="+", metavar="PART", help=f"report some parts only: {', '.join(PARTS)}")
    parser.add_argument("--seeds", nargs="+", type=int, help="report these seeds in place of the suite's")
    return run_command(parser, build, arguments)


if __name__ == "__main__":
    ensure_utf8()
    raise SystemExit(main())

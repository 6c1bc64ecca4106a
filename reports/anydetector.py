"""Build the page on a refiner with the boxes of any detector.

python -m reports.anydetector --suite experiments/shapes.yaml --results results/shapes --out results/shapes/anydetector
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reports.document.anydetector import assemble
from reports.document.blocks import Report
from reports.publishing import check_folders, publish, run_command
from reports.results.collect import collect
from reports.results.published import load_published
from reports.results.treatments import remedied, with_treatments
from suite.suite import load_suite
from suite.utf8 import ensure_utf8


def build(
    suite: Path, results: Path, out: Path, *, example: Path | None = None, resamples: int | None = None
) -> Report:
    """Build the page.

    Args:
        suite: the suite's YAML.
        results: its results folder.
        out: the page's folder; replaced only when the new page is complete.
        example: also write a light copy here, with what its links lead to beside it, thinned.
        resamples: image sets behind the intervals of differences; 0 for none.

    Raises:
        ReportError: naming file and key.
        SuiteError: the suite cannot be used, or has no baseline.

        `out` and `example` are then as they were.
    """
    check_folders(out, example)
    loaded = load_suite(suite)
    with remedied():
        found, treated = with_treatments(collect(loaded, results, loaded.treated, resamples, trainings_only=True))
        report = assemble(found, treated, load_published())
    publish(report, results, out, example)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.anydetector", description="Build the page on a refiner with the boxes of any detector."
    )
    return run_command(parser, build, arguments)


if __name__ == "__main__":
    ensure_utf8()
    raise SystemExit(main())

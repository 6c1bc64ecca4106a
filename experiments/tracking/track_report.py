"""Logs a report to Weights & Biases: `python -m experiments.tracking.track_report --report results/<suite>/report`."""

import argparse
import sys
from pathlib import Path

from experiments.tracking import stages as tracking
from suite.errors import SuiteError
from suite.files import read_json
from suite.suite import Suite, load_suite


def track_report(suite: Suite, report: Path) -> str | None:
    """Logs a report's folder as it is; its inputs are the evaluations that its provenance.json names.

    Returns:
        The run's id; None if nothing was logged.
    """
    files = read_json(report / "provenance.json")["files"]
    uses = {
        tracking.evaluation_artifact(suite, record["variant"], record["seed"], record["split"], record["wandb_run_id"])
        for name, record in files.items()
        if name.startswith("evaluations/") and record.get("wandb_run_id")
    }
    return tracking.log_report(suite, report, sorted(uses))


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Log a report's tables and figures to Weights & Biases.")
    parser.add_argument("--report", type=Path, required=True, help="the report's folder")
    parser.add_argument("--suite", type=Path, help="suite YAML (default: suite.yaml beside the report)")
    options = parser.parse_args(arguments)
    try:
        suite = load_suite(options.suite or options.report.parent / "suite.yaml")
        if not (options.report / "provenance.json").is_file():
            raise SuiteError(f"{options.report / 'provenance.json'} is missing: build the report first (snakemake)")
    except SuiteError as error:
        sys.exit(f"error: {error}")
    # results/<suite>/report says where results/ is, whatever the suite's file says
    track_report(suite.changed(results=str(options.report.resolve().parents[1])), options.report)


if __name__ == "__main__":
    main()

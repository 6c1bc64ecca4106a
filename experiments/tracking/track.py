"""Writes the W&B runs of finished stages that have none: `python -m experiments track [FOLDER_OR_FILE...]`.

A command that finishes a stage hands it to `track_finished`. What was killed before that, or ran while W&B was
disabled, is found by `track`. The evaluations of a sweep are left to `sweeps.summary`, which knows the configs of its
trials.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from experiments.finished import Finished
from experiments.tracking.damaged import set_aside_damaged
from experiments.tracking.data import data_stage
from experiments.tracking.evaluation import evaluation_stage
from experiments.tracking.pooling import measured_stage, swapped_stage
from experiments.tracking.report import report_stage
from experiments.tracking.runs import Stage, log, logged_as, mode, run_of_first_release, tracks
from experiments.tracking.speed import speed_stage
from experiments.tracking.telling import tell
from experiments.tracking.training import training_stage
from experiments.tracking.treatments import treatment_stage
from experiments.tracking.trial import trial_stage
from suite import records
from suite.errors import SuiteError, exits_on_error
from suite.layout import (
    SUITE_FILE,
    DataFolder,
    EvaluationFolder,
    Folder,
    Layout,
    RefinerFolder,
    ReportFolder,
    RunFolder,
    TreatmentFolder,
)
from suite.suite import Suite, load_suite

Reader = Callable[[], Stage]

UNFINISHED = (  # by what the last file of a stage is called; what to do where it is missing
    ("dataset.json", "make the data first (snakemake data)"),
    ("run.json", "train it first (snakemake all)"),
    ("evaluation.json", "evaluate it first (snakemake all)"),
    ("provenance.json", "build the report first (snakemake)"),
)


@tracks
def track_finished(finished: Finished) -> str | None:
    """Logs what a command finished. Returns the run's id; None if nothing was logged."""
    stage = stage_at(finished.suite, finished.path)()
    return log(finished.suite, stage, is_uploaded=finished.is_reachable)


def track(suite: Suite) -> int:
    """Writes the runs that are missing, or damaged, of a suite's finished stages; says on stderr what could not be.

    Returns:
        The number of runs that were written.
    """
    if mode() == "disabled":
        return 0
    set_aside_damaged(suite.layout.wandb)
    return sum(_log_missing(suite, read) is not None for read in finished_stages(suite))


def track_all(results: Path) -> int:
    """The same for every suite below a folder of results."""
    written = 0
    for layout in Layout.all_below(results):
        try:
            suite = _in_place(load_suite(layout.suite_file), layout)
        except SuiteError as error:
            tell(f"{layout.root} goes untracked: {error}")
            continue
        written += track(suite)
    return written


def finished_stages(suite: Suite) -> Iterator[Reader]:
    """What reads each finished stage of a suite, and each trial that was not logged to its end."""
    layout = suite.layout
    if layout.data.manifest.is_file() and not _is_of_first_release(suite, layout.data, "data"):
        yield partial(data_stage, suite, layout.data)
    if layout.pretraining.run.is_file():
        yield partial(training_stage, suite, layout.pretraining)
    for run in layout.runs():
        yield partial(training_stage, suite, run)
    for variant, evaluation in layout.evaluations():
        if variant in suite.variants:
            yield partial(evaluation_stage, suite, evaluation)
    for refiner in layout.refiners():
        yield partial(training_stage, suite, refiner)
    for treated in layout.all_treated():
        yield partial(treatment_stage, suite, treated)
    for swapped in layout.all_swapped():
        yield partial(swapped_stage, suite, swapped)
    if layout.measured_pooling.is_file():
        yield partial(measured_stage, suite)
    for path in layout.speeds():
        yield partial(speed_stage, suite, path.stem)
    for path in layout.sweep.trial_records():
        yield partial(_claimed_trial, suite, path)
    for page in layout.pages:
        if page.provenance.is_file() and not _is_of_first_release(suite, page, page.path.name):
            yield partial(report_stage, suite, page)


def stage_at(suite: Suite, path: Path) -> Reader:
    """What reads the finished stage in a folder, or that a file belongs to.

    Raises:
        SuiteError: nothing finished lies there.
    """
    folder = path.parent if path.is_file() else path
    root = suite.layout.root.resolve()
    if folder.resolve() == root / "speed":
        return partial(speed_stage, suite, path.stem)
    if folder.resolve().is_relative_to(root / "sweep"):
        raise SuiteError(f"{path} is part of a sweep: its workers and sweeps.summary log it")
    if path.resolve() == suite.layout.measured_pooling.resolve():
        return partial(measured_stage, suite)
    if folder.resolve().is_relative_to(root / "pooling_data") and EvaluationFolder(folder).index.is_file():
        return partial(swapped_stage, suite, EvaluationFolder(folder))
    if DataFolder(folder).manifest.is_file():
        return partial(data_stage, suite, DataFolder(folder))
    if RefinerFolder(folder).checkpoint.is_file() and RefinerFolder(folder).run.is_file():
        return partial(training_stage, suite, RefinerFolder(folder))
    if RunFolder(folder).run.is_file():
        return partial(training_stage, suite, RunFolder(folder))
    if folder.resolve().is_relative_to(root / "treatments") and TreatmentFolder(folder).index.is_file():
        return partial(treatment_stage, suite, TreatmentFolder(folder))
    if EvaluationFolder(folder).index.is_file():
        return partial(evaluation_stage, suite, EvaluationFolder(folder))
    if ReportFolder(folder).provenance.is_file():
        return partial(report_stage, suite, ReportFolder(folder))
    lines = "\n".join(f"  {name} is missing: {remedy}" for name, remedy in UNFINISHED)
    raise SuiteError(f"{path} is no finished stage, be it data, training, evaluation or report:\n{lines}")


@tracks
def _log_missing(suite: Suite, read: Reader) -> str | None:
    """Logs a stage that is not. Returns the run's id; None if nothing was logged."""
    stage = read()
    return log(suite, stage) if logged_as(suite, stage) is None else None


def _claimed_trial(suite: Suite, path: Path) -> Stage:
    record = records.read_record(path)
    assert record is not None
    return trial_stage(suite, path, record.identity["trial"], record.identity["curve"])


def _is_of_first_release(suite: Suite, folder: Folder, kind: str) -> bool:
    """Whether data or report were logged when there were no records."""
    return run_of_first_release(suite, f"{suite.name}__{kind}", folder.record) is not None


def _in_place(suite: Suite, layout: Layout) -> Suite:
    """A suite whose results lie there, whatever its file says. Raises `SuiteError`."""
    if layout.root.name != suite.name:
        raise SuiteError(f"{layout.suite_file} is of suite '{suite.name}': its folder must have that name")
    return suite.changed(results=str(layout.root.parent))


def _suite_of(path: Path, suite_file: Path | None) -> Suite:
    """The suite that a path belongs to: of the given file, or of the nearest suite.yaml above the path."""
    layout = Layout.around(path)
    if suite_file is None:
        if layout is None:
            raise SuiteError(f"{path}: there is no {SUITE_FILE} above it: name the suite with --suite")
        return _in_place(load_suite(layout.suite_file), layout)
    suite = load_suite(suite_file)
    return suite if layout is None or layout.root.name != suite.name else _in_place(suite, layout)


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments track", description="Write the W&B runs of finished stages that have none."
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="FOLDER_OR_FILE", help="log these stages only (default: every suite's)"
    )
    parser.add_argument("--suite", type=Path, help="suite YAML (default: the suite.yaml above each stage)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="every suite's (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.paths:
        suites = [(path, _suite_of(path, options.suite)) for path in options.paths]
        stages = [(suite, stage_at(suite, path)) for path, suite in suites]
        written = sum(_log_missing(suite, read) is not None for suite, read in stages)
    elif options.suite:
        written = track(_suite_of(options.suite, options.suite))
    else:
        written = track_all(options.results)
    print(f"{written} runs written")
    return 0

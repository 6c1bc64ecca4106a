"""The results of the hyper-parameter search: its files as frames, checked against the suite.

AP is in points (× 100). Step sizes λ and training parameters are in published units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.errors import ReportError
from reports.results.collect import Results
from reports.results.files import need, need_all, read_json, read_table
from reports.results.matches import Matches, average_precision, draw_image_weights, load_matches
from reports.results.readers import METRICS
from reports.results.sides import POINTS
from reports.results.source import Source
from reports.statistics import RESAMPLES, Interval, Term, estimate
from suite.layout import Layout, SweepFolder
from suite.records import run_id
from suite.search import PARAMETERS

SUMMARY = (
    *("study", "base", "space", "budget", "states", "epochs", "full_epochs"),
    *("seconds", "settings", "split", "sampler", "pruner"),
)
TRIALS = ("number", "state", "published", "value", "guide", "step_size", "seconds")
CURVES = ("number", "epoch", "AP")
PROFILES = ("number", "guide", "step_size", "actual_step_size", "AP")
SIDES = ("default", "winner")


@dataclass(frozen=True)
class SearchResults:
    """A finished search.

    Attributes:
        layout: of the results that it is part of.
        summary, best, importance: the contents of sweep.json, best.json and importance.json.
        trials: one row per trial (see `sweeps.summary`), `value` in points, `source` = published label or 'sampler'.
        curves: `number, epoch, AP` in points: validation during the trials.
        profiles: `number, guide, step_size, actual_step_size, AP` in points: every complete trial in every setting.
        evaluations: (side, setting) to the contents of its evaluation file on the report split, and its W&B run.
        matches: (side, setting) to what a bootstrap resamples.
    """

    layout: Layout
    summary: Mapping[str, Any]
    best: Mapping[str, Any]
    importance: Mapping[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame
    profiles: pd.DataFrame
    evaluations: Mapping[tuple[str, str], Mapping[str, Any]]
    matches: Mapping[tuple[str, str], Matches] = field(repr=False)

    @property
    def complete(self) -> pd.DataFrame:
        """The complete trials."""
        return self.trials[self.trials["state"] == "complete"]

    def trial(self, number: int) -> Any:
        """The row of one trial."""
        return self.trials.set_index("number").loc[number]

    def trial_source(self, number: int, column: str) -> Source:
        """Where a value of a trial is written."""
        path = self.layout.sweep.trials
        return Source(self.layout.relative(path), f"{number}/{column}", "sweep", path.name)

    def evaluation_source(self, side: str, setting: str, key: str = "metrics.AP") -> Source:
        """Where a value of an evaluation on the report split is written."""
        path = self.layout.sweep.evaluation(side).setting(setting)
        return Source(self.layout.relative(path), key, "sweep", path.name, setting=setting)


def load_search(results: Results) -> SearchResults | None:
    """Read the search of a results folder; None if there is no finished one.

    Raises:
        ReportError: a file is damaged or belongs to another suite or dataset; the message names file and key.
        MissingResult: a file that sweep.json promises is not there.
    """
    folder = results.layout.sweep
    if not folder.summary.exists():
        return None
    summary = _summary(results, folder)
    settings = list(dict.fromkeys(summary["settings"].values()))
    names = [(side, setting) for side in SIDES for setting in settings]
    evaluations = {name: _evaluation(results, folder, *name) for name in names}
    return SearchResults(
        layout=results.layout,
        summary=summary,
        best=read_json(folder.best),
        importance=read_json(folder.importance),
        trials=_trials(folder),
        curves=_in_points(_table(folder.curves, CURVES)),
        profiles=_in_points(_table(folder.profiles, PROFILES)),
        evaluations=evaluations,
        matches={name: _matches(folder, *name, evaluations[name]) for name in names},
    )


def _summary(results: Results, folder: SweepFolder) -> Any:
    path = folder.summary
    summary = read_json(path)
    need_all(summary, SUMMARY, path)
    expected = {"suite": results.suite.name, "report_split": results.suite.report_split}
    if results.dataset is not None:
        expected["dataset_fingerprint"] = results.dataset["fingerprint"]
    for key, value in expected.items():
        if need(summary, key, path) != value:
            raise ReportError(
                f"{path}: belongs elsewhere: key '{key}' is {summary[key]!r}, expected {value!r}; sweep again"
            )
    return summary


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    # 'none' is a guide, not a missing value
    return read_table(path, columns, "sweep again", keep_default_na=False, na_values=[""])


def _trials(folder: SweepFolder) -> pd.DataFrame:
    trials = _table(folder.trials, TRIALS)
    trials = trials.assign(value=POINTS * trials["value"].astype(float))
    source = trials["published"].fillna("sampler") if trials["published"].notna().any() else "sampler"
    return trials.assign(source=source)


def _in_points(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(AP=POINTS * frame["AP"])


def _evaluation(results: Results, folder: SweepFolder, side: str, setting: str) -> Mapping[str, Any]:
    path = folder.evaluation(side).setting(setting)
    data = read_json(path)
    expected = {"suite": results.suite.name, "split": results.suite.report_split, "setting.name": setting}
    for key, value in expected.items():
        if need(data, key, path) != value:
            raise ReportError(f"{path}: belongs elsewhere: key '{key}' is not {value!r}; sweep again")
    need_all(data, (f"metrics.{metric}" for metric in METRICS), path)
    need_all(data, ("seed", "variant", "checkpoint_sha256", "config_hash", "git_commit"), path)
    return {**data, "wandb_run_id": run_id(folder.evaluation(side).record, data)}


def _matches(folder: SweepFolder, side: str, setting: str, evaluation: Mapping[str, Any]) -> Matches:
    own = folder.evaluation(side)
    return load_matches(own.matches(setting), evaluation["metrics"]["AP"], own.setting(setting).name)


def difference(
    search: SearchResults, left: tuple[str, str], right: tuple[str, str], resamples: int = RESAMPLES
) -> Interval:
    """AP of one (side, setting) minus that of another on the report split: of one training each.

    Args:
        search: the search.
        left: what is compared.
        right: what it is compared with.
        resamples: image sets; 0 for no interval.

    Raises:
        ReportError: the two were evaluated on different images.
    """
    sets = [search.matches[side] for side in (left, right)]
    values = [np.array([POINTS * float(search.evaluations[side]["metrics"]["AP"])]) for side in (left, right)]
    draws: list[NDArray[np.float64] | None] = [None, None]
    if resamples:
        if sets[0].image_ids != sets[1].image_ids:
            folders = " and ".join(str(search.layout.sweep.evaluation(side).path) for side, _ in (left, right))
            raise ReportError(f"{folders}: evaluated on different images; sweep again")
        weights = draw_image_weights(len(sets[0].image_ids), resamples)
        draws = [POINTS * average_precision(matches, weights).mean(axis=1)[None] for matches in sets]
    return estimate([Term(values[0], draws[0]), Term(values[1], draws[1], weight=-1.0)])


def parameters_text(row: Mapping[str, Any]) -> str:
    """A trial's training parameters, in published units."""
    texts = [
        f"{parameter.label} {row[key]:.3g}"
        for key, parameter in PARAMETERS.items()
        if key in row and row[key] is not None and not math.isnan(row[key])
    ]
    return ", ".join(texts) or "none"


def setting_text(guide: str, step_size: float) -> str:
    """An inference setting, in published units."""
    return f"guide `{guide}`" + (f", λ = {step_size:g}" if step_size else ", no refinement")

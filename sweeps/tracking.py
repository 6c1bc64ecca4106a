"""What a sweep shows on Weights & Biases: its trials, and the evaluations of its winner and its default.

A trial's run is made from what Optuna stores of the trial and nothing else, so it can be written by anyone after the
trial's end: by its worker, or by the summary if the worker was killed. A run that is there is not written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from experiments.tracking.evaluation import log_evaluation
from experiments.tracking.trial import log_trial
from sweeps.space import Search

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)  # a failed trial is tried again, and its retry is tracked
FOUND = ("profile", "guide", "step_size", "train_seconds", "seconds")  # attributes of a complete trial


def track_trial(search: Search, trial: FrozenTrial) -> None:
    """Logs a trial that ended; one that failed or still runs is left out."""
    if trial.state in ENDED:
        log_trial(search.suite, _record(search, trial), *run_of(search, trial))


def track_left(search: Search, trials: Iterable[FrozenTrial]) -> None:
    """Logs the trials that a killed worker left unlogged.

    Those of another machine, which a database shares, have no files here and are left to it.
    """
    for trial in trials:
        if trial.state in ENDED and (search.folder.path / trial.user_attrs["folder"]).is_dir():
            track_trial(search, trial)


def _record(search: Search, trial: FrozenTrial) -> Path:
    return search.folder.trial_record(f"{search.study}__t{trial.number}")


def run_of(search: Search, trial: FrozenTrial) -> tuple[dict[str, Any], Mapping[int, float]]:
    """What the run of a trial that ended holds: its settings and findings, and its validation AP by epoch."""
    run: dict[str, Any] = {
        "study": search.study,
        "number": trial.number,
        "params": trial.params,
        "published": trial.user_attrs.get("published"),
        "state": trial.state.name.lower(),
    }
    if trial.state == TrialState.COMPLETE:
        found = {key: trial.user_attrs[key] for key in FOUND if key in trial.user_attrs}
        run |= {"value": trial.value, **found}
    return run, trial.intermediate_values


def track_evaluation(search: Search, side: str, params: Mapping[str, Any]) -> None:
    """Logs the evaluation of the `winner` or the `default`, whose training has these parameters."""
    log_evaluation(search.trial_suite, search.folder.evaluation(side), config=search.config(params))

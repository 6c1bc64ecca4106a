"""A trial as a Weights & Biases run, made from what Optuna stores of it and nothing else.

So it can be written after the trial's end by anyone: by its worker, or by the summary if the worker was killed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from experiments.tracking.stages import log_trial
from sweeps.space import Search

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)  # a failed trial is tried again, and its retry is tracked
FOUND = ("profile", "guide", "step_size", "train_seconds", "seconds")  # attributes of a complete trial


def track_trial(search: Search, trial: FrozenTrial) -> None:
    """Logs a trial that ended; one that failed or still runs is left out."""
    if trial.state in ENDED:
        log_trial(search.suite, *run_of(search, trial))


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
        run |= {"value": trial.value, **{key: trial.user_attrs[key] for key in FOUND if key in trial.user_attrs}}
    return run, trial.intermediate_values

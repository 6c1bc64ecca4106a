"""The run of a trial of a sweep: its parameters, its validation AP by epoch, its value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.tracking.runs import Contents, Json, Stage, log, run_of_first_release, tracks
from suite.suite import Suite


@tracks
def log_trial(suite: Suite, record: Path, trial: Json, curve: Mapping[int, float]) -> str | None:
    """Logs a trial of a sweep.

    Args:
        suite: a checked suite.
        record: `SweepFolder.trial_record`.
        trial: `study`, `number`, `params` (what the importance panel reads) and `state` (complete, pruned or fail) go
            into the run's config; `value`, the objective, and whatever else was found become `trial/<key>`. What is
            None is left out.
        curve: validation AP, which pruning looks at, by epoch.

    Returns:
        The run's id; None if nothing was logged.
    """
    stage = trial_stage(suite, record, trial, curve)
    same = {"params": dict(trial["params"]), "state": trial["state"]}
    return run_of_first_release(suite, stage.name, record, **same) or log(suite, stage)


def trial_stage(suite: Suite, record: Path, trial: Json, curve: Mapping[Any, float]) -> Stage:
    """A trial. Its record holds all of it, so that a trial whose worker was killed can still be logged."""
    settings = {key: trial.get(key) for key in ("study", "params", "published", "state")}
    found = {key: value for key, value in trial.items() if key not in (*settings, "number") and value is not None}

    def fill(run: Any) -> None:
        for epoch, ap in sorted((int(epoch), ap) for epoch, ap in curve.items()):
            run.log({"epoch": epoch, "trial/intermediate": ap}, step=epoch)
        run.summary.update({f"trial/{key}": value for key, value in found.items()})

    config = {"suite": suite.name, "trial": trial["number"], **settings}
    return Stage(
        name=f"{trial['study']}__t{trial['number']}",
        record=record,
        result={},
        identity=json.loads(json.dumps({"trial": dict(trial), "curve": dict(curve)})),
        contents=lambda run_id: Contents(
            group=trial["study"], job_type="sweep", config=config, fill=fill, tags=[trial["state"]]
        ),
    )

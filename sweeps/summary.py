"""Results of a sweep, for people and for the report: `python -m sweeps.summary --suite S`.

Writes below results/<suite>/sweep/: trials.csv, curves.csv (validation AP by epoch), profiles.csv (AP by inference
setting), importance.json, best.json; the winner as a standalone config (best.py) and as a variant for a suite
(best_variant.py, best.yaml); the winner's and the default's evaluation on the report split (val/); and last of all
sweep.json: when it is there, the rest is whole.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.config import resolve_config
from experiments.evaluation.evaluate import evaluate
from suite import provenance
from suite.errors import SuiteError, exits_on_error
from suite.files import atomic, write_json
from suite.search import PARAMETERS, SAMPLINGS
from suite.settings import Setting
from suite.suite import load_suite
from suite.utf8 import ensure_utf8
from sweeps import study as studies
from sweeps.database import reports_failures
from sweeps.importance import importance, variance_shares
from sweeps.objective import train_trial
from sweeps.space import SAMPLING, Search, actual_step, published_step
from sweeps.tracking import track_evaluation, track_left
from sweeps.winner import actual_of, best, default_of, setting_of, winner_of, write_configs
from sweeps.worker import identity_of

INDEPENDENT = tuple(name for name in PARAMETERS if name not in SAMPLINGS)


@reports_failures
def summarise(search: Search, threads: int = 1) -> dict[str, Any]:
    """Logs the trials that were left unlogged, writes the files of the module's docstring, and logs its evaluations.

    Returns:
        What sweep.json says.

    Raises:
        SuiteError: the study has no complete trial; journal or database cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    identity = identity_of(search)
    with studies.exclusive(search):
        study = studies.open_study(search, studies.open_storage(search), identity)
        studies.fail_dead(search, study)
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        raise SuiteError(f"study '{search.study}' has no complete trial: run sweeps.worker first (snakemake sweep)")
    track_left(search, trials)
    search.folder.summary.unlink(missing_ok=True)
    _write_tables(search, study, trials, complete)
    winner = winner_of(complete)
    setting, default = setting_of(search, winner), default_of(search)
    write_json(search.folder.best, best(search, complete))
    write_configs(search, winner.params, setting)
    sides = {"winner": winner.params, "default": search.points[search.base]}
    for side, params in sides.items():
        _evaluate(search, side, params, list(dict.fromkeys([setting, default])), threads)
    settings = {"winner": setting.name, "default": default.name}
    summary = _summary(search, study, trials, settings, identity["dataset_fingerprint"])
    write_json(search.folder.summary, summary)
    for side, params in sides.items():
        track_evaluation(search, side, params)
    return summary


def _write_tables(
    search: Search, study: optuna.Study, trials: Sequence[FrozenTrial], complete: Sequence[FrozenTrial]
) -> None:
    write_csv(search.folder.trials, [trial_row(search, trial) for trial in trials])
    write_csv(search.folder.curves, _curves(trials))
    profiles = _profiles(search, complete)
    write_csv(search.folder.profiles, profiles)
    write_json(search.folder.importance, {**importance(study), "variance": variance_shares(profiles)})


def _summary(
    search: Search,
    study: optuna.Study,
    trials: Sequence[FrozenTrial],
    settings: Mapping[str, str],
    dataset_fingerprint: str,
) -> dict[str, Any]:
    """The contents of sweep.json; what the suite's block says stands there as it was written."""
    block = search.suite.raw["sweep"]
    counts = studies.counts(study)
    return {
        "suite": search.suite.name,
        "study": search.study,
        "base": search.base,
        **{key: block[key] for key in ("space", "guides", "step_sizes", "epochs", "seed", "split", "workers")},
        "report_split": search.suite.report_split,
        "budget": search.options.trials,
        "states": {state.name.lower(): counts[state] for state in TrialState if counts[state]},
        "full_epochs": resolve_config(search.suite, search.base).runner.max_epochs,
        "sampler": {"name": "TPESampler", **block["sampler"]},
        "pruner": {"name": "MedianPruner", **block["pruner"]},
        "seconds": round(sum(trial.user_attrs.get("seconds", 0.0) for trial in trials), 1),
        "settings": dict(settings),
        "dataset_fingerprint": dataset_fingerprint,
        **provenance.git_state(),
        "versions": provenance.versions(),
    }


def trial_row(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    """A trial's row of trials.csv; a parameter's `actual` value is what `scale` makes of it."""
    names = (*INDEPENDENT, SAMPLING, *SAMPLINGS)
    actual = actual_of(search, trial.params) if trial.params else {}
    kept = ("guide", "step_size", "seconds", "worker", "host", "folder")
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "published": trial.user_attrs.get("published"),
        "retry_of": studies.retry_of(trial),
        "value": trial.value if trial.state == TrialState.COMPLETE else None,
        **{name: trial.params.get(name) for name in names},
        **{f"actual_{name}": actual.get(name) for name in INDEPENDENT},
        "actual_rois": next((actual[name] for name in SAMPLINGS if name in actual), None),
        **{key: trial.user_attrs.get(key) for key in kept},
        "epochs": max(trial.intermediate_values, default=0),
    }


def _curves(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    return [
        {"number": trial.number, "epoch": epoch, "AP": ap}
        for trial in trials
        for epoch, ap in sorted(trial.intermediate_values.items())
    ]


def _profiles(search: Search, complete: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    return [
        {
            "number": trial.number,
            "guide": setting.guide,
            "step_size": published_step(setting),
            "actual_step_size": actual_step(setting),
            "AP": trial.user_attrs["profile"][setting.name],
        }
        for trial in complete
        for setting in search.grid
    ]


def _evaluate(search: Search, side: str, params: Mapping[str, Any], settings: list[Setting], threads: int) -> None:
    run = train_trial(search, params, threads=threads)  # finds it done, unless another machine has the files
    evaluate(
        search.trial_suite,
        search.base,
        search.options.seed,
        search.suite.report_split,
        checkpoint=run.checkpoint,
        data=search.suite.layout.data,
        out=search.folder.evaluation(side),
        threads=threads,
        changes=search.changes(params),
        settings=settings,
        name=f"sweep_{side}",
    )


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV with a header; None is left blank."""
    with atomic(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["number"])
        writer.writeheader()
        writer.writerows(rows)


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sweeps.summary", description="Write the results of a suite's sweep."
    )
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    options = parser.parse_args(arguments)
    summary = summarise(Search(load_suite(options.suite)), options.threads)
    states = ", ".join(f"{number} {state}" for state, number in summary["states"].items())
    print(f"{summary['study']}: {states}", flush=True)


if __name__ == "__main__":
    ensure_utf8()
    main()

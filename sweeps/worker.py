"""Works on a sweep's study until its budget is reached: `python -m sweeps.worker --suite S --worker K`.

Any number of workers may run at once, be killed at any moment and be started again: the study goes on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from experiments.data.datasets import dataset_fingerprint
from experiments.runtime import require_operators
from suite.errors import SuiteError, exits_on_error
from suite.files import folder_lock, sha256, write_json
from suite.suite import load_suite
from suite.utf8 import ensure_utf8
from sweeps import study as studies
from sweeps.database import reports_failures
from sweeps.objective import run_trial
from sweeps.space import Search
from sweeps.tracking import track_trial

POLL = 2.0  # seconds between looks at a study whose last trials others are working on


def identity_of(search: Search) -> dict[str, Any]:
    """What the study's trials have in common, data and pretraining included.

    Raises:
        SuiteError: data or pretraining are missing.
    """
    layout = search.suite.layout
    identity = {**search.identity(), "dataset_fingerprint": dataset_fingerprint(layout.data)}
    if search.suite.pretraining is not None:
        start = layout.pretraining.checkpoint
        if not start.is_file():
            raise SuiteError(f"{start} is missing: train it first (snakemake sweep)")
        identity["pretraining_sha256"] = sha256(start)
    return identity


@reports_failures
def work(search: Search, worker: int, threads: int = 1) -> list[int]:
    """Runs trials until as many are COMPLETE as the budget says. Returns the numbers of those run here.

    No trial is started that could exceed the budget: those that others are running count until they end.

    Raises:
        SuiteError: data or pretraining are missing; journal or database cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    identity = identity_of(search)
    with studies.exclusive(search):
        study = studies.open_study(search, studies.open_storage(search), identity)
    budget = search.options.trials
    done: list[int] = []
    while True:
        with ExitStack() as turn:
            turn.enter_context(studies.exclusive(search))
            studies.fail_dead(search, study)
            studies.retry_failed(study)
            counts = studies.counts(study)
            if counts[TrialState.COMPLETE] >= budget:
                return done
            if counts[TrialState.COMPLETE] + counts[TrialState.RUNNING] < budget:
                done.append(start_trial(search, study, turn, worker, threads))
                continue
        time.sleep(POLL)


def start_trial(search: Search, study: optuna.Study, turn: ExitStack, worker: int, threads: int) -> int:
    """Runs one trial to its end and tracks it. Returns its number.

    Args:
        search: what the study is of.
        study: held by this process.
        turn: what holds it; closed once the trial has its parameters.
        worker: number of this worker.
        threads: of torch.
    """
    numbers = []
    with ExitStack() as owned:  # until Optuna has written the trial's end

        def objective(trial: optuna.Trial) -> float:
            owned.enter_context(folder_lock(studies.owner(search, trial.number)))
            params = search.suggest(trial)
            turn.close()
            numbers.append(trial.number)
            text = ", ".join(
                f"{key} {value if isinstance(value, str) else f'{value:g}'}" for key, value in params.items()
            )
            print(f"trial {trial.number}: {text}", flush=True)
            return run_trial(search, trial, params, worker=worker, threads=threads)

        study.sampler = studies.make_sampler(search, study, worker)
        study.optimize(objective, n_trials=1)
    ended = study.trials[numbers[0]]
    value = "" if ended.value is None else f", AP {100 * ended.value:.2f}"
    print(f"trial {ended.number}: {ended.state.name.lower()}{value}", flush=True)
    track_trial(search, ended)
    return ended.number


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sweeps.worker", description="Run trials of a suite's sweep until its budget is reached."
    )
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--worker", type=int, default=0, help="number of this worker (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write here, at the end, which trials this worker ran")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    search = Search(load_suite(options.suite))
    require_operators()  # before the study is opened: a trial would fail by it, and be retried
    done = work(search, options.worker, options.threads)
    seconds = round(time.monotonic() - started, 1)
    if options.out is not None:
        write_json(options.out, {"worker": options.worker, "study": search.study, "trials": done, "seconds": seconds})
    print(f"worker {options.worker}: {len(done)} trials in {seconds:.0f} s; {search.study} has its budget", flush=True)


if __name__ == "__main__":
    ensure_utf8()
    main()

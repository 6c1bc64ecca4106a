"""Works on a sweep's study until its budget is reached: `python -m sweeps.worker --suite S --worker K`.

Any number of workers may run at once, be killed at any moment and be started again: the study goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from experiments.data.datasets import dataset_fingerprint
from suite.errors import SuiteError
from suite.files import folder_lock, sha256, write_json
from suite.suite import load_suite
from sweeps import study as studies
from sweeps.objective import data_dir, run_trial
from sweeps.space import Sweep

POLL = 2.0  # seconds between looks at a study whose last trials others are working on


def identity_of(sweep: Sweep) -> dict[str, Any]:
    """What the study's trials have in common, data and pretraining included.

    Raises:
        SuiteError: data or pretraining are missing.
    """
    identity = {**sweep.identity(), "dataset_fingerprint": dataset_fingerprint(data_dir(sweep))}
    if "pretraining" in sweep.suite:
        start = sweep.suite.layout.root / "pretraining" / "checkpoint.pth"
        if not start.is_file():
            raise SuiteError(f"{start} is missing: train it first (snakemake sweep)")
        identity["pretraining_sha256"] = sha256(start)
    return identity


def work(sweep: Sweep, worker: int, threads: int = 1) -> list[int]:
    """Runs trials until as many are COMPLETE as the budget says. Returns the numbers of those run here.

    No trial is started that could exceed the budget: those that others are running count until they end.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    identity = identity_of(sweep)
    with studies.exclusive(sweep):
        study = studies.open_study(sweep, studies.open_storage(sweep), identity, worker)
    budget = sweep.options["trials"]
    done: list[int] = []
    while True:
        with ExitStack() as turn:
            turn.enter_context(studies.exclusive(sweep))
            studies.fail_dead(sweep, study)
            studies.retry_failed(study)
            complete = studies.count(study, TrialState.COMPLETE)
            if complete >= budget:
                return done
            if complete + studies.count(study, TrialState.RUNNING) < budget:
                done.append(_start_trial(sweep, study, turn, worker, threads))
                continue
        time.sleep(POLL)


def _start_trial(sweep: Sweep, study: optuna.Study, turn: ExitStack, worker: int, threads: int) -> int:
    """Runs one trial; ends the turn once it has its parameters. Returns its number."""
    numbers = []
    with ExitStack() as owned:  # until Optuna has written the trial's end

        def objective(trial: optuna.Trial) -> float:
            owned.enter_context(folder_lock(studies.owner(sweep, trial.number)))
            params = sweep.suggest(trial)
            turn.close()
            numbers.append(trial.number)
            text = ", ".join(
                f"{key} {value if isinstance(value, str) else f'{value:g}'}" for key, value in params.items()
            )
            print(f"trial {trial.number}: {text}", flush=True)
            return run_trial(sweep, trial, params, worker=worker, threads=threads)

        study.optimize(objective, n_trials=1)
    ended = study.trials[numbers[0]]
    value = "" if ended.value is None else f", AP {100 * ended.value:.2f}"
    print(f"trial {ended.number}: {ended.state.name.lower()}{value}", flush=True)
    return ended.number


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Run trials of a suite's sweep until its budget is reached.")
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--worker", type=int, default=0, help="number of this worker (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write here, at the end, which trials this worker ran")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        sweep = Sweep(load_suite(options.suite))
        done = work(sweep, options.worker, options.threads)
    except SuiteError as error:
        sys.exit(f"error: {error}")
    seconds = round(time.monotonic() - started, 1)
    if options.out is not None:
        write_json(options.out, {"worker": options.worker, "study": sweep.study, "trials": done, "seconds": seconds})
    print(f"worker {options.worker}: {len(done)} trials in {seconds:.0f} s; {sweep.study} has its budget", flush=True)


if __name__ == "__main__":
    main()

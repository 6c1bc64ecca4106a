"""The Optuna study: where it is stored, who may start a trial, what becomes of the trials of dead workers.

Workers take turns: the one that holds the study (`exclusive`) fails trials whose worker is dead, queues them again
once, and starts a trial of its own if the budget has room. It lets go when its trial has its parameters. The kernel
(or the database server) frees what a killed process held, so no turn is lost for good. What is not under this lock,
reports and results of running trials, is guarded by Optuna's own: a worker killed just while writing to the journal
keeps the others waiting for `JOURNAL_GRACE` seconds, then they go on.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.storages import BaseStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from suite.errors import SuiteError
from suite.files import folder_lock
from sweeps.database import connect, database, open_database, reports_failures
from sweeps.journal import open_journal
from sweeps.space import Search

if TYPE_CHECKING:
    from sqlalchemy import Connection

JOURNAL_GRACE = 30
MISSED_HEARTBEATS = 4

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def open_storage(search: Search) -> BaseStorage:
    """The storage of the sweep's study.

    A journal file has no heartbeat: its workers, on one machine or on one file system, show that they live by a lock
    (see `owner`). A database has one.

    Raises:
        SuiteError: journal or database cannot be used.
    """
    url = database()
    if url is None:
        return open_journal(search.folder.journal, JOURNAL_GRACE)
    beat = search.options.heartbeat
    return open_database(url, heartbeat=beat, grace=MISSED_HEARTBEATS * beat)


@contextmanager
def exclusive(search: Search) -> Iterator[None]:
    """Holds the study for this process, among all workers on all machines; ends with the process.

    Raises:
        SuiteError: the database cannot be used.
    """
    url = database()
    if url is None:
        with folder_lock(search.folder.turn):
            yield
        return
    with connect(url) as connection, connection.begin():
        _hold(connection, search.study)
        yield


@reports_failures
def _hold(connection: Connection, study: str) -> None:
    import sqlalchemy

    connection.execute(sqlalchemy.text("select pg_advisory_xact_lock(hashtext(:name))"), {"name": study})


def owner(search: Search, number: int) -> Path:
    """The folder that a trial's worker holds a lock on for as long as it works on the trial."""
    return search.folder.owner(f"{search.study}__{number}")


def open_study(search: Search, storage: BaseStorage, identity: dict[str, Any]) -> optuna.Study:
    """The study, created and with its published points queued if it is new. To be called by who holds it.

    Every trial gets a sampler of its own: see `make_sampler`.

    A study that was begun with other settings is kept under a name of its own, and a new one takes its place.

    Args:
        search: a checked search.
        storage: from `open_storage`.
        identity: what its trials have in common.

    Raises:
        SuiteError: a study with other settings is being worked on.
    """
    options, identity = search.options, json.loads(json.dumps(identity))
    study = _load(search.study, storage)
    if study.user_attrs.get("identity", identity) != identity:
        _set_aside(search, study, storage, identity)
        study = _load(search.study, storage)
    study.set_user_attr("identity", identity)
    for label, params in search.points.items():
        study.enqueue_trial(params, user_attrs={"published": label}, skip_if_exists=True)
    # Every trial has the same schedule, so AP after an epoch compares across trials. Successive halving and Hyperband
    # want many short trials; with a handful, their brackets are empty.
    study.pruner = optuna.pruners.MedianPruner(
        n_startup_trials=options.pruner.startup_trials,
        n_warmup_steps=options.pruner.warmup_epochs,
        interval_steps=1,
        n_min_trials=2,
    )
    return study


def make_sampler(search: Search, study: optuna.Study, worker: int) -> optuna.samplers.BaseSampler:
    """The sampler of a worker's next trial.

    Its seed moves on with the points that were begun, each of which counts once however often it failed. So a worker
    that is killed and started again proposes what it would have proposed.
    """
    options = search.options
    trials = study.get_trials(deepcopy=False)
    begun = sum(trial.state != TrialState.WAITING and retry_of(trial) is None for trial in trials)
    seed = np.random.SeedSequence([options.seed, worker, begun])
    return optuna.samplers.TPESampler(
        n_startup_trials=options.sampler.startup_trials,
        n_ei_candidates=options.sampler.candidates,
        multivariate=True,
        group=True,  # loss weight and the sampling's amount: the latter has another name in every kind of sampling
        constant_liar=True,  # a running trial counts as a bad one: two workers do not propose the same
        seed=int(seed.generate_state(1)[0]),
    )


def _load(name: str, storage: BaseStorage) -> optuna.Study:
    return optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)


def _set_aside(search: Search, study: optuna.Study, storage: BaseStorage, identity: dict[str, Any]) -> None:
    found = study.user_attrs["identity"]
    changed = [key for key in identity if found.get(key) != identity[key]]
    fail_dead(search, study)
    if study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        raise SuiteError(
            f"study '{search.study}' is being worked on with another {', '.join(changed)}: "
            "wait for its workers to end, or choose another sweep.name"
        )
    aside = f"{search.study}__until_{datetime.now(timezone.utc):%Y%m%dT%H%M%S%fZ}"
    optuna.copy_study(from_study_name=search.study, from_storage=storage, to_storage=storage, to_study_name=aside)
    optuna.delete_study(study_name=search.study, storage=storage)
    print(f"study '{search.study}' had another {', '.join(changed)}: kept as '{aside}', begun anew", flush=True)


def fail_dead(search: Search, study: optuna.Study) -> None:
    """Marks as failed the running trials whose worker is dead. To be called by who holds the study."""
    if database() is not None:
        optuna.storages.fail_stale_trials(study)
        return
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        try:
            with folder_lock(owner(search, trial.number), wait=False):
                told = study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                if told.state == TrialState.FAIL:  # it may have ended since
                    print(f"trial {trial.number}: its worker is dead, the trial has failed", flush=True)
        except BlockingIOError:
            continue  # alive


def retry_failed(study: optuna.Study) -> None:
    """Queues each failed trial again, once: its retry goes on from its checkpoint. To be called by who holds the study.

    Failed trials are looked for as a whole, so that none is forgotten when the process that failed them dies.
    """
    retry = RetryHeartbeatStaleTrialCallback(max_retry=1)
    trials = study.get_trials(deepcopy=True)
    retried = {number for trial in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}
    for trial in trials:
        if trial.state == TrialState.FAIL and trial.number not in retried:
            retry(study, trial)


def retry_of(trial: FrozenTrial) -> int | None:
    """Number of the failed trial that this one repeats."""
    return RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)


def counts(study: optuna.Study) -> Counter[TrialState]:
    """How many trials are in each state, at one moment: between two looks a running one may end, and be in neither."""
    return Counter(trial.state for trial in study.get_trials(deepcopy=False))

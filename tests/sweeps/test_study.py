"""Workers on one study: real processes, real SIGKILL; their trials train nothing (see conftest.py)."""

import itertools
import time

import optuna
import pytest
from optuna.storages.journal import JournalFileOpenLock
from optuna.trial import TrialState

from suite.errors import SuiteError
from suite.files import folder_lock
from sweeps import study as studies
from sweeps import worker as workers
from sweeps.space import Search
from tests.sweeps.conftest import kill, load_study, with_sweep


def states(study):
    return sorted(trial.state.name for trial in study.trials)


def published(study):
    return [trial.user_attrs["published"] for trial in study.trials if "published" in trial.user_attrs]


def test_workers_that_start_at_once_queue_each_point_once_and_keep_to_the_budget(team, sweep):
    team.wait(team.start(0, 1, 2))
    study = load_study(sweep)
    assert states(study) == ["COMPLETE"] * 5
    assert published(study) == ["samp1000_lw5.0", "periou"]
    assert study.trials[0].params == sweep.points["samp1000_lw5.0"]
    assert len({tuple(sorted(t.params.items())) for t in study.trials}) == 5, "two workers proposed the same"


def test_a_larger_budget_continues_the_study(team, sweep, suite):
    team.wait(team.start(0))
    team.sweep = Search(with_sweep(suite, trials=8))
    team.wait(team.start(0))
    study = load_study(sweep)
    assert states(study) == ["COMPLETE"] * 8
    assert published(study) == ["samp1000_lw5.0", "periou"]
    assert len({tuple(sorted(t.params.items())) for t in study.trials}) == 8, "the sampler began anew"


def test_running_trials_count_against_the_budget(team, suite):
    team.sweep = Search(with_sweep(suite, trials=2))
    team.hang.set()
    members = team.start(0, 1, 2, 3)
    team.wait_for_running(2)
    time.sleep(0.5)
    assert len(team.wait_for_running(2)) == 2
    team.hang.clear()
    team.wait(members)
    assert states(load_study(team.sweep)) == ["COMPLETE"] * 2


@pytest.mark.parametrize("after", range(1, 9))
def test_a_trial_that_ends_between_two_looks_counts_against_the_budget(suite, sweep, monkeypatch, after):
    sweep = Search(with_sweep(suite, trials=2))
    study = start_study(sweep)
    study.tell(study.ask(), 0.5)
    other = study.ask()
    look, looks = optuna.Study.get_trials, itertools.count(1)

    def look_and_it_ends(self, *arguments, **options):
        found = look(self, *arguments, **options)
        if next(looks) == after:
            study.tell(other, 0.5)
        return found

    monkeypatch.setattr(optuna.Study, "get_trials", look_and_it_ends)
    monkeypatch.setattr(workers, "run_trial", lambda *_, **__: 0.5)
    monkeypatch.setattr(workers, "POLL", 0)
    with folder_lock(studies.owner(sweep, other.number)):  # its worker lives
        assert workers.work(sweep, 0) == []
    assert states(study) == ["COMPLETE"] * 2


def test_a_killed_worker_s_trial_fails_and_is_tried_again_by_another(team, sweep):
    team.hang.set()
    first, second = team.start(0, 1)
    victim, _ = team.wait_for_running(2)
    kill(victim.user_attrs["pid"])
    team.hang.clear()
    survivor = second if first.pid == victim.user_attrs["pid"] else first
    team.wait([survivor])
    study = load_study(sweep)
    assert states(study) == ["COMPLETE"] * 5 + ["FAIL"]
    assert study.trials[victim.number].state == TrialState.FAIL
    (retry,) = [trial for trial in study.trials if studies.retry_of(trial) == victim.number]
    assert retry.params == victim.params
    assert retry.user_attrs["published"] == victim.user_attrs["published"]


def test_all_killed_and_started_again(team, sweep):
    team.hang.set()
    team.start(0, 1)
    for trial in team.wait_for_running(2):
        kill(trial.user_attrs["pid"])
    team.hang.clear()
    team.wait(team.start(0, 1))
    study = load_study(sweep)
    assert states(study) == ["COMPLETE"] * 5 + ["FAIL"] * 2
    assert {studies.retry_of(trial) for trial in study.trials} == {None, 0, 1}


def test_a_worker_that_is_started_again_proposes_what_it_would_have_proposed(team, suite):
    def completed(**changes):
        team.sweep = Search(with_sweep(suite, sampler={"startup_trials": 9}, **changes))
        if changes:
            team.hang.set()
            team.start(0)
            kill(team.wait_for_running(1)[0].user_attrs["pid"])
            team.hang.clear()
        team.wait(team.start(0))
        trials = load_study(team.sweep).trials
        return sorted(sorted(trial.params.items()) for trial in trials if trial.state == TrialState.COMPLETE)

    assert completed(name="killed") == completed()


def test_a_trial_is_tried_again_once_only(team, sweep, suite):
    team.sweep = Search(with_sweep(suite, trials=1, published=[]))
    for _ in range(2):
        team.hang.set()
        team.start(0)
        (trial,) = team.wait_for_running(1)
        kill(trial.user_attrs["pid"])
    team.hang.clear()
    team.wait(team.start(0))
    study = load_study(sweep)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL", "COMPLETE"]
    assert [studies.retry_of(trial) for trial in study.trials] == [None, 0, None]
    assert study.trials[2].params != study.trials[0].params


def test_a_kill_between_failing_and_queueing_again_loses_no_retry(team, sweep):
    study = start_study(sweep)
    trial = study.ask()
    sweep.suggest(trial)
    studies.fail_dead(sweep, study)  # and here its process dies
    team.wait(team.start(0))
    assert 0 in {studies.retry_of(trial) for trial in load_study(sweep).trials}


def test_a_trial_killed_before_it_has_parameters_keeps_its_point(team, sweep):
    start_study(sweep).ask()
    team.wait(team.start(0))
    study = load_study(sweep)
    assert study.trials[0].state == TrialState.FAIL
    (retry,) = [trial for trial in study.trials if studies.retry_of(trial) == 0]
    assert retry.params == sweep.points["samp1000_lw5.0"]


def test_a_trial_that_raises_ends_its_worker_and_is_tried_again(sweep, monkeypatch):
    def broken(*_, **__):
        raise SuiteError("no images")

    monkeypatch.setattr(workers, "run_trial", broken)
    with pytest.raises(SuiteError, match="no images"):
        workers.work(sweep, 0)
    monkeypatch.setattr(workers, "run_trial", lambda *_, **__: 0.5)
    workers.work(sweep, 0)
    study = load_study(sweep)
    assert states(study) == ["COMPLETE"] * 5 + ["FAIL"]
    assert 0 in {studies.retry_of(trial) for trial in study.trials}


def test_a_worker_killed_in_its_turn_does_not_stop_the_others(team, sweep):
    held = team.context.Event()

    def hold():
        with studies.exclusive(sweep):
            held.set()
            time.sleep(600)

    holder = team.context.Process(target=hold, daemon=True)
    holder.start()
    team.started.append(holder)
    assert held.wait(200)
    members = team.start(0)
    time.sleep(0.3)
    assert members[0].is_alive()
    kill(holder.pid)
    team.wait(members)


def test_a_leftover_of_the_journal_s_lock_is_broken_after_the_grace_period(sweep, monkeypatch):
    monkeypatch.setattr(studies, "JOURNAL_GRACE", 3)
    monkeypatch.setattr(workers, "run_trial", lambda *_, **__: 0.5)
    sweep.folder.path.mkdir(parents=True)
    JournalFileOpenLock(str(sweep.folder.journal)).acquire()  # its holder never releases it
    started = time.monotonic()
    workers.work(sweep, 0)
    assert time.monotonic() - started > 2.5
    assert states(load_study(sweep)) == ["COMPLETE"] * 5


def start_study(sweep):
    return studies.open_study(sweep, studies.open_storage(sweep), workers.identity_of(sweep))


def test_a_study_with_other_settings_is_kept_under_another_name(sweep, suite, monkeypatch, capsys):
    monkeypatch.setattr(workers, "run_trial", lambda *_, **__: 0.5)
    workers.work(sweep, 0)
    other = Search(with_sweep(suite, step_sizes=[1], trials=3))
    workers.work(other, 0)
    assert states(load_study(other)) == ["COMPLETE"] * 3
    names = optuna.get_all_study_names(studies.open_storage(sweep))
    (aside,) = [name for name in names if name.startswith("tiny__main__until_")]
    kept = optuna.load_study(study_name=aside, storage=studies.open_storage(sweep))
    assert states(kept) == ["COMPLETE"] * 5
    assert "had another settings: kept as" in capsys.readouterr().out


def test_a_study_that_is_worked_on_is_not_set_aside(team, suite):
    team.hang.set()
    team.start(0)
    team.wait_for_running(1)
    with pytest.raises(SuiteError, match="is being worked on with another base, epochs: wait"):
        workers.work(Search(with_sweep(suite, epochs=3)), 0)


def test_samplers_and_pruner_are_what_the_suite_says(sweep):
    study = start_study(sweep)
    assert study.pruner._n_startup_trials == 10
    draws = [studies.make_sampler(sweep, study, worker)._rng.rng.random() for worker in (0, 1)]
    assert draws[0] != draws[1], "workers must not draw the same"
    again = studies.make_sampler(sweep, start_study(sweep), 1)
    assert again._rng.rng.random() == draws[1], "a seed, not the clock"


def test_another_database_is_refused(sweep, monkeypatch):
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///study.db")
    with pytest.raises(SuiteError, match="of kind 'sqlite'; use postgresql"):
        workers.work(sweep, 0)


def test_missing_data_are_named(suite):
    with pytest.raises(SuiteError, match=r"dataset\.json is missing: make or check the data first"):
        workers.work(Search(suite), 0)


def test_postgresql_workers_share_a_study_and_survive_a_kill(team, sweep, postgres, monkeypatch):
    monkeypatch.setenv("OPTUNA_STORAGE", postgres)
    team.hang.set()
    first, second = team.start(0, 1)
    victim, other = team.wait_for_running(2)
    assert {victim.number, other.number} == {0, 1}
    kill(victim.user_attrs["pid"])
    survivor = second if first.pid == victim.user_attrs["pid"] else first
    team.hang.clear()
    team.wait([survivor])
    study = load_study(sweep)
    assert states(study) == ["COMPLETE"] * 5 + ["FAIL"]
    assert study.trials[victim.number].state == TrialState.FAIL
    assert victim.number in {studies.retry_of(trial) for trial in study.trials}
    assert not sweep.folder.journal.exists()

"""A trial: what it reports, when it is pruned, what it stores. Training and detection are stood in for."""

import json
from contextlib import ExitStack
from types import SimpleNamespace

import optuna
import pytest

from suite.errors import SuiteError
from sweeps import objective, study, worker
from sweeps.space import Search
from sweeps.tracking import run_of, track_trial
from tests.sweeps.conftest import load_study, with_sweep

GOOD, BAD = {1: 0.5, 2: 0.6}, {1: 0.1, 2: 0.2}


class Lab:
    """Trials whose validation and final APs are given, by loss weight."""

    def __init__(self, monkeypatch):
        self.curves, self.profile, self.trained = {}, {"rank": 0.5, "weight_refine0.25": 0.7}, []
        self.seen = ["train"]
        monkeypatch.setattr(objective, "train_trial", self._train)
        monkeypatch.setattr(objective, "evaluate_grid", self._evaluate)

    def _train(self, sweep, params, *, threads, on_validation):
        folder = sweep.trial_folder(params)
        folder.path.mkdir(parents=True, exist_ok=True)
        for epoch, ap in self.curves.get(params["loss_weight"], GOOD).items():
            on_validation(epoch, {"AP": ap})
            self.trained.append((params["loss_weight"], epoch))
        run = {"variant": sweep.base, "seed": 0, "wall_time_s": 12.5, "trained_on": {"seen": self.seen}}
        folder.run.write_text(json.dumps(run))
        return folder

    def _evaluate(self, sweep, params, checkpoint, label):
        return {setting.name: self.profile.get(setting.name, 0.1) for setting in sweep.grid}


@pytest.fixture
def lab(monkeypatch):
    return Lab(monkeypatch)


def test_a_trial_s_value_is_its_best_over_the_grid_and_the_profile_is_kept(sweep, lab, tracked):
    worker.work(sweep, 0)
    trial = load_study(sweep).trials[0]
    assert trial.value == 0.7
    assert trial.intermediate_values == GOOD
    assert (trial.user_attrs["guide"], trial.user_attrs["step_size"]) == ("weight", 0.5)
    assert len(trial.user_attrs["profile"]) == len(sweep.grid)
    stored = json.loads((sweep.folder.path / trial.user_attrs["folder"] / "profile.json").read_text())
    assert stored["profile"] == trial.user_attrs["profile"] and stored["published"] == "samp1000_lw5.0"
    assert trial.user_attrs["train_seconds"] == 12.5 <= trial.user_attrs["seconds"]
    assert tracked[0][0]["state"] == "complete" and tracked[0][1] == GOOD


def test_nothing_is_chosen_on_images_that_the_trial_saw(sweep, lab):
    lab.seen = ["train", sweep.options.split]
    with pytest.raises(SuiteError, match="was trained on the images of split 'tune': λ and the guide of NMS must not"):
        run_one(sweep, {"loss_weight": 3.0, "sampling": "per_img", "per_img": 500})


def run_one(sweep, params, **attributes):
    """One more trial with given parameters."""
    with study.exclusive(sweep):
        own = study.open_study(sweep, study.open_storage(sweep), worker.identity_of(sweep))
    own.pruner = optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=0, interval_steps=1, n_min_trials=2)
    own.enqueue_trial(params, user_attrs=attributes)
    number = len(own.trials) - 1
    worker.start_trial(sweep, own, ExitStack(), worker=0, threads=1)
    return load_study(sweep).trials[number]


def test_a_trial_below_the_median_is_pruned_after_an_epoch_but_no_published_point(sweep, lab, tracked):
    worker.work(sweep, 0)
    lab.curves[3.0] = BAD
    lab.trained.clear()
    pruned = run_one(sweep, {"loss_weight": 3.0, "sampling": "per_img", "per_img": 500})
    assert pruned.state == optuna.trial.TrialState.PRUNED
    assert pruned.intermediate_values == {1: 0.1} and lab.trained == []
    assert tracked[-1][0]["state"] == "pruned"
    kept = run_one(sweep, {"loss_weight": 3.0, "sampling": "per_img", "per_img": 500}, published="mine")
    assert kept.state == optuna.trial.TrialState.COMPLETE


def test_a_trial_s_run_is_made_from_what_optuna_stored(sweep, lab, tracked):
    worker.work(sweep, 0)
    trial = load_study(sweep).trials[0]
    found = {key: trial.user_attrs[key] for key in ("guide", "step_size", "train_seconds", "seconds", "profile")}
    expected = {
        "study": "tiny__main",
        "number": 0,
        "params": {"loss_weight": 5.0, "sampling": "per_img", "per_img": 1000},
        "published": "samp1000_lw5.0",
        "state": "complete",
        "value": 0.7,
        **found,
    }
    assert tracked[0] == run_of(sweep, trial) == (expected, GOOD)


def test_a_trial_is_tracked_after_optuna_knows_its_end(sweep, lab, monkeypatch):
    known = []
    monkeypatch.setattr(
        worker, "track_trial", lambda search, trial: known.append(load_study(search).trials[trial.number])
    )
    worker.work(sweep, 0)
    assert [trial.state.name for trial in known] == ["COMPLETE"] * 5


def test_a_failed_trial_has_no_run(sweep, lab, tracked, monkeypatch):
    def broken(*_, **__):
        raise SuiteError("no images")

    monkeypatch.setattr(worker, "run_trial", broken)
    with pytest.raises(SuiteError, match="no images"):
        worker.work(sweep, 0)
    track_trial(sweep, load_study(sweep).trials[0])
    assert tracked == []


def test_the_last_epoch_does_not_prune(sweep, lab):
    worker.work(sweep, 0)
    lab.curves[3.0] = {1: 0.5, 2: 0.1}
    assert run_one(sweep, {"loss_weight": 3.0, "sampling": "per_img", "per_img": 500}).value == 0.7


def test_epochs_of_a_killed_process_are_reported_once(sweep, lab):
    lab.curves[5.0] = {1: 0.5, 2: 0.6}
    worker.work(sweep, 0)
    trial = load_study(sweep).trials[0]
    assert trial.params["loss_weight"] == 5.0 and trial.intermediate_values == {1: 0.5, 2: 0.6}


def test_pruned_trials_do_not_count_for_the_budget(sweep, lab, suite, tracked):
    class Worse(dict):
        def get(self, weight, default=None):
            return GOOD if weight in (5.0, 10.0) or len(tracked) > 8 else BAD

    lab.curves = Worse()
    worker.work(Search(with_sweep(suite, pruner={"startup_trials": 2})), 0)
    states = [trial.state.name for trial in load_study(sweep).trials]
    assert states.count("COMPLETE") == 5
    assert states.count("PRUNED") > 0


def test_a_split_without_objects_chooses_nothing(sweep, monkeypatch):
    dataset = SimpleNamespace(coco=None, img_ids=[])
    opened = SimpleNamespace(cfg=sweep.config({}), model=None, dataset=dataset)
    monkeypatch.setattr(objective, "open_checkpoint", lambda *_, **__: opened)
    monkeypatch.setattr(objective, "detect", lambda *_, **__: {"rank": None})
    monkeypatch.setattr(objective, "evaluate_detections", lambda *_: SimpleNamespace(metrics={"AP": None}))
    with pytest.raises(SuiteError, match="split 'tune' has no objects"):
        objective.evaluate_grid(sweep, sweep.points["periou"], sweep.folder.path / "checkpoint.pth", "x")

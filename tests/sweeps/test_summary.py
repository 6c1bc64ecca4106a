"""What is written of a finished study; the evaluation of its best on images is in test_workflow.py."""

import shutil
import subprocess
import sys

import pytest
import yaml
from mmcv import Config

from experiments.config import default_setting, resolve_config
from suite.errors import SuiteError
from sweeps import importance, summary, winner, worker
from sweeps.space import Search
from tests.sweeps.conftest import load_study, with_sweep
from tests.sweeps.test_objective import Lab


def rows(table):
    """Rows of profiles.csv from AP[trial][guide][step]."""
    return [
        {"number": n, "guide": g, "step_size": s, "AP": ap}
        for n, by_guide in enumerate(table)
        for g, by_step in zip("rwn", by_guide, strict=False)
        for s, ap in enumerate(by_step)
    ]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[[1, 1], [1, 1]], [[2, 2], [2, 2]]], {"training": 1}),
        ([[[1, 1], [3, 3]], [[1, 1], [3, 3]]], {"guide": 1}),
        ([[[1, 2], [1, 2]], [[1, 2], [1, 2]]], {"step_size": 1}),
        ([[[1, 1], [3, 3]], [[2, 2], [4, 4]]], {"training": 0.2, "guide": 0.8}),
        ([[[0, 1], [1, 0]]], {"interactions": 1}),
    ],
)
def test_variance_shares(table, expected):
    shares = importance.variance_shares(rows(table))
    assert shares == pytest.approx({"training": 0, "guide": 0, "step_size": 0, "interactions": 0} | expected)


def test_no_variance_has_no_shares():
    assert importance.variance_shares(rows([[[1, 1], [1, 1]]])) is None


def test_importance_of_too_few_trials_is_not_told(suite, sweep, monkeypatch):
    Lab(monkeypatch)
    few = Search(with_sweep(suite, trials=9))
    worker.work(few, 0)
    assert importance.importance(load_study(few))["parameters"] is None


def test_importance_finds_the_parameter_that_matters(suite, sweep, monkeypatch):
    many = Search(with_sweep(suite, trials=25, sampler={"startup_trials": 25}))
    monkeypatch.setattr(worker, "run_trial", lambda _, __, params, **___: -abs(params["loss_weight"] - 3))
    worker.work(many, 0)
    found = importance.importance(load_study(many))
    assert found["trials"] == 25
    assert sum(found["parameters"].values()) == pytest.approx(1)
    assert max(found["parameters"], key=found["parameters"].get) == "loss_weight"


def settings(sweep):
    return {setting.name: setting for setting in sweep.grid}


@pytest.mark.parametrize("name", ["weight_refine1", "rank"])
def test_the_best_loads_by_itself_and_equals_its_variant_in_a_suite(sweep, suite, name):
    params = {"loss_weight": 7.5, "sampling": "per_iou", "per_iou": 200}
    sweep.folder.path.mkdir(parents=True)
    winner.write_configs(sweep, params, settings(sweep)[name])
    standalone = Config.fromfile(str(sweep.folder.best_config))
    entry = yaml.safe_load(sweep.folder.best_suite.read_text())
    mine = suite.changed(variants={**suite.raw["variants"], **entry["variants"]})
    variant = resolve_config(mine, "sweep_main")
    assert standalone.model == variant.model
    assert standalone.custom_imports.imports == ["iounet"]
    assert variant.model.roi_head.roi_generator.per_iou == 6 and variant.mapped.per_iou.published == 200
    assert default_setting(variant).name == name
    assert variant.runner.max_epochs == 2
    assert Search(with_sweep(mine, base="sweep_main", published=[])).points["sweep_main"] == params


def test_the_best_builds_in_a_process_that_knows_nothing_else(sweep):
    sweep.folder.path.mkdir(parents=True)
    winner.write_configs(sweep, sweep.points["periou"], settings(sweep)["weight"])
    code = (
        "import sys; from mmcv import Config; from mmdet.models import build_detector; "
        "cfg = Config.fromfile(sys.argv[1]); head = build_detector(cfg.model).roi_head; "
        "print(type(head).__name__, head.iou_head.loss_iou.loss_weight)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(sweep.folder.best_config)], capture_output=True, text=True, timeout=200
    )
    assert done.stdout.strip() == "IoURoIHead 10.0", done.stderr


def test_a_study_without_a_complete_trial_is_an_error(sweep):
    with pytest.raises(SuiteError, match=r"has no complete trial: run sweeps\.worker first"):
        summary.summarise(sweep)


def test_winner_and_default_are_evaluated_in_both_settings(sweep, monkeypatch):
    lab = Lab(monkeypatch)
    worker.work(sweep, 0)
    lab.profile = {}
    asked = []
    monkeypatch.setattr(summary, "train_trial", lambda sweep, params, threads: sweep.trial_folder(params))
    monkeypatch.setattr(summary, "evaluate", lambda *args, **kwargs: asked.append((args[3], kwargs)))
    result = summary.summarise(sweep)
    assert [(split, call["name"], [s.name for s in call["settings"]]) for split, call in asked] == [
        ("val", "sweep_winner", ["weight_refine0.25", "rank_refine0.25"]),
        ("val", "sweep_default", ["weight_refine0.25", "rank_refine0.25"]),
    ]
    assert result["states"] == {"complete": 5} and result["full_epochs"] == 2
    assert result["settings"] == {"winner": "weight_refine0.25", "default": "rank_refine0.25"}
    lines = sweep.folder.trials.read_text().splitlines()
    assert lines[1].startswith("0,complete,samp1000_lw5.0,,0.7,5.0,per_img,1000,,5.0,30,weight,0.5,")
    assert len(sweep.folder.profiles.read_text().splitlines()) == 1 + 5 * len(sweep.grid)


@pytest.fixture
def unlogged(sweep, monkeypatch):
    """A finished study whose workers were killed before they logged a trial, and summaries that evaluate nothing."""
    Lab(monkeypatch)
    monkeypatch.setattr(worker, "track_trial", lambda *_: None)
    worker.work(sweep, 0)
    monkeypatch.setattr(summary, "train_trial", lambda sweep, params, threads: sweep.trial_folder(params))
    monkeypatch.setattr(summary, "evaluate", lambda *_, **__: None)
    return sweep


def test_the_summary_logs_the_trials_that_killed_workers_left(unlogged, tracked):
    summary.summarise(unlogged)
    assert [trial["number"] for trial, _ in tracked[:-2]] == [0, 1, 2, 3, 4]
    assert [name for name, _ in tracked[-2:]] == ["winner", "default"]


def test_a_trial_of_another_machine_is_left_to_it(unlogged, tracked):
    shutil.rmtree(unlogged.trial_folder(load_study(unlogged).trials[3].params).path)
    summary.summarise(unlogged)
    assert [trial["number"] for trial, _ in tracked[:-2]] == [0, 1, 2, 4]


def test_the_summary_of_a_damaged_run_says_nothing_is_whole(sweep, monkeypatch):
    Lab(monkeypatch)
    worker.work(sweep, 0)
    sweep.folder.summary.write_text("{}")
    monkeypatch.setattr(summary, "train_trial", lambda sweep, params, threads: sweep.trial_folder(params))

    def broken(*_, **__):
        raise SuiteError("no checkpoint")

    monkeypatch.setattr(summary, "evaluate", broken)
    with pytest.raises(SuiteError, match="no checkpoint"):
        summary.summarise(sweep)
    assert not sweep.folder.summary.exists()

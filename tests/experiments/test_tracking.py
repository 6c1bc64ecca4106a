"""Offline W&B runs as they read back from disk, and a tracker that is not there."""

import builtins
import os

import pytest

from experiments import tracking
from experiments.suite import results_dir
from tests.experiments.wandb_files import read_run

HISTORY = [
    {"step": 10, "epoch": 0.5, "loss": 2.0},
    {"step": 20, "epoch": 1.0, "loss": 1.0},
    {"step": 20, "epoch": 1.0, "val/AP": 0.25},
]


@pytest.fixture
def suite(tiny_suite, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-login"))
    return {**tiny_suite, "results": str(tmp_path)}


def log_training(suite):
    return tracking.log_training(
        suite, "faster_rcnn", 3, run={"wall_time_s": 7.0}, config={"model": {"type": "FasterRCNN"}}, history=HISTORY
    )


def test_a_training_is_one_offline_run_with_its_whole_curve(suite):
    run_id = log_training(suite)
    (folder,) = (results_dir(suite) / "wandb").glob("offline-run-*")
    run = read_run(folder)
    assert run["id"] == run_id
    assert (run["project"], run["name"]) == ("iounet", "tiny__faster_rcnn__s3")
    assert (run["group"], run["job_type"]) == ("faster_rcnn", "train")
    assert run["config"]["mmdet"] == {"model": {"type": "FasterRCNN"}}
    curve = [(row["_step"], row.get("loss"), row.get("val/AP")) for row in run["history"]]
    assert curve == [(10, 2.0, None), (20, 1.0, 0.25)]


def test_an_evaluation_logs_its_table(suite):
    results = {"off": {"metrics": {"AP": 0.5, "APl": None}}, "rank": {"metrics": {"AP": 0.6, "APl": None}}}
    tracking.log_evaluation(suite, "x", 0, "val", results=results, provenance={"git_commit": None})
    (folder,) = (results_dir(suite) / "wandb").glob("offline-run-*")
    run = read_run(folder)
    assert (run["name"], run["job_type"]) == ("tiny__x__s0__val", "eval")
    assert run["summary"]["rank/AP"] == 0.6
    assert list(folder.glob("files/media/table/average_precision*.json"))


def test_everything_lies_under_results(suite, tmp_path):
    log_training(suite)
    assert os.environ["WANDB_CACHE_DIR"].startswith(str(tmp_path))


def test_disabled_writes_nothing(suite, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log_training(suite)
    assert not list((results_dir(suite) / "wandb").glob("offline-run-*"))


def test_without_wandb_the_stage_goes_on_and_says_so_once(suite, monkeypatch, capsys):
    real = builtins.__import__

    def no_wandb(name, *args, **kwargs):
        if name == "wandb":
            raise ModuleNotFoundError("No module named 'wandb'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_wandb)
    assert log_training(suite) is None
    assert capsys.readouterr().err.count("Weights & Biases is not available, this stage goes untracked") == 1


def test_a_key_does_not_reach_the_message(suite, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "secret-key")
    tracking._tell(RuntimeError("bad key secret-key"))
    assert "secret-key" not in capsys.readouterr().err


def test_mode_follows_the_environment_then_a_login(suite, monkeypatch, tmp_path):
    assert tracking._mode() == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert tracking._mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tracking._mode() == "offline"

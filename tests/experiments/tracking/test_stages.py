"""Offline W&B runs as they read back from disk, and a tracker that is not there."""

import builtins
import json
import os
import shutil

import pytest

from experiments.config import resolve_config
from experiments.finished import Finished
from experiments.tracking import runs
from experiments.tracking.offline import offline_runs, read_run
from experiments.tracking.references import checkpoint_artifact, dataset_artifact, evaluation_artifact
from experiments.tracking.track import main as track
from experiments.tracking.track import track_finished
from experiments.tracking.trial import log_trial
from suite import provenance
from tests.experiments.tracking.tracked import CURVE, log_evaluation, log_training, write_report, write_speed


@pytest.fixture
def suite(tiny_suite, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", "")  # restored after the test
    monkeypatch.setenv("NETRC", str(tmp_path / "no-login"))
    return tiny_suite.changed(results=str(tmp_path))


def only_run(suite):
    (folder,) = offline_runs(suite.layout.root.parent)
    return folder, read_run(folder)


def table(folder, name):
    """Columns and rows of a logged table."""
    (path,) = folder.glob(f"files/media/table/{name}_[0-9]_*.table.json")
    contents = json.loads(path.read_text())
    return contents["columns"], contents["data"]


def test_a_training_is_one_offline_run_with_its_whole_curve(suite, tmp_path):
    run_id = log_training(suite, tmp_path / "run")
    _, run = only_run(suite)
    assert run["id"] == run_id
    assert (run["project"], run["name"]) == ("iounet", "tiny__samp1000_lw5.0__s3")
    assert (run["group"], run["job_type"]) == ("samp1000_lw5.0", "train")
    assert [(row["_step"], row.get("loss"), row.get("val/AP")) for row in run["history"]] == CURVE
    assert [row["iteration"] for row in run["history"]] == [10, 20, 30, 40]
    assert run["finished"]


def test_a_training_keeps_the_best_of_each_validation_metric(suite, tmp_path):
    log_training(suite, tmp_path / "run")
    _, run = only_run(suite)
    assert run["metrics"]["val/AP50"] == {"step_metric": "iteration", "max": True}
    assert run["metrics"]["loss"] == {"step_metric": "iteration", "max": False}
    assert (run["summary"]["val/AP"], run["summary"]["val/AP50"]) == ({"max": 0.25}, {"max": 0.625})
    assert run["summary"]["loss"] == 0.5


def test_a_trainings_config_and_tags_say_what_it_was(suite, tmp_path):
    log_training(suite, tmp_path / "run")
    _, run = only_run(suite)
    config = run["config"]
    assert config["mmdet"]["model"]["type"] == "FasterRCNN"
    assert config["mmdet"] == json.loads(json.dumps(resolve_config(suite, "samp1000_lw5.0")._cfg_dict.to_dict()))
    assert config["entry"] == suite.raw["variants"]["samp1000_lw5.0"]
    assert (config["suite"], config["variant"], config["seed"]) == ("tiny", "samp1000_lw5.0", 3)
    assert config["suite_settings"]["scale"] == suite.raw["scale"]
    assert (config["versions"], config["hardware"]) == ({"torch": "2.11"}, {"cores": 2})
    assert config["dataset_fingerprint"] == "f" * 64
    assert config["uses"] == ["tiny__data:ffffffffffffffff"]
    assert {"tiny", "iounet"} <= set(run["tags"])
    commit = provenance.git_state()["git_commit"]
    assert commit is None or commit[:12] in run["tags"]


def test_a_checkpoint_is_one_version_and_outlives_the_file(suite, tmp_path):
    log_training(suite, tmp_path / "run")
    (tmp_path / "run/checkpoint.pth").unlink()
    (tmp_path / "run/checkpoint.pth").write_bytes(b"other weights")
    _, run = only_run(suite)
    (artifact,) = run["artifacts"]
    assert (artifact["name"], artifact["type"]) == ("tiny__samp1000_lw5.0__s3", "checkpoint")
    assert {"latest", "best"} < set(artifact["aliases"])
    assert artifact["metadata"]["val/AP"] == 0.125, "of the weights that are kept, the last"
    staged = artifact["files"]["checkpoint.pth"]
    assert staged.startswith(str(tmp_path / "tiny/wandb/.data/"))
    with open(staged, "rb") as file:
        assert file.read() == b"the weights"


def test_what_an_evaluation_uses_is_what_the_training_made(suite, tmp_path):
    sha256 = "5" * 64
    log_evaluation(suite, tmp_path / "evaluation")
    _, run = only_run(suite)
    assert run["config"]["uses"] == [
        checkpoint_artifact(suite, "samp1000_lw5.0", 0, sha256),
        dataset_artifact(suite, "f" * 64),
    ]


def test_an_evaluation_logs_its_tables_and_curves(suite, tmp_path):
    log_evaluation(suite, tmp_path / "evaluation")
    folder, run = only_run(suite)
    assert (run["name"], run["job_type"]) == ("tiny__samp1000_lw5.0__s0__val", "eval")
    assert run["summary"]["rank/AP"] == 0.375
    assert "rank/AP90" not in run["summary"], "undefined"
    columns, rows = table(folder, "average_precision")
    assert columns == ["setting", "AP", "AP50", "AP75", "AP90"]
    assert rows[2] == ["rank_refine0.5", 0.5, 0.75, 0.5, None]
    assert table(folder, "average_precision_by_class") == (
        ["setting", "cat", "dog"],
        [["off", 0.25, None], ["rank", 0.375, None], ["rank_refine0.5", 0.5, None]],
    )
    assert table(folder, "ap_by_lambda_table")[1] == [[0.0, "rank", 0.375], [0.5, "rank", 0.5]]
    assert table(folder, "calibration_table")[1][:2] == [[0.625, "IoU-Net", 0.6875], [0.875, "IoU-Net", 0.75]]


def test_an_evaluation_logs_sample_images_with_boxes(suite, tmp_path):
    log_evaluation(suite, tmp_path / "evaluation")
    _, run = only_run(suite)
    (artifact,) = (a for a in run["artifacts"] if a["name"].endswith("-samples"))
    with open(artifact["files"]["samples.table.json"]) as file:
        contents = json.load(file)
    columns, rows = contents["columns"], contents["data"]
    assert columns == ["image", "ground truth", "off", "rank_refine0.5"]
    assert [row[0] for row in rows] == [1, 2]
    assert [boxes["class_id"] for boxes in rows[0][1]["boxes"]["ground_truth"]] == [7]
    (box,) = rows[0][3]["boxes"]["rank_refine0.5"]
    assert box["scores"] == {"class_score": 0.9, "predicted_iou": 0.8}


def test_an_evaluations_files_are_its_artifact(suite, tmp_path):
    run_id = log_evaluation(suite, tmp_path / "evaluation")
    _, run = only_run(suite)
    (artifact,) = (a for a in run["artifacts"] if a["type"] == "evaluation")
    reference = evaluation_artifact(suite, "samp1000_lw5.0", 0, "val", run_id)
    assert reference in {f"{artifact['name']}:{alias}" for alias in artifact["aliases"]}
    names = {"off.json", "rank.json", "rank_refine0.5.json", "diagnostics.json", "detections.json.gz"}
    assert artifact["files"].keys() == names
    with open(artifact["files"]["rank.json"]) as file:
        assert json.load(file)["wandb_run_id"] == run_id


def test_a_trial_logs_parameters_intermediate_values_and_result(suite):
    params = {"loss_weight": 5.0, "strategy": "per_iou"}
    trial = {"study": "tiny__main", "number": 7, "params": params, "published": None, "state": "complete"}
    record = suite.layout.sweep.trial_record("tiny__main__t7")
    log_trial(suite, record, {**trial, "value": 0.3, "guide": "rank", "step_size": None}, {2: 0.2, 1: 0.1})
    _, run = only_run(suite)
    assert (run["name"], run["group"], run["job_type"]) == ("tiny__main__t7", "tiny__main", "sweep")
    assert run["config"]["params"] == params
    assert (run["config"]["study"], run["config"]["trial"], run["config"]["state"]) == ("tiny__main", 7, "complete")
    assert [(row["_step"], row["trial/intermediate"]) for row in run["history"]] == [(1, 0.1), (2, 0.2)]
    assert (run["summary"]["trial/value"], run["summary"]["trial/guide"]) == (0.3, "rank")
    assert "trial/step_size" not in run["summary"]


def test_a_pruned_trial_has_no_value(suite):
    record = suite.layout.sweep.trial_record("tiny__main__t0")
    log_trial(suite, record, {"study": "tiny__main", "number": 0, "params": {}, "state": "pruned"}, {1: 0.1})
    _, run = only_run(suite)
    assert "trial/value" not in run["summary"]
    assert "pruned" in run["tags"]


def test_speed_is_a_table_and_numbers(suite):
    write_speed(suite)
    track_finished(Finished(suite, suite.layout.speed("cpu")))
    folder, run = only_run(suite)
    assert (run["name"], run["job_type"]) == ("tiny__speed__cpu", "speed")
    columns, logged = table(folder, "speed")
    assert columns[:4] == ["row", "batch_size", "fps", "latency_ms"]
    assert logged[1][:4] == ["refine", 1, 10.0, 100.0]
    assert run["summary"]["speed/faster_rcnn_batch1/fps"] == 20.0
    assert (run["summary"]["speed/refine/AP"], run["summary"]["speed/refine_bfloat16/AP"]) == (0.5, 0.25)
    assert run["config"]["hardware"] == {"cores": 2}
    assert run["config"]["uses"] == ["tiny__data:" + "f" * 16, "tiny__faster_rcnn__s0:" + "5" * 16]


def test_a_report_logs_tables_figures_and_the_evaluations_it_is_made_of(suite, tmp_path):
    log_evaluation(suite, tmp_path / "evaluation")
    write_report(suite.layout.report)
    (tmp_path / "suite.yaml").write_text(suite.text)
    assert track([str(suite.layout.report.path), "--suite", str(tmp_path / "suite.yaml")]) == 0
    (folder,) = (f for f in offline_runs(tmp_path) if read_run(f)["job_type"] == "report")
    run = read_run(folder)
    assert run["name"] == "tiny__report"
    (main,) = folder.glob("files/media/table/tables/main_*.json")
    assert json.loads(main.read_text())["data"] == [["paper", 40.6], ["ours", None]]
    assert len(list(folder.glob("files/media/images/figures/ascent_*.png"))) == 1
    assert run["config"]["uses"] == ["tiny__samp1000_lw5.0__s0__val:abcd"]
    (artifact,) = (a for a in run["artifacts"] if a["type"] == "report")
    assert artifact["files"].keys() == {"README.md", "tables/main.csv", "figures/ascent.png"}


def test_a_report_that_is_not_there_is_named(suite, tmp_path):
    (tmp_path / "suite.yaml").write_text(suite.text)
    with pytest.raises(SystemExit, match=r"provenance\.json is missing: build the report first"):
        track([str(tmp_path / "none"), "--suite", str(tmp_path / "suite.yaml")])


def test_a_dataset_is_its_manifest(suite, tiny_data):
    shutil.copytree(tiny_data, suite.layout.data.path)
    track_finished(Finished(suite, suite.layout.data.path))
    _, run = only_run(suite)
    (artifact,) = run["artifacts"]
    reference = dataset_artifact(suite, run["config"]["dataset_fingerprint"])
    assert reference in {f"{artifact['name']}:{alias}" for alias in artifact["aliases"]}
    assert artifact["files"].keys() == {"dataset.json"}


def test_everything_lies_under_results_whatever_the_environment_says(suite, tmp_path, monkeypatch):
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    log_training(suite, tmp_path / "run")
    assert not (tmp_path / "elsewhere").exists()
    assert len(offline_runs(tmp_path)) == 1


def test_a_run_is_whole_or_not_there(suite, tmp_path, capsys):
    assert log_training(suite, tmp_path / "run", history=[{"step": 1, "loss": 1.0}, {"step": "x", "loss": 0.5}]) is None
    assert offline_runs(tmp_path) == []
    assert "this stage goes untracked (ValueError: " in capsys.readouterr().err
    assert log_training(suite, tmp_path / "run") is not None, "the tracker itself is not broken by that"


def test_disabled_writes_nothing(suite, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert log_training(suite, tmp_path / "run") is None
    assert not (suite.layout.root / "wandb").exists()


def test_without_wandb_the_stage_goes_on_and_says_so_once(suite, tmp_path, monkeypatch, capsys):
    real = builtins.__import__

    def no_wandb(name, *args, **kwargs):
        if name == "wandb":
            raise ModuleNotFoundError("No module named 'wandb'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_wandb)
    assert log_training(suite, tmp_path / "run") is None
    assert capsys.readouterr().err.count("this stage goes untracked") == 1


def test_a_key_does_not_reach_the_message(suite, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "secret-key")
    runs.tell("bad key secret-key")
    assert "secret-key" not in capsys.readouterr().err


def test_mode_follows_the_environment_then_a_login(suite, monkeypatch, tmp_path):
    assert runs.mode() == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert runs.mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert runs.mode() == "offline"
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert runs.mode() == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert runs.mode() == "disabled"


def test_a_damaged_netrc_is_no_login(suite, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine\nnonsense")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert runs.mode() == "offline"

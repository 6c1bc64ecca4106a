"""Uploading offline runs: to a server on the loopback by W&B's own command; lineage, by a stand-in for its API."""

import shutil
import subprocess
import sys

import pytest

from experiments.finished import Finished
from experiments.tracking import runs as tracking
from experiments.tracking import sync
from experiments.tracking.offline import offline_runs, read_run, relocate
from experiments.tracking.references import dataset_artifact
from experiments.tracking.track import track_all, track_finished
from suite.files import read_json
from suite.records import run_id
from tests.experiments.tracking.tracked import CURVE, log_evaluation, log_training

KEY = "5ecre7" * 7


@pytest.fixture
def suite(bare_suite):
    return bare_suite


def run_sync(server, results, *arguments):
    environment = {**tracking.environment(), "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    command = [
        sys.executable,
        "-m",
        "experiments",
        "sync",
        "--results",
        str(results),
        "--entity",
        "me",
        *arguments,
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def test_results_copied_elsewhere_upload_whole_and_once(suite, server, tmp_path):
    training = log_training(suite, tmp_path / "run")
    evaluation = log_evaluation(suite, tmp_path / "evaluation")
    shutil.copytree(tmp_path / "results", tmp_path / "copy")
    for folder in ("results", "run", "evaluation"):
        shutil.rmtree(tmp_path / folder)

    done = run_sync(server, tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    assert "2 runs uploaded" in done.stdout
    assert server.runs.keys() == {training, evaluation}
    assert server.runs[training]["displayName"] == "tiny__samp1000_lw5.0__s3"
    assert [(row["_step"], row.get("loss"), row.get("val/AP")) for row in server.history(training)] == CURVE
    (checkpoint,) = (a for a in server.artifacts if a["type"] == "checkpoint")
    assert checkpoint["files"] == {"checkpoint.pth": b"the weights"}
    assert (checkpoint["run"], {"best", "latest"} < set(checkpoint["aliases"])) == (training, True)
    (samples,) = (a for a in server.artifacts if a["name"].endswith("-samples"))
    assert any(name.endswith(".png") for name in samples["files"])
    assert KEY in server.keys

    uploads = len(server.artifacts), server.operations.count("UpsertBucket")
    again = run_sync(server, tmp_path / "copy")
    assert "0 runs uploaded, 2 were there" in again.stdout, again.stderr
    assert (len(server.artifacts), server.operations.count("UpsertBucket")) == uploads
    found = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert found == [] and KEY not in done.stdout + done.stderr


def test_a_refused_key_leaves_everything_to_the_next_call(suite, server, tmp_path):
    log_training(suite, tmp_path / "run")
    server.refuse = True
    done = run_sync(server, tmp_path / "results", "--timeout", "20")
    assert done.returncode == 1
    assert "error: 1 of 1 runs are not uploaded, offline-run-" in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert not server.runs
    server.refuse = False
    assert "1 runs uploaded" in run_sync(server, tmp_path / "results").stdout


def test_a_staged_file_that_was_not_copied_is_named(suite, tmp_path):
    log_training(suite, tmp_path / "run")
    (run,) = offline_runs(tmp_path / "results")
    assert not relocate(run), "nothing moved"
    shutil.rmtree(run.parent / ".data")
    with pytest.raises(FileNotFoundError, match=r"checkpoint\.pth is gone"):
        relocate(run)


class Artifact:
    def __init__(self, reference, ap=None, aliases=()):
        self.reference, self.metadata, self.aliases = reference, {} if ap is None else {"val/AP": ap}, list(aliases)
        self.saved = False

    def save(self):
        self.saved = True


class Api:
    """What `add_lineage` and `mark_best` use of `wandb.Api`."""

    def __init__(self, known):
        self.known, self.used, self.versions = known, [], []

    def artifact(self, reference):
        if reference not in self.known:
            raise ValueError(f"artifact membership '{reference}' not found")
        return Artifact(reference)

    def artifacts(self, kind, name):
        assert (kind, name) == ("checkpoint", "me/iounet/tiny__samp1000_lw5.0__s3")
        return self.versions

    def run(self, path):
        api = self

        class Run:
            def use_artifact(self, artifact):
                api.used.append((path, artifact.reference))

        return Run()


def test_lineage_runs_from_dataset_to_checkpoint_to_evaluation_and_is_added_once(suite, tmp_path):
    training = log_training(suite, tmp_path / "run", seed=0)
    (run,) = offline_runs(tmp_path / "results")
    (checkpoint,) = read_run(run)["artifacts"]
    evaluation = log_evaluation(suite, tmp_path / "evaluation")
    references = [
        f"me/iounet/{checkpoint['name']}:{'5' * 16}",
        f"me/iounet/{dataset_artifact(suite, 'f' * 64)}",
    ]
    api = Api(references)
    runs = offline_runs(tmp_path / "results")
    assert sync.add_lineage(runs, api, "me/iounet") == 3
    assert sorted(api.used) == sorted(
        [
            (f"me/iounet/{training}", references[1]),
            (f"me/iounet/{evaluation}", references[0]),
            (f"me/iounet/{evaluation}", references[1]),
        ]
    )
    assert sync.add_lineage(runs, api, "me/iounet") == 0
    assert len(api.used) == 3


def test_lineage_waits_for_an_input_that_is_not_uploaded(suite, tmp_path, capsys):
    log_training(suite, tmp_path / "run")
    runs = offline_runs(tmp_path / "results")
    api = Api([])
    assert sync.add_lineage(runs, api, "me/iounet") == 0
    assert "tiny__samp1000_lw5.0__s3: no lineage yet (ValueError: artifact membership" in capsys.readouterr().err
    api.known = [f"me/iounet/{dataset_artifact(suite, 'f' * 64)}"]
    assert sync.add_lineage(runs, api, "me/iounet") == 1


def test_best_is_the_version_with_the_highest_validation_ap(suite, tmp_path):
    log_training(suite, tmp_path / "run")
    api = Api([])
    older, newer = Artifact("v0", 0.5, ["v0"]), Artifact("v1", 0.25, ["v1", "latest", "best"])
    api.versions = [newer, older]
    sync.mark_best(offline_runs(tmp_path / "results"), api, "me/iounet")
    assert ("best" in older.aliases, older.saved, newer.saved) == (True, True, False)


def test_the_list_says_what_the_files_hold(suite, tmp_path, capsys):
    log_training(suite, tmp_path / "run")
    assert sync.main(["--results", str(tmp_path / "results"), "--list"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["group", "job"]
    assert line.split()[:6] == ["samp1000_lw5.0", "train", "tiny__samp1000_lw5.0__s3", "4", "40", "no"]


def test_a_missing_results_folder_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        sync.main(["--results", str(tmp_path / "none"), "--list"])
    assert "none: no such folder" in capsys.readouterr().err


def test_runs_of_untracked_stages_are_written_later(suite, tiny_data, tmp_path, monkeypatch):
    from experiments.training.train import train

    monkeypatch.setenv("WANDB_MODE", "disabled")
    layout = suite.layout
    shutil.copytree(tiny_data, layout.data.path)
    layout.suite_file.write_text(suite.text)
    folder = layout.run("faster_rcnn", 0)
    train(suite, "faster_rcnn", 0, folder=folder, data=layout.data, pretraining=None)
    before = folder.run.stat().st_mtime_ns
    assert track_finished(Finished(suite, folder.path)) is None
    assert not folder.record.exists()

    monkeypatch.setenv("WANDB_MODE", "offline")
    assert track_all(tmp_path / "results") == 2, "the data set and the training"
    runs = {run["name"]: run for run in map(read_run, offline_runs(tmp_path / "results"))}
    assert runs.keys() == {"tiny__data", "tiny__faster_rcnn__s0"}
    assert runs["tiny__faster_rcnn__s0"]["history"][-1]["_step"] == 8
    assert run_id(folder.record, read_json(folder.run)) == runs["tiny__faster_rcnn__s0"]["id"]
    assert folder.run.stat().st_mtime_ns == before, "a workflow must not take it for a new result"
    assert track_all(tmp_path / "results") == 0


def test_an_evaluation_that_went_untracked_is_written_from_its_files(suite, tiny_data, tmp_path):
    import torch

    from experiments.config import resolve_config
    from experiments.data.datasets import dataset_classes
    from experiments.evaluation.evaluate import evaluate
    from experiments.models import build_model

    layout = suite.layout
    shutil.copytree(tiny_data, layout.data.path)
    layout.suite_file.write_text(suite.text)
    torch.manual_seed(0)
    model = build_model(resolve_config(suite, "samp1000_lw5.0"))
    meta = {"classes": dataset_classes(layout.data)}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, tmp_path / "checkpoint.pth")
    out = layout.evaluation("samp1000_lw5.0", 0, "val")
    checkpoint = tmp_path / "checkpoint.pth"
    evaluate(suite, "samp1000_lw5.0", 0, "val", data=layout.data, out=out, checkpoint=checkpoint)
    track_finished(Finished(suite, out.path))
    (first,) = offline_runs(tmp_path / "results")
    out.record.unlink()

    assert track_all(tmp_path / "results") == 2, "the data set and the evaluation"
    written = [read_run(run) for run in offline_runs(tmp_path / "results") if run != first]
    told, (again,) = read_run(first), [run for run in written if run["job_type"] == "eval"]
    settings = [path for path in out.path.glob("*.json") if out.setting_of(path)]
    assert len(settings) == 3
    assert {run_id(out.record, read_json(path)) for path in [out.index, out.diagnostics, *settings]} == {again["id"]}
    assert {"versions", "hardware"} < told["config"].keys()
    same = ("name", "group", "job_type", "config")
    assert {key: told[key] for key in same} == {key: again[key] for key in same}
    assert told["summary"]["rank/AP"] == again["summary"]["rank/AP"]


def test_a_run_of_which_nothing_reached_the_disk_is_passed_over(suite, server, tmp_path):
    log_training(suite, tmp_path / "run")
    torn = suite.layout.wandb / "offline-run-20260101_000000-deadbeef"
    torn.mkdir()
    (torn / "run-deadbeef.wandb").write_bytes(b":W&B\xe1\xbe\x00")
    assert sync.main(["--results", str(tmp_path / "results"), "--list"]) == 0
    assert "1 runs uploaded, 0 were there" in run_sync(server, tmp_path / "results").stdout

"""A training shown while it runs: by a process that streams its metrics log to a server on the loopback."""

import os
import signal
import socket
import threading
import time

import pytest

from experiments.tracking import live, runs
from experiments.tracking.live import Live, follow
from experiments.tracking.offline import offline_runs
from suite.files import read_json, write_json
from suite.layout import RunFolder
from tests.experiments.tracking.tracked import CURVE, HISTORY, IDENTITY, log_training
from tests.experiments.tracking.tracked import write_log as append

KEY = "5ecre7" * 7


@pytest.fixture
def suite(bare_suite, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "0.5")  # seconds; the default is 15
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    return bare_suite


@pytest.fixture
def server(server, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    return server


@pytest.fixture
def folder(tmp_path):
    """Of a training that was begun, so that the id of its run is known."""
    folder = RunFolder(tmp_path / "run")
    write_json(folder.record, {"identity": IDENTITY, "run_id": "0a1b2c3d", "is_logged": False})
    return folder


def start(suite, folder, patience=120, **options):
    """Patient, for a busy machine, where the server answers."""
    return Live(suite, "faster_rcnn", 0, folder, IDENTITY, {"model": {}}, patience=patience, **options)


def wait_for(condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Run:
    """What `follow` uses of a W&B run."""

    def __init__(self, starting_step):
        self.starting_step, self.logged, self.defined = starting_step, [], {}

    def log(self, values, step):
        self.logged.append((step, values))

    def define_metric(self, name, step_metric, summary):
        assert name not in self.defined
        self.defined[name] = summary


def test_follow_logs_what_the_server_does_not_have_and_the_rest_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "POLL_SECONDS", 0.01)
    append(tmp_path / "log", HISTORY[:3])
    run, ended = Run(starting_step=20), threading.Event()
    thread = threading.Thread(target=follow, args=(run, tmp_path / "log", ended))
    thread.start()
    wait_for(lambda: len(run.logged) == 2)
    append(tmp_path / "log", HISTORY[3:])
    ended.set()
    thread.join(100)
    assert [(step, values.get("loss")) for step, values in run.logged] == [(20, 1.0), (20, None), (30, 0.5), (40, None)]
    assert all(values["iteration"] == step for step, values in run.logged)
    assert (run.defined["val/AP"], run.defined["loss"]) == ("max", None)


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_nothing_is_started_offline(suite, tmp_path, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    folder = RunFolder(tmp_path / "run")
    with start(suite, folder) as shown:
        assert shown._process is None
    assert not shown.failed
    assert not (tmp_path / "results").exists()
    assert not folder.path.exists()


def test_killed_and_resumed_it_is_one_curve_on_the_server(suite, server, folder):
    append(folder.metrics, HISTORY[:2])
    killed = start(suite, folder).__enter__()
    # a step goes out when the next one is logged; here 10 is there and 20 is not
    wait_for(lambda: "0a1b2c3d" in server.runs and server.history("0a1b2c3d"))
    os.kill(killed._process.pid, signal.SIGKILL)
    killed._process.wait()
    with start(suite, folder) as shown:
        append(folder.metrics, HISTORY[2:])
    assert not shown.failed
    assert server.runs.keys() == {"0a1b2c3d"}
    assert [(row["_step"], row.get("loss"), row.get("val/AP")) for row in server.history("0a1b2c3d")] == CURVE
    run = server.runs["0a1b2c3d"]
    assert (run["displayName"], run["jobType"]) == ("tiny__faster_rcnn__s0", "train")


def test_the_id_is_in_the_record_before_the_run_is_on_the_server(suite, server, tmp_path):
    folder = RunFolder(tmp_path / "run")
    with start(suite, folder) as shown:
        record = read_json(folder.record)
        append(folder.metrics, HISTORY)
    assert not shown.failed
    assert (record["identity"], record["is_logged"]) == (IDENTITY, False)
    assert server.runs.keys() == {record["run_id"]}


def test_a_wrong_key_is_told_once_and_in_no_file(suite, server, folder, tmp_path, capfd):
    server.refuse = True
    append(folder.metrics, HISTORY)
    with start(suite, folder, patience=10) as shown:
        pass
    assert shown.failed
    output = "".join(capfd.readouterr())
    assert output.count("Weights & Biases:") == 1
    assert "this training is not shown live" in output and "make sync" in output
    assert KEY not in output
    assert [p for p in tmp_path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()] == []


def test_a_server_that_never_answers_costs_a_bounded_time(suite, folder, monkeypatch, capfd):
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(64)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{hole.getsockname()[1]}")
        append(folder.metrics, HISTORY)
        with start(suite, folder, patience=4) as shown:
            assert shown._process.poll() is None, "the training does not wait until the server is given up"
            left = time.monotonic()
        assert time.monotonic() - left < 40  # two patiences and ten seconds, and what a busy machine adds
    assert shown.failed
    assert "".join(capfd.readouterr()).count("Weights & Biases:") == 1


def test_a_finished_stage_is_uploaded_at_once(suite, server, tmp_path):
    run_id = log_training(suite, tmp_path / "run")
    assert [(row["_step"], row.get("loss"), row.get("val/AP")) for row in server.history(run_id)] == CURVE
    assert any(a["type"] == "checkpoint" for a in server.artifacts)


def test_the_upload_adds_what_was_not_streamed(suite, server, folder):
    append(folder.metrics, HISTORY[:3])
    with start(suite, folder):
        pass
    assert log_training(suite, folder.path, variant="faster_rcnn", seed=0) == "0a1b2c3d"
    assert [(row["_step"], row.get("loss"), row.get("val/AP")) for row in server.history("0a1b2c3d")] == CURVE


@pytest.mark.parametrize("fault", ["a wrong key", "no answer"])
def test_what_is_not_uploaded_is_told_once_and_kept(suite, server, tmp_path, monkeypatch, capfd, fault):
    monkeypatch.setattr(runs, "UPLOAD_SECONDS", 10)
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(64)
        if fault == "no answer":
            monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{hole.getsockname()[1]}")
        server.refuse = True
        assert log_training(suite, tmp_path / "run") is not None
    output = "".join(capfd.readouterr())
    assert output.count("Weights & Biases:") == 1
    assert "this run is not uploaded" in output and "nothing is lost" in output
    assert fault == "a wrong key" or ": no answer within 5 s)" in output
    assert KEY not in output
    assert [p for p in tmp_path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()] == []
    (run,) = offline_runs(tmp_path / "results")
    assert not list(run.glob("*.synced"))

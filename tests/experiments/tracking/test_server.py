"""A server that cannot be used costs a workflow run five seconds at most, however many stages it has."""

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time

import pytest

from experiments.tracking import runs, server, sync
from experiments.tracking.live import Live
from experiments.tracking.offline import offline_runs
from suite.layout import RunFolder
from tests.experiments.tracking.test_sync import run_sync
from tests.experiments.tracking.test_track import Case
from tests.experiments.tracking.tracked import IDENTITY
from tests.experiments.tracking.wandb_server import WandbServer

KEY = "5ecre7" * 7


@pytest.fixture
def suite(suite, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("IOUNET_WORKFLOW", "a run")
    return suite


@pytest.fixture
def hole(monkeypatch):
    """The connections to a server that never answers."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as hole:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{hole.getsockname()[1]}")

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connections.append(hole.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield connections


@pytest.fixture
def refused(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")


@pytest.fixture
def asked(monkeypatch):
    """How long the server was asked, each time."""
    seconds = []
    probe = server.probe

    def timed():
        started = time.monotonic()
        reason = probe()
        seconds.append(time.monotonic() - started)
        return reason

    monkeypatch.setattr(server, "probe", timed)
    forbid_uploads(monkeypatch)
    return seconds


def forbid_uploads(monkeypatch):
    start = subprocess.Popen

    def checked(command, **options):
        assert "sync" not in command, "an upload is begun"
        return start(command, **options)

    monkeypatch.setattr(runs.subprocess, "Popen", checked)


@pytest.mark.parametrize(("fault", "reason"), [("refused", "Connection refused"), ("hole", "no answer within 5 s")])
def test_all_stages_together_wait_five_seconds_and_each_says_in_one_line_what_to_do(
    suite, asked, request, fault, reason, capfd
):
    request.getfixturevalue(fault)
    stages = [Case(suite, kind) for kind in ("data", "training", "evaluation", "speed", "report", "trial")]
    for stage in stages:
        assert stage.log() is not None
    assert len(asked) == 1 and asked[0] < 5.5
    lines = [line for line in capfd.readouterr().err.splitlines() if "Weights & Biases:" in line]
    assert len(lines) == len(stages)
    place = r"127\.0\.0\.1:\d+"
    told = rf"this run is not uploaded \({place}: {reason}{{}}\); nothing is lost, `make sync` does it later"
    assert re.search(told.format(""), lines[0])
    assert all(
        re.search(told.format(r", at \d\d:\d\d, and it is not asked again in this run"), line) for line in lines[1:]
    )
    assert len(offline_runs(suite.layout.root.parent)) == len(stages), "nothing is lost"


@pytest.mark.parametrize("fault", ["refused", "hole"])
def test_a_training_is_not_held_up_and_its_stages_know(suite, request, monkeypatch, tmp_path, fault, capfd):
    request.getfixturevalue(fault)
    show = {"folder": RunFolder(tmp_path / "run"), "identity": IDENTITY, "config": {"model": {}}}
    started = time.monotonic()
    with Live(suite, "faster_rcnn", 0, **show) as shown:
        pass
    assert shown.failed
    assert time.monotonic() - started < 40  # five seconds, and the start of a process on a busy machine
    output = capfd.readouterr().err
    assert output.count("Weights & Biases:") == 1 and "this training is not shown live (127.0.0.1:" in output
    monkeypatch.setattr(server, "probe", lambda: 1 / 0)
    forbid_uploads(monkeypatch)
    with Live(suite, "faster_rcnn", 1, **show) as shown:
        assert shown.failed
    Case(suite, "data").log()
    output = capfd.readouterr().err
    assert output.count("it is not asked again in this run") == 2
    assert output.count("Weights & Biases:") == 2


def test_another_workflow_run_asks_anew(suite, asked, refused, monkeypatch):
    Case(suite, "data").log()
    monkeypatch.setenv("IOUNET_WORKFLOW", "the next run")
    Case(suite, "training").log()
    Case(suite, "speed").log()
    assert len(asked) == 2


def test_without_a_workflow_run_it_holds_for_an_hour(suite, asked, refused, monkeypatch):
    monkeypatch.delenv("IOUNET_WORKFLOW")
    Case(suite, "data").log()
    now = time.time()
    monkeypatch.setattr(server.time, "time", lambda: now + 3500)
    Case(suite, "training").log()
    assert len(asked) == 1
    monkeypatch.setattr(server.time, "time", lambda: now + 3700)
    Case(suite, "speed").log()
    assert len(asked) == 2


@pytest.mark.parametrize("contents", [b"", b"\0\0", b"{", b"[]", b"{}", b'{"time": "x"}'])
def test_a_damaged_memory_is_none(suite, contents):
    suite.layout.wandb.mkdir()
    (suite.layout.wandb / ".server.json").write_bytes(contents)
    assert server.remembered(suite.layout.wandb) is None


def test_another_server_is_asked(suite, asked, refused, monkeypatch):
    Case(suite, "data").log()
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    Case(suite, "training").log()
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense", "WANDB_BASE_URL"),
        ("http://", "WANDB_BASE_URL"),
        ("http://[::1", "WANDB_BASE_URL"),
        ("http://me:hunter2@127.0.0.1:1", "Connection refused"),
    ],
)
def test_an_address_that_cannot_be_used_is_a_reason_without_its_password(suite, monkeypatch, url, reason):
    monkeypatch.setenv("WANDB_BASE_URL", url)
    told = server.unusable(suite.layout.wandb)
    assert reason in told and "hunter2" not in told
    assert "hunter2" not in (suite.layout.wandb / ".server.json").read_text()


def test_a_server_that_answers_is_asked_before_each_upload_and_what_fails_is_remembered(suite, monkeypatch, capfd):
    """It may go in the middle of a workflow run."""
    with WandbServer() as there:
        monkeypatch.setenv("WANDB_BASE_URL", there.url)
        assert server.unusable(suite.layout.wandb) is None
        there.refuse = True
        assert server.unusable(suite.layout.wandb) is None, "an error is an answer"
        Case(suite, "data").log()
        assert "this run is not uploaded" in capfd.readouterr().err
        forbid_uploads(monkeypatch)
        Case(suite, "training").log()
        assert "it is not asked again in this run" in capfd.readouterr().err
        monkeypatch.undo()
        there.refuse = False
        results = suite.layout.root.parent
        assert "2 runs uploaded" in run_sync(there, results).stdout
        assert not (suite.layout.wandb / ".server.json").exists(), "it works again"
    assert [p for p in results.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()] == []


def test_processes_of_one_workflow_run_knock_once(suite, hole):
    """As the jobs of Snakemake do; neither their runs nor W&B's own telemetry wait for the server."""
    stages = [Case(suite, kind) for kind in ("data", "training", "speed")]
    lines = []
    for stage in stages:
        command = [sys.executable, "-m", "experiments", "track", str(stage.path)]
        done = subprocess.run(command, env=runs.environment(), capture_output=True, text=True, timeout=200)
        assert done.stdout == "1 runs written\n", done.stderr
        lines += done.stderr.splitlines()
    assert ["not asked again" in line for line in lines] == [False, True, True]
    assert len(hole) == 1


@pytest.mark.parametrize(("fault", "reason"), [("refused", "Connection refused"), ("hole", "no answer within 5 s")])
def test_make_sync_asks_first_and_ends_in_one_line(suite, request, monkeypatch, fault, reason, capsys):
    """Also where a stage found the server silent a moment ago: who calls it wants to know how it is now."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    Case(suite, "data").log()
    Case(suite, "training").log()
    request.getfixturevalue(fault)
    monkeypatch.setattr(sync, "upload", lambda *_: 1 / 0)
    started = time.monotonic()
    capsys.readouterr()
    assert sync.main(["--results", str(suite.layout.root.parent)]) == 1
    assert time.monotonic() - started < 8
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: 127.0.0.1:") and f"{reason}. 2 of 2 runs wait for their upload; nothing is" in line


def test_make_sync_asks_no_server_where_nothing_waits(suite, monkeypatch, capsys):
    suite.layout.root.parent.mkdir(exist_ok=True)
    monkeypatch.setattr(server, "probe", lambda: 1 / 0)
    assert sync.main(["--results", str(suite.layout.root.parent)]) == 0
    assert capsys.readouterr().out == "0 runs uploaded, 0 were there, 0 lineage edges added\n"

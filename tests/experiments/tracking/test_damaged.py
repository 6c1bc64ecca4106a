"""A run that a kill or a power cut left damaged is set aside, kept, told and written again under its id."""

import shutil

import pytest

from experiments.tracking import damaged, runs, sync
from experiments.tracking.offline import _pack, damage, offline_runs, read_run
from experiments.tracking.track import main as track_main
from experiments.tracking.track import track
from suite.files import read_json, write_json
from tests.experiments.tracking.test_sync import run_sync
from tests.experiments.tracking.test_track import Case, kill_in


def log_of(run):
    (log,) = run.glob("*.wandb")
    return log


def rewrite(change):
    return lambda run: log_of(run).write_bytes(change(log_of(run).read_bytes()))


DAMAGES = {  # what a kill, a power cut, a full disk or a careless hand does to a run; how it is told
    "seven bytes": (rewrite(lambda data: data[:7]), "its log is empty"),
    "an empty file": (rewrite(lambda data: b""), "its log is empty"),
    "a torn header": (rewrite(lambda data: data[:3]), "its log is empty"),
    "seven other bytes": (rewrite(lambda data: b"\0" * 7), "its log is empty"),
    "another header": (rewrite(lambda data: b"garbage" + data[7:]), "its log is empty"),
    "garbage": (rewrite(lambda data: bytes(range(256)) * 50), "its log is empty"),
    "garbage behind the header": (rewrite(lambda data: data[:7] + bytes(range(256)) * 50), "its log is empty"),
    "a piece that is none": (
        rewrite(lambda data: data[:7] + b"\0\0\0\0\x05\0\x01\xff\xff\xff\xff\xff" + data[7:]),
        "its log is empty",
    ),
    "a record that is none": (
        rewrite(lambda data: data[:7] + _pack([b"\xff" * 5]) + data[7:]),
        "Error parsing message",
    ),
    "a torn end": (rewrite(lambda data: data[:-3]), "its log ends in the middle"),
    "half of it": (rewrite(lambda data: data[: len(data) // 2]), "its log ends in the middle"),
    "NULs at its end": (rewrite(lambda data: data[:-40] + bytes(40)), "its log ends in the middle"),
    "NULs in its middle": (
        rewrite(lambda data: data[: len(data) // 2] + bytes(200) + data[len(data) // 2 + 200 :]),
        "its log ends in the middle",
    ),
    "a flipped bit": (
        rewrite(lambda data: data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:]),
        "its log ends in the middle",
    ),
    "no log": (lambda run: log_of(run).unlink(), "there must be one *.wandb file in it"),
    "two logs": (lambda run: shutil.copy(log_of(run), run / "run-2.wandb"), "there must be one *.wandb file in it"),
    "no folder of files": (lambda run: shutil.rmtree(run / "files"), "is missing"),
    "no staged files": (lambda run: shutil.rmtree(run.parent / ".data/staged"), "is gone"),
}


@pytest.fixture(params=DAMAGES.values(), ids=DAMAGES)
def damaging(request):
    return request.param


def contents(folder):
    """Without W&B's own logs, which its service goes on writing."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != "logs")
    return {path.relative_to(folder): path.read_bytes() for path in files}


def run_of(suite, run_id):
    (run,) = suite.layout.wandb.glob(f"offline-run-*-{run_id}")
    return run


def other_runs(suite):
    return sorted(run.name for run in (suite.layout.wandb / "damaged").iterdir())


@pytest.mark.parametrize("is_marked", [False, True], ids=["killed", "whole once"])
def test_a_damaged_run_is_set_aside_and_written_again_under_its_id(suite, damaging, is_marked, capsys):
    spoil, told = damaging
    stage = Case(suite, "evaluation")
    run_id = stage.log()
    if not is_marked:
        write_json(stage.record, {**read_json(stage.record), "is_logged": False})
    run = run_of(suite, run_id)
    before = read_run(run)
    spoil(run)
    assert told in damage(run)
    left = contents(run)
    capsys.readouterr()

    assert sync.main(["--results", str(suite.layout.root.parent), "--list"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert run.name in line and told in line and "`make sync` sets it aside and writes it again" in line
    assert contents(run) == left, "to look changes nothing"

    assert track(suite) == 2, "the data set, too"
    errors = capsys.readouterr().err
    assert errors.count("Weights & Biases:") == 1
    assert f"{run.name} is set aside" in errors and told in errors and "wandb/damaged/" in errors
    kept = contents(suite.layout.wandb / "damaged" / run.name)
    assert {path: kept[path] for path in left} == left
    again = run_of(suite, run_id)
    assert damage(again) is None
    same = ("id", "name", "group", "job_type", "config")
    assert {key: read_run(again)[key] for key in same} == {key: before[key] for key in same}
    assert read_run(again)["summary"]["rank/AP"] == before["summary"]["rank/AP"]
    assert read_json(stage.record)["is_logged"]
    assert track(suite) == 0
    assert (stage.log(), other_runs(suite), capsys.readouterr().err) == (run_id, [run.name], "")


def test_the_sync_goes_on_after_a_kill_within_a_run(suite, server, monkeypatch):
    whole, killed = Case(suite, "data"), Case(suite, "training")
    whole.log()
    kill_in(killed, monkeypatch, runs, "wait_until_whole")
    claimed = read_json(killed.record)["run_id"]
    torn = suite.layout.wandb / f"offline-run-20260101_000000-{claimed}"
    torn.mkdir()
    (torn / f"run-{claimed}.wandb").write_bytes(b":W&B\xe1\xbe\x00")
    results = suite.layout.root.parent
    done = run_sync(server, results)
    assert done.returncode == 0, done.stderr
    assert "1 runs written" in done.stdout and "2 runs uploaded" in done.stdout
    assert f"{torn.name} is set aside" in done.stderr
    assert server.runs.keys() == {run["id"] for run in map(read_run, whole.runs)}
    assert claimed in server.runs
    assert "0 runs uploaded, 2 were there" in run_sync(server, results).stdout


def test_killed_between_setting_aside_and_writing_again(suite, monkeypatch):
    stage = Case(suite, "training")
    run_id = stage.log()
    log_of(run_of(suite, run_id)).write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_write", lambda *_: 1 / 0)
        assert track(suite) == 0
    assert stage.runs == []
    assert track(suite) == 1
    assert read_run(run_of(suite, run_id))["finished"]
    shutil.rmtree(run_of(suite, run_id))  # as `wandb sync --clean` does with what is uploaded
    assert track(suite) == 0


def test_damaged_twice_each_is_kept(suite):
    stage = Case(suite, "training")
    run_id = stage.log()
    for number in (1, 2):
        run = run_of(suite, run_id)
        run.rename(run.with_name(f"offline-run-20260101_000000-{run_id}"))
        log_of(run_of(suite, run_id)).write_bytes(b"x" * number)
        assert track(suite) == 1
    assert other_runs(suite) == [f"offline-run-20260101_000000-{run_id}{more}" for more in ("", "-2")]
    assert not damaged.awaits_rewriting(suite.layout.wandb, run_id)


def test_a_run_that_is_being_written_is_left_alone(suite, server, capsys):
    Case(suite, "data").log()
    begun = suite.layout.wandb / "offline-run-20260101_000000-deadbeef"
    begun.mkdir()
    (begun / "run-deadbeef.wandb").write_bytes(b":W&B\xe1\xbe\x00")
    with damaged.writing(suite.layout.wandb, "deadbeef"):
        assert sync.main(["--results", str(suite.layout.root.parent), "--list"]) == 0
        assert "its log is empty, or no log of W&B; is being written" in capsys.readouterr().out
        assert "1 runs uploaded, 0 were there" in run_sync(server, suite.layout.root.parent).stdout
    assert begun.is_dir() and not (suite.layout.wandb / "damaged").exists()


def test_a_run_that_no_stage_is_of_is_kept_and_told(suite, server):
    torn = suite.layout.wandb / "offline-run-20260101_000000-deadbeef"
    torn.mkdir(parents=True)
    (torn / "run-deadbeef.wandb").write_bytes(b"12345")
    done = run_sync(server, suite.layout.root.parent)
    assert done.returncode == 0, done.stderr
    place = suite.layout.wandb / "damaged" / torn.name
    assert f"{place}: no finished stage below {suite.layout.root.parent} is this run's" in done.stdout
    assert (place / "run-deadbeef.wandb").read_bytes() == b"12345"


def test_an_uploaded_run_that_is_damaged_later_stays_and_is_not_uploaded_again(suite, capsys):
    stage = Case(suite, "data")
    run = run_of(suite, stage.log())
    log_of(run).with_name(f"{log_of(run).name}.synced").touch()
    log_of(run).write_bytes(b"")
    assert track(suite) == 0
    assert run.is_dir() and not (suite.layout.wandb / "damaged").exists()
    assert sync.main(["--results", str(suite.layout.root.parent), "--list"]) == 0
    assert run.name not in capsys.readouterr().out


def test_one_damaged_run_asked_for_by_its_folder_is_an_error(suite, server):
    stage = Case(suite, "data")
    run = run_of(suite, stage.log())
    log_of(run).write_bytes(b"")
    done = run_sync(server, suite.layout.root.parent, "--run", str(run))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: {run}: its log is empty" in done.stderr and "Traceback" not in done.stderr
    assert not server.runs


def test_what_cannot_be_moved_is_told_and_the_rest_goes_on(suite, capsys, monkeypatch):
    stage = Case(suite, "data")
    run = run_of(suite, stage.log())
    log_of(run).write_bytes(b"")
    Case(suite, "training")
    (suite.layout.wandb / "damaged").write_text("in the way")
    assert track_main(["--suite", str(suite.layout.suite_file)]) == 0
    output = capsys.readouterr()
    assert output.out == "1 runs written\n"
    assert f"{run} is damaged and cannot be moved" in output.err
    assert offline_runs(suite.layout.root.parent)

"""A torn end of the journal is cut off and kept, a torn middle is an error, and no record joins half a line."""

import json
import multiprocessing
import threading
import time
from pathlib import Path

import pytest

from suite.errors import SuiteError
from sweeps import journal, summary
from sweeps import worker as workers
from sweeps.journal import Journal, mend, open_journal
from tests.sweeps.conftest import load_study

RECORDS = [
    {"op_code": 0, "worker_id": "w", "study_name": "s", "directions": [2]},
    {"op_code": 4, "worker_id": "w", "study_id": 0, "datetime_start": "2026-01-01T00:00:00.000000"},
]
LINES = [json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in RECORDS]
GOOD = b"".join(LINES)
HALF = b'{"op_code":8,"worker_id":"w","trial_id":0,"user_attr":{"fol'
TAILS = {
    "half a line": HALF,
    "NULs": b"\0" * 64,
    "half a line, then NULs": HALF + b"\0" * 64,
    "NULs in a line": b"\0" * 16 + LINES[1],
    "bytes of no encoding": b"\xff\xfe{",
    "half a line with its end": HALF + b"\n",
    "half a line that a record has joined": HALF + LINES[1],
    "two halves": HALF + HALF,
    "two lines": HALF + LINES[1] + b"\0\0",
    "JSON that is no record": b"12\n",
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "journal.log"
    path.write_bytes(GOOD)
    return path


def copies(path):
    return sorted(other.name for other in path.parent.iterdir() if ".torn" in other.name)


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
def test_a_torn_end_is_cut_off_kept_and_told_once(path, tail, capsys):
    path.write_bytes(GOOD + tail)
    open_journal(path, 30)
    assert path.read_bytes() == GOOD
    assert path.with_name("journal.log.torn").read_bytes() == tail
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    assert f"{path}: the last {len(tail)} bytes are no whole record" in output and "journal.log.torn" in output
    open_journal(path, 30)
    assert (capsys.readouterr().out, copies(path)) == ("", ["journal.log.torn"])


def test_of_several_torn_ends_each_is_kept(path):
    for tail in (HALF, b"\0"):
        path.write_bytes(GOOD + tail)
        open_journal(path, 30)
    assert path.with_name("journal.log.torn").read_bytes() == HALF
    assert path.with_name("journal.log.torn-2").read_bytes() == b"\0"


def test_a_last_record_that_lacks_its_line_end_alone_stays(path, capsys):
    path.write_bytes(GOOD[:-1])
    open_journal(path, 30)
    assert (path.read_bytes(), copies(path), capsys.readouterr().out) == (GOOD, [], "")


@pytest.mark.parametrize("contents", [None, b""], ids=["no file", "an empty file"])
def test_an_empty_journal_is_a_new_one(path, contents):
    path.unlink()
    if contents is not None:
        path.write_bytes(contents)
    open_journal(path, 30)
    assert (path.read_bytes(), copies(path)) == (b"", [])


@pytest.mark.parametrize("torn", [HALF + b"\n", b"\0\0\n", b"\xff\n", b"\n", HALF + LINES[1], b"[1]\n"])
def test_a_torn_middle_is_an_error_that_names_file_and_line_and_changes_nothing(path, torn):
    path.write_bytes(LINES[0] + torn + LINES[1])
    for _ in range(2):
        with pytest.raises(
            SuiteError, match=r"journal\.log, line 2: damaged, and records follow it; restore it"
        ) as caught:
            open_journal(path, 30)
        assert "\n" not in str(caught.value)
    assert (path.read_bytes(), copies(path)) == (LINES[0] + torn + LINES[1], [])
    assert not path.with_name("journal.log.lock").exists(), "the next one would wait for it"


def test_whole_records_that_do_not_fit_each_other_are_an_error(path):
    path.write_bytes(LINES[0] + b'{"op_code":4,"worker_id":"w"}\n')
    with pytest.raises(SuiteError, match=r"journal\.log: its records do not fit each other \(\w+: .*restore it"):
        open_journal(path, 30)


@pytest.mark.parametrize("tail", [HALF, b"\0" * 64], ids=["half a line", "NULs"])
def test_a_record_never_joins_half_a_line_that_a_worker_leaves_meanwhile(path, tail):
    opened = Journal(path, 30)
    assert len(list(opened.read_logs(0))) == 2
    with path.open("ab") as file:  # another worker, on a machine whose power is cut
        file.write(tail)
    assert list(opened.read_logs(2)) == []
    opened.append_logs(RECORDS)
    assert path.read_bytes() == GOOD + GOOD
    assert path.with_name("journal.log.torn").read_bytes() == tail
    assert list(opened.read_logs(2)) == RECORDS


def test_a_full_disk_leaves_no_half_line(path, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    opened = Journal(path, 30)
    monkeypatch.setattr(journal.os, "fsync", full)
    with pytest.raises(SuiteError, match=r"journal\.log: .*\(No space left on device\); make room"):
        opened.append_logs(RECORDS)
    assert path.read_bytes() == GOOD
    monkeypatch.undo()
    opened.append_logs(RECORDS)
    assert path.read_bytes() == GOOD + GOOD


def test_a_journal_that_is_a_folder_is_named(tmp_path):
    with pytest.raises(SuiteError, match=rf"{tmp_path}: the sweep's journal cannot be .* \(Is a directory\)"):
        open_journal(tmp_path, 30)


def test_who_loses_its_lock_for_being_slow_neither_fails_nor_writes_beside_another(path, monkeypatch):
    """As a machine does that is halted for longer than the grace."""
    slow, other = Journal(path, 30), Journal(path, 30)
    appends = threading.Thread(target=other.append_logs, args=(RECORDS,))

    def lose_the_lock(*_):
        other._lock.release()  # as who has waited for long
        appends.start()
        deadline = time.monotonic() + 200
        while not is_waited_for(path):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        mend(path)

    path.write_bytes(GOOD + HALF)
    with monkeypatch.context() as patch:
        patch.setattr(journal, "mend", lose_the_lock)
        slow.append_logs(RECORDS)
        appends.join(200)
    assert path.read_bytes() == GOOD * 3
    assert not path.with_name("journal.log.lock").exists()


def is_waited_for(path):
    """Whether the kernel holds up another who wants the file's lock."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f":{path.stat().st_ino} " in line for line in lines)


def test_workers_that_append_while_others_leave_torn_ends_lose_no_record(path):
    path.write_bytes(b"")
    context = multiprocessing.get_context("fork")

    def append(worker):
        opened = Journal(path, 30)
        for number in range(5):
            opened.append_logs([{"op_code": 0, "worker_id": f"{worker}-{number}"}])
            with opened.held(), path.open("ab") as file:
                file.write(HALF)

    team = [context.Process(target=append, args=(worker,)) for worker in range(3)]
    for process in team:
        process.start()
    for process in team:
        process.join(250)
        assert process.exitcode == 0
    mend(path)
    found = {json.loads(line)["worker_id"] for line in path.read_bytes().splitlines()}
    assert found == {f"{worker}-{number}" for worker in range(3) for number in range(5)}
    kept = b"".join(path.with_name(name).read_bytes() for name in copies(path))
    assert kept == HALF * 15, "two that were left one after the other are cut off together"


@pytest.mark.parametrize("tail", [HALF, b"\0" * 64], ids=["half a line", "NULs"])
def test_a_sweep_goes_on_after_a_torn_end(sweep, monkeypatch, tail):
    monkeypatch.setattr(workers, "run_trial", lambda *_, **__: 0.5)
    workers.work(sweep, 0)
    with sweep.folder.journal.open("ab") as file:
        file.write(tail)
    assert workers.work(sweep, 0) == []
    assert len(load_study(sweep).trials) == 5
    assert sweep.folder.journal.with_name("journal.log.torn").read_bytes() == tail


def test_a_journal_that_goes_amid_a_trial_is_told(sweep, monkeypatch):
    monkeypatch.setattr(workers, "run_trial", lambda *_, **__: sweep.folder.journal.unlink())
    with pytest.raises(SuiteError, match=r"journal\.log: .*\(No such file or directory\)"):
        workers.work(sweep, 0)


@pytest.mark.parametrize("module", ["worker", "summary"])
def test_the_commands_end_in_one_line(sweep, suite, module, capsys):
    suite.layout.suite_file.write_text(suite.text)
    sweep.folder.path.mkdir(parents=True)
    sweep.folder.journal.write_bytes(LINES[0] + b"\0\n" + LINES[1])
    main = {"worker": workers.main, "summary": summary.main}[module]
    with pytest.raises(SystemExit) as caught:
        main(["--suite", str(suite.layout.suite_file)])
    assert str(caught.value).startswith(f"error: {sweep.folder.journal}, line 2: damaged")
    assert "\n" not in str(caught.value)

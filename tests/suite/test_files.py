"""Files that are whole or not there, also when the disk is full."""

import errno
import os
from collections import namedtuple

import pytest

from suite import files
from suite.errors import SuiteError
from suite.files import atomic, read_json, write_json


def no_space():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def torchs_words():
    raise RuntimeError("[enforce fail at inline_container.cc] . unexpected pos 455360 vs 455256")


@pytest.mark.parametrize("fail", [no_space, torchs_words])
def test_a_full_disk_is_named(tmp_path, monkeypatch, fail):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage(1, 1, 0))

    def write():
        with atomic(tmp_path / "a.pth") as part:
            part.write_bytes(b"half")
            fail()

    with pytest.raises(SuiteError, match=r"a.pth: no space left on its disk .*the same command goes on"):
        write()
    assert not list(tmp_path.iterdir())


def test_another_failure_is_not_laid_to_the_disk(tmp_path):
    with pytest.raises(RuntimeError, match="unexpected pos"), atomic(tmp_path / "a.pth"):
        torchs_words()


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_a_file_that_was_cut_short_is_named(tmp_path, name):
    path = tmp_path / name
    write_json(path, {"title": "Zählung ☃", "values": list(range(100))})
    assert read_json(path)["title"] == "Zählung ☃"
    whole = path.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:size])
        with pytest.raises(SuiteError, match=rf"{name}: damaged, cannot be read .*{size} bytes"):
            read_json(path)

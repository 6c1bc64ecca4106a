"""Data sets of many small files, listed with their checksums."""

import pytest
import yaml

from experiments.data.download import catalogue, command
from experiments.data.download.command import download
from experiments.data.download.transfer import DownloadError
from suite.files import sha256

PATHS = ("Annotations/a b.xml", "Annotations/b.xml", "Images/a.jpg")


@pytest.fixture
def listed(tmp_path, monkeypatch, serve):
    """A catalogue of one listed set, its files in a folder and on loopback: a server that cuts the first answer off."""
    content = b"x" * 1000
    server = serve(content=content, cut=[100])
    local = tmp_path / "local"
    for path in PATHS:
        (local / path).parent.mkdir(parents=True, exist_ok=True)
        (local / path).write_bytes(content)
    entry = {"root": str(tmp_path / "default"), "base": server.file(content, "").url, "listed": "cells.txt"}
    (tmp_path / "downloads.yaml").write_text(yaml.safe_dump({"cells": entry}))
    lines = [f"{sha256(local / path)} {len(content)} {path}\n" for path in PATHS]
    (tmp_path / "cells.txt").write_text("".join(lines))
    monkeypatch.setattr(catalogue, "CATALOGUE", tmp_path / "downloads.yaml")
    return server, local


def found(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} - {".lock"}


def test_they_are_fetched_one_by_one_and_go_on_where_it_stopped(listed, tmp_path):
    server, _ = listed
    root = download("cells", tmp_path / "mine", pause=0)
    assert found(root) == set(PATHS)
    assert all((root / path).stat().st_size == 1000 for path in PATHS)
    assert len(server.asked) == len(PATHS) + 1  # one was cut off, and went on
    (root / PATHS[1]).unlink()
    download("cells", tmp_path / "mine", pause=0)
    assert found(root) == set(PATHS) and len(server.asked) == len(PATHS) + 2


def test_a_local_copy_is_checked_and_no_server_asked(listed, tmp_path):
    server, local = listed
    assert found(download("cells", tmp_path / "mine", source=local)) == set(PATHS)
    (local / PATHS[2]).write_bytes(b"y" * 1000)
    with pytest.raises(DownloadError, match=r"local/Images/a.jpg is not the file that http.*a.jpg is"):
        download("cells", tmp_path / "other", source=local)
    (local / PATHS[2]).unlink()
    with pytest.raises(DownloadError, match=r"local/Images/a.jpg: no such file"):
        download("cells", tmp_path / "other", source=local)
    assert not server.asked


def test_a_server_that_cannot_be_reached(listed, tmp_path, capsys):
    listed[0].server.shutdown()
    listed[0].server.server_close()
    with pytest.raises(DownloadError, match=r"cannot be reached .*Without internet here, fetch it elsewhere .*`root:`"):
        download("cells", tmp_path / "mine", pause=0)


def test_the_bccd_list_is_whole():
    files = catalogue.catalogue()["bccd"].files
    by_folder = {folder: sum(file.below == folder for file in files) for folder in ("Annotations", "JPEGImages")}
    assert by_folder == {"Annotations": 364, "JPEGImages": 364}
    assert all(len(file.sha256) == 64 and file.bytes > 0 for file in files)
    assert len(files) > command.MANY

"""Unpacking: what is kept, and what is said of a damaged archive."""

import tarfile

import pytest

from experiments.data.download.archive import unpack
from experiments.data.download.transfer import DownloadError


def test_unpacking_keeps_what_is_asked_for_and_goes_on_after_a_kill(archive, tmp_path):
    (tmp_path / ".images.part/images").mkdir(parents=True)
    (tmp_path / ".images.part/images/a.jpg").write_text("torn")
    unpack(archive, ("images", "labels/train.json"), tmp_path)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")) == [
        "images/a.jpg",
        "images/b.jpg",
        "labels/train.json",
        "set.zip",
    ]
    assert (tmp_path / "images/a.jpg").read_text() == "images/a.jpg" * 100


def test_a_tar_is_unpacked_but_for_what_would_lie_outside(tmp_path):
    (tmp_path / "a.jpg").write_text("a")
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as packed:
        for name in ("images/a.jpg", "images/../../escaped.jpg", "other/a.jpg"):
            packed.add(tmp_path / "a.jpg", name)
    out = tmp_path / "below/out"
    unpack(path, ("images",), out)
    assert [file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()] == ["images/a.jpg"]
    assert not list(tmp_path.rglob("escaped.jpg"))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DownloadError, match="set.tar: damaged archive"):
        unpack(path, ("other",), out)


def test_a_damaged_archive_and_a_missing_member_are_named(archive, tmp_path):
    with pytest.raises(DownloadError, match="set.zip: the archive has no 'masks'"):
        unpack(archive, ("masks",), tmp_path)
    data = bytearray(archive.read_bytes())
    data[60:80] = bytes(20)
    archive.write_bytes(data)
    with pytest.raises(DownloadError, match="set.zip: damaged archive"):
        unpack(archive, ("images",), tmp_path)
    assert not (tmp_path / "images").exists()

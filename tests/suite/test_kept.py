"""Outputs that outlive Snakemake's deletions."""

import errno
import os

import pytest

from suite import kept as module
from suite.kept import forget, publish
from suite.layout import kept


@pytest.fixture
def output(tmp_path):
    """A declared output, which is kept but not there."""
    declared = tmp_path / "run/checkpoint.pth"
    kept(declared).parent.mkdir(parents=True)
    kept(declared).write_text("weights")
    os.utime(kept(declared), (1, 1))
    return declared


def test_what_was_deleted_is_there_again_and_newer_than_its_inputs(output, tmp_path):
    (tmp_path / "input").touch()
    publish(output)
    assert output.read_text() == "weights"
    assert output.stat().st_mtime >= (tmp_path / "input").stat().st_mtime
    assert output.samefile(kept(output)), "it takes no room"


def test_what_is_there_is_replaced(output):
    output.write_text("of another training")
    publish(output)
    assert output.read_text() == "weights"
    assert sorted(path.name for path in output.parent.iterdir()) == sorted([".result", "checkpoint.pth"])


def test_what_is_there_already_stays_as_it_is(output):
    publish(output)
    os.utime(output, (1, 1))
    publish(output)
    assert output.stat().st_mtime == 1


def test_a_file_system_without_links_gets_a_copy(output, monkeypatch):
    def no_links(source, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(module.os, "link", no_links)
    publish(output)
    assert output.read_text() == kept(output).read_text() == "weights"
    assert not output.samefile(kept(output))


def test_forgotten_outputs_are_nowhere(output):
    publish(output)
    forget(output)
    forget(output)
    assert not output.exists() and not kept(output).exists()

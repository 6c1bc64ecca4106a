"""A suite whose results lie in a folder of the test, and a server for its runs."""

import pytest

from tests.experiments.tracking.wandb_server import WandbServer


@pytest.fixture
def bare_suite(tiny_suite, tmp_path, monkeypatch):
    """The tiny suite before anything was written, offline."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", "")  # restored after the test
    return tiny_suite.changed(results=str(tmp_path / "results"))


@pytest.fixture
def suite(bare_suite):
    """The tiny suite with its file."""
    bare_suite.layout.root.mkdir(parents=True)
    bare_suite.layout.suite_file.write_text(bare_suite.text)
    return bare_suite


@pytest.fixture
def server():
    """A W&B server on the loopback."""
    with WandbServer() as server:
        yield server

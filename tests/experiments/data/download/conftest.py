"""Servers and an archive."""

import zipfile

import pytest

from tests.experiments.data.download.server import Server


@pytest.fixture
def serve():
    started = []

    def start(**kwargs):
        started.append(Server(**kwargs))
        return started[-1]

    yield start
    for server in started:
        server.server.shutdown()
        server.server.server_close()


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as opened:
        for name in ("images/a.jpg", "images/b.jpg", "labels/train.json", "labels/other.json"):
            opened.writestr(name, name * 100)
    return path

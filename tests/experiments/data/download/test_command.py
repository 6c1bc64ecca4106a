"""`python -m experiments download`, on a small catalogue."""

import pytest
import yaml

from experiments.data.download import catalogue, command
from experiments.data.download.catalogue import weights_remedy
from experiments.data.download.command import download
from experiments.data.download.transfer import DownloadError


@pytest.fixture
def small_catalogue(archive, serve, tmp_path, monkeypatch):
    """A catalogue of one set: an archive and weights, on loopback."""
    content = archive.read_bytes()
    server = serve(content=content, cut=[100])
    file = server.file(content, "set.zip")
    entry = {"url": file.url, "bytes": file.bytes, "sha256": file.sha256}
    weights = {**entry, "url": file.url.replace("set.zip", "w.pth"), "place": "torch"}
    files = [{**entry, "unpack": ["images", "labels/train.json"]}, weights]
    path = tmp_path / "downloads.yaml"
    path.write_text(yaml.safe_dump({"small": {"root": str(tmp_path / "default"), "files": files}}))
    archive.unlink()
    monkeypatch.setattr(catalogue, "CATALOGUE", path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return server


def test_a_set_is_fetched_unpacked_and_then_left_alone(small_catalogue, tmp_path):
    root = download("small", tmp_path / "mine", pause=0)
    names = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    assert names == {"images/a.jpg", "images/b.jpg", "labels/train.json", ".lock"}
    assert (tmp_path / "torch/hub/checkpoints/w.pth").is_file()
    before = len(small_catalogue.asked)
    download("small", tmp_path / "mine")
    assert len(small_catalogue.asked) == before


def test_the_command_says_what_failed(small_catalogue, tmp_path, capsys):
    assert command.main(["--dataset", "smal"]) == 1
    assert "no data set 'smal' in downloads.yaml; it has small" in capsys.readouterr().err
    assert command.main(["--dataset", "small", "--keep"]) == 0
    assert (tmp_path / "default/set.zip").is_file()


def test_a_full_disk_is_noticed_before(small_catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr(command.shutil, "disk_usage", lambda folder: type("", (), {"free": 10})())
    with pytest.raises(DownloadError, match=r"set.zip needs .* more, 10 bytes are free: make room"):
        download("small", tmp_path / "mine")


def test_weights_alone_are_a_set_of_their_own(small_catalogue, tmp_path, monkeypatch):
    """For images of one's own nobody fetches COCO."""
    path = tmp_path / "downloads.yaml"
    entry = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**entry, "weights": {"files": entry["small"]["files"][1:]}}))
    assert weights_remedy("w.pth").startswith("`python -m experiments download --dataset weights` fetches them (")
    assert weights_remedy("x.pth") == ""
    folder = download("weights", pause=0)
    assert folder == tmp_path / "torch/hub/checkpoints" and (folder / "w.pth").is_file()
    assert not (tmp_path / "default").exists()

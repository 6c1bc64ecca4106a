"""Downloads against a server on loopback: interrupted, without Range, with the wrong bytes."""

import hashlib
import http.server
import re
import threading
import zipfile

import pytest
import yaml

from experiments.data import download as module
from experiments.data.download import DownloadError, RemoteFile, download, fetch, remedy, size_text, unpack
from suite.errors import SuiteError

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Server:
    """Serves `content` at any path, and notes the ranges asked for."""

    def __init__(self, content=CONTENT, ranges=True, cut=(), status=None):
        self.content, self.ranges, self.cut, self.status, self.asked = content, ranges, list(cut), status, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                outer.asked.append(wanted)
                if outer.status:
                    self.send_error(outer.status)
                    return
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and outer.ranges else 0
                body = outer.content[start:]
                if start:
                    self.send_response(206)
                    last = len(outer.content) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{len(outer.content)}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if outer.cut:  # the connection ends after so many bytes
                    body = body[: outer.cut.pop(0)]
                    self.close_connection = True
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def file(self, content=CONTENT, name="data.bin", **changes):
        url = f"http://127.0.0.1:{self.server.server_port}/{name}"
        return RemoteFile(
            **{"url": url, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **changes}
        )


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


def test_a_file_arrives_and_is_not_fetched_again(serve, tmp_path):
    server = serve()
    path = fetch(server.file(), tmp_path / "new/folder")
    assert path.read_bytes() == CONTENT
    fetch(server.file(), path.parent)
    assert server.asked == [None]
    assert [p.name for p in path.parent.iterdir()] == ["data.bin"]


def test_an_interrupted_transfer_goes_on_where_it_stopped(serve, tmp_path):
    server = serve(cut=[300_000, 200_000])
    assert fetch(server.file(), tmp_path, pause=0).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_a_killed_download_goes_on_in_the_next_process(serve, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    server = serve()
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_server_without_ranges_starts_over(serve, tmp_path, capsys):
    (tmp_path / "data.bin.part").write_bytes(b"x" * 1000)
    server = serve(ranges=False)
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT
    assert "cannot resume, starting over" in capsys.readouterr().err


def test_a_whole_part_is_only_checked(serve, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    server = serve(status=500)
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_a_part_longer_than_the_file_is_dropped(serve, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT + b"x")
    assert fetch(serve().file(), tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(serve, tmp_path):
    server = serve(content=CONTENT[:-1] + b"x")
    with pytest.raises(
        DownloadError, match=rf"what came has sha256 .*, expected {server.file().sha256}. It is deleted"
    ):
        fetch(server.file(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [len(CONTENT) - 5, len(CONTENT) + 5])
def test_another_file_on_the_server_is_noticed_before_it_is_fetched(serve, tmp_path, size):
    server = serve(content=(CONTENT * 2)[:size])
    with pytest.raises(DownloadError, match=f"the server offers {size} bytes, expected {len(CONTENT)}"):
        fetch(server.file(), tmp_path)


def test_a_server_that_always_breaks_off_ends_in_a_message(serve, tmp_path):
    server = serve(cut=[1000] + [0] * 20)
    with pytest.raises(DownloadError, match=r"interrupted at 1.0 kB of 1.0 MB .*the same command goes on there"):
        fetch(server.file(), tmp_path, pause=0)
    assert len(server.asked) == 1 + module.ATTEMPTS
    assert (tmp_path / "data.bin.part").stat().st_size == 1000


def test_no_such_file_on_the_server_is_not_tried_again(serve, tmp_path):
    server = serve(status=404)
    with pytest.raises(DownloadError, match="the server says 404"):
        fetch(server.file(), tmp_path)
    assert len(server.asked) == 1


def test_another_file_of_that_name_is_left_alone(serve, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"data.bin is there, but it is not the file .* move or delete it"):
        fetch(serve().file(), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == b"mine"


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as opened:
        for name in ("images/a.jpg", "images/b.jpg", "labels/train.json", "labels/other.json"):
            opened.writestr(name, name * 100)
    return path


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


def test_a_damaged_archive_and_a_missing_member_are_named(archive, tmp_path):
    with pytest.raises(DownloadError, match="set.zip: the archive has no 'masks'"):
        unpack(archive, ("masks",), tmp_path)
    data = bytearray(archive.read_bytes())
    data[60:80] = bytes(20)
    archive.write_bytes(data)
    with pytest.raises(DownloadError, match="set.zip: damaged archive"):
        unpack(archive, ("images",), tmp_path)
    assert not (tmp_path / "images").exists()


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
    real = module.catalogue
    monkeypatch.setattr(module, "catalogue", lambda: real(path))
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
    assert module.main(["--dataset", "smal"]) == 1
    assert "no data set 'smal' in downloads.yaml; it has small" in capsys.readouterr().err
    assert module.main(["--dataset", "small", "--keep"]) == 0
    assert (tmp_path / "default/set.zip").is_file()


def test_a_full_disk_is_noticed_before(small_catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("", (), {"free": 10})())
    with pytest.raises(DownloadError, match=r"set.zip needs .* more, 10 bytes are free: make room"):
        download("small", tmp_path / "mine")


def test_the_real_catalogue_names_every_file_of_the_coco_suite():
    for wanted, archive in {
        "annotations/instances_train2017.json": "annotations_trainval2017.zip (252.9 MB)",
        "annotations/instances_val2017.json": "annotations_trainval2017.zip (252.9 MB)",
        "train2017/000000000009.jpg": "train2017.zip (19.3 GB)",
        "val2017": "val2017.zip (815.6 MB)",
    }.items():
        assert archive in remedy("coco2017", wanted)
    with pytest.raises(SuiteError, match="no 'coco2018' in downloads.yaml; it has coco2017"):
        remedy("coco2018", "val2017")


def test_weights_alone_are_a_set_of_their_own(small_catalogue, tmp_path, monkeypatch):
    """For images of one's own nobody fetches COCO."""
    path = tmp_path / "downloads.yaml"
    entry = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**entry, "weights": {"files": entry["small"]["files"][1:]}}))
    assert module.weights_remedy("w.pth").startswith(
        "`python -m experiments.data.download --dataset weights` fetches them ("
    )
    assert module.weights_remedy("x.pth") == ""
    folder = download("weights", pause=0)
    assert folder == tmp_path / "torch/hub/checkpoints" and (folder / "w.pth").is_file()
    assert not (tmp_path / "default").exists()


def test_the_real_catalogue_has_the_weights_of_the_configs():
    assert "--dataset resnet50` fetches them (102.5 MB)" in module.weights_remedy("resnet50-0676ba61.pth")


def test_sizes_in_words():
    assert [size_text(s) for s in (7, 1500, 252_907_541, 19_336_861_798)] == [
        "7 bytes",
        "1.5 kB",
        "252.9 MB",
        "19.3 GB",
    ]

"""Transfers from a server on loopback: interrupted, without Range, with the wrong bytes."""

import pytest

from experiments.data.download import transfer
from experiments.data.download.transfer import DownloadError, fetch
from tests.experiments.data.download.server import CONTENT


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
    assert len(server.asked) == 1 + transfer.ATTEMPTS
    assert (tmp_path / "data.bin.part").stat().st_size == 1000


def test_no_such_file_on_the_server_is_not_tried_again(serve, tmp_path):
    server = serve(status=404)
    with pytest.raises(DownloadError, match="the server says 404"):
        fetch(server.file(), tmp_path)
    assert len(server.asked) == 1


def test_another_file_of_that_name_is_left_alone(serve, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"data.bin is there, but it is not the file .* move it away"):
        fetch(serve().file(), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == b"mine"

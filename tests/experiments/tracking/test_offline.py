"""The W&B log format: records of any size survive being written again; a torn end is left out."""

import pytest

from experiments.tracking.offline import BLOCK, FILE_HEADER, PIECE_HEADER, _pack, _payloads, read_run

HEADER = b":W&B\xe1\xbe\x00"
ROOM = BLOCK - FILE_HEADER - PIECE_HEADER  # what a first record may hold to end where the block ends


@pytest.mark.parametrize(
    "sizes",
    [
        [0, 1, 5],
        [ROOM],
        [ROOM, 3],
        [ROOM - 3, 10],  # three bytes are left in the block: too few for a header
        [ROOM - PIECE_HEADER, 10],  # a header's worth is left: a piece without bytes
        [ROOM + 1],
        [3 * BLOCK],
    ],
)
def test_records_come_back_as_they_were_written(sizes):
    payloads = [bytes([65 + i]) * size for i, size in enumerate(sizes)]
    assert list(_payloads(HEADER + _pack(payloads))) == payloads


def test_a_record_torn_by_a_kill_is_left_out():
    data = HEADER + _pack([b"whole", b"torn record"])
    assert list(_payloads(data[:-1])) == [b"whole"]


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no W&B run, there must be one"):
        read_run(tmp_path)

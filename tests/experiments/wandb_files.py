"""Reads back what an offline W&B run wrote."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from wandb.proto import wandb_internal_pb2

HEADER, BLOCK, RECORD_HEADER = 7, 32768, 7


def read_run(folder: Path) -> dict:
    """Name, group, job type, config, history rows and last summary of an offline run's folder."""
    (path,) = folder.glob("*.wandb")
    run = {"history": [], "summary": {}, "config": {}}
    for data in records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run |= {"id": record.run.run_id, "name": record.run.display_name, "group": record.run.run_group}
            run |= {"job_type": record.run.job_type, "project": record.run.project}
            run["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            run["history"].append(
                {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            )
        elif kind == "summary":
            run["summary"] |= {
                ".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.summary.update
            }
    return run


def records(data: bytes) -> Iterator[bytes]:
    """Records of LevelDB's log format: blocks of 32 KiB, each record in pieces of (crc, length, type) and payload."""
    assert data[:4] == b":W&B"
    position, pieces = HEADER, b""
    while position + RECORD_HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < RECORD_HEADER:
            position += left
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        position += RECORD_HEADER
        pieces += data[position : position + length]
        position += length
        if kind in (1, 4):  # whole, or last piece
            yield pieces
            pieces = b""

"""Offline W&B runs on disk: reading one back, and mending the paths of one that was copied to another place.

A `.wandb` file is a LevelDB log: blocks of 32 KiB, each record in pieces of (crc, length, type) and payload, each
payload one protobuf message.
"""

import json
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from suite.files import atomic

FILE_HEADER, BLOCK, PIECE_HEADER = 7, 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
DATA = "/wandb/.data/"  # where artifacts are staged, below results/<suite>


def offline_runs(results: Path) -> list[Path]:
    """Folders of the offline runs of every suite below `results`, oldest first."""
    return sorted(results.glob("*/wandb/offline-run-*"), key=lambda path: (path.name, path))


def begun_runs(results: Path) -> list[Path]:
    """Those of them that hold something: of a run that was killed at its start, nothing may have reached the disk."""
    return [run for run in offline_runs(results) if any(run.glob("*.wandb")) and "id" in read_run(run)]


def read_run(folder: Path) -> dict[str, Any]:
    """Reads an offline run.

    Returns:
        `id`, `name`, `project`, `group`, `job_type`, `tags`, `config`, `history` (one dict per step), `summary` (last
        values), `metrics` (definitions by name or glob), `artifacts` (`name`, `type`, `aliases`, `files`) and
        `finished`: whether it was ended, and not by an error. Of a run that was killed, what reached the disk.
    """
    run: dict[str, Any] = {
        "history": [],
        "summary": {},
        "config": {},
        "metrics": {},
        "artifacts": [],
        "finished": False,
    }
    for data in _payloads(_log(folder).read_bytes()):
        record = _parse(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run |= {"id": record.run.run_id, "name": record.run.display_name, "group": record.run.run_group}
            run |= {"job_type": record.run.job_type, "project": record.run.project, "tags": list(record.run.tags)}
            run["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            run["history"].append(_items(record.history.item))
        elif kind == "summary":
            run["summary"] |= _items(record.summary.update)
        elif kind == "metric":
            metric = record.metric
            options = {"step_metric": metric.step_metric, "max": metric.summary.max}
            run["metrics"][metric.name or metric.glob_name] = options
        elif kind == "artifact":
            artifact = record.artifact
            files = {entry.path: entry.local_path for entry in artifact.manifest.contents}
            entry = {"name": artifact.name, "type": artifact.type, "aliases": list(artifact.aliases), "files": files}
            run["artifacts"].append({**entry, "metadata": json.loads(artifact.metadata or "{}")})
        elif kind == "exit":
            run["finished"] = record.exit.exit_code == 0
    return run


def is_whole(folder: Path) -> bool:
    """Whether a run was written to its end."""
    try:
        return read_run(folder)["finished"]
    except Exception:  # no log, or one that W&B's parser cannot read
        return False


def named_runs(folder: Path, name: str) -> list[Path]:
    """The whole runs of a name below a suite's folder of offline runs."""
    return [run for run in sorted(folder.glob("offline-run-*")) if _name(run) == name and is_whole(run)]


def wait_until_whole(folder: Path, seconds: float) -> None:
    """Waits for a run's last record. Raises `TimeoutError`."""
    deadline = time.monotonic() + seconds
    while not read_run(folder)["finished"]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{folder} is not whole after {seconds:g} s; is the disk full?")
        time.sleep(0.05)


def relocate(folder: Path) -> bool:
    """Points the artifacts' files of a run whose results were copied here to where they are now; says if it had to.

    Raises:
        FileNotFoundError: a file is neither where it was nor here.
    """
    log, moved, payloads = _log(folder), False, []
    data = log.read_bytes()
    for payload in _payloads(data):
        record = _parse(payload)
        changed = False
        for entry in record.artifact.manifest.contents if record.HasField("artifact") else ():
            if entry.local_path and not Path(entry.local_path).is_file():
                here = folder.parent.resolve() / ".data" / entry.local_path.rpartition(DATA)[2]
                if not here.is_file():
                    raise FileNotFoundError(f"{folder.name}: {entry.local_path} is gone, and {here} is not there")
                entry.local_path, changed = str(here), True
        payloads.append(record.SerializeToString() if changed else payload)
        moved = moved or changed
    if moved:
        with atomic(log) as part:
            part.write_bytes(data[:FILE_HEADER] + _pack(payloads))
    return moved


def _name(folder: Path) -> str | None:
    """What a run is called, which stands at its log's beginning; None if that did not reach the disk."""
    for log in folder.glob("*.wandb"):
        for record in map(_parse, _payloads(log.read_bytes())):
            if record.HasField("run"):
                return record.run.display_name
    return None


def _log(folder: Path) -> Path:
    try:
        (path,) = folder.glob("*.wandb")
    except ValueError:
        raise FileNotFoundError(f"{folder}: no W&B run, there must be one *.wandb file in it") from None
    return path


def _items(items: Any) -> dict[str, Any]:
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def _parse(payload: bytes) -> Any:
    from wandb.proto import wandb_internal_pb2

    return wandb_internal_pb2.Record.FromString(payload)  # type: ignore[attr-defined]


def _payloads(data: bytes) -> Iterator[bytes]:
    """Whole records; one torn at the end of the file is left out."""
    position, pieces = FILE_HEADER, b""
    while position + PIECE_HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < PIECE_HEADER:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        position += PIECE_HEADER
        if position + length > len(data):
            return
        pieces += data[position : position + length]
        position += length
        if kind in (FULL, LAST):
            yield pieces
            pieces = b""


def _pack(payloads: list[bytes]) -> bytes:
    """The inverse of `_payloads`, behind a file header."""
    packed = bytearray()
    for payload in payloads:
        begun = False
        while True:
            left = BLOCK - (FILE_HEADER + len(packed)) % BLOCK
            if left < PIECE_HEADER:
                packed += bytes(left)
                continue
            piece, payload = payload[: left - PIECE_HEADER], payload[left - PIECE_HEADER :]
            kind = (MIDDLE if begun else FIRST) if payload else (LAST if begun else FULL)
            checksum = zlib.crc32(piece, zlib.crc32(bytes([kind])))
            packed += struct.pack("<IHB", checksum, len(piece), kind) + piece
            begun = True
            if not payload:
                break
    return bytes(packed)

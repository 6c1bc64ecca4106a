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

HEADER = b":W&B\xe1\xbe\x00"
FILE_HEADER, BLOCK, PIECE_HEADER = len(HEADER), 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
DATA = "/wandb/.data/"  # where artifacts are staged, below results/<suite>


def offline_runs(results: Path) -> list[Path]:
    """Folders of the offline runs of every suite below `results`, oldest first."""
    return sorted(results.glob("*/wandb/offline-run-*"), key=lambda path: (path.name, path))


def is_uploaded(run: Path) -> bool:
    """Whether W&B's own marker says so."""
    return any(run.glob("*.wandb.synced"))


def sound_runs(results: Path) -> list[Path]:
    """Those of them that can be uploaded whole, and those that were uploaded and can still be read."""
    return [run for run in offline_runs(results) if (_begins(run) if is_uploaded(run) else damage(run) is None)]


def damage(folder: Path) -> str | None:
    """What a run lacks to be uploaded whole, be it that a kill or a power cut took it; None if it lacks nothing."""
    try:
        run = read_run(folder)
        if "id" not in run:
            return "its log is empty, or no log of W&B"
        if not run["finished"]:
            return "its log ends in the middle"
        for path in run["files"]:
            if not (folder / "files" / path).is_file():
                return f"files/{path} is missing"
        for artifact in run["artifacts"]:
            for path in artifact["files"].values():
                _find(folder, path)
    except Exception as error:  # no log or several, no rights, what W&B's parser cannot read
        return str(error).removeprefix(f"{folder}: ") or type(error).__name__
    return None


def read_run(folder: Path) -> dict[str, Any]:
    """Reads an offline run.

    Returns:
        `id`, `name`, `project`, `group`, `job_type`, `tags`, `config`, `history` (one dict per step), `summary` (last
        values), `metrics` (definitions by name or glob), `artifacts` (`name`, `type`, `aliases`, `files`), `files`
        (paths below the folder `files`) and `finished`: whether it was ended, and not by an error. Of a run that was
        killed, what reached the disk.

    Raises:
        FileNotFoundError: there is no log, or more than one.
    """
    run: dict[str, Any] = {
        "history": [],
        "summary": {},
        "config": {},
        "metrics": {},
        "artifacts": [],
        "files": [],
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
        elif kind == "files":
            run["files"] += [file.path for file in record.files.files]
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
            if entry.local_path and (here := _find(folder, entry.local_path)) != Path(entry.local_path):
                entry.local_path, changed = str(here), True
        payloads.append(record.SerializeToString() if changed else payload)
        moved = moved or changed
    if moved:
        with atomic(log) as part:
            part.write_bytes(data[:FILE_HEADER] + _pack(payloads))
    return moved


def _find(folder: Path, path: str) -> Path:
    """Where a staged file of a run is now: there, or here. Raises `FileNotFoundError`."""
    if not path or Path(path).is_file():
        return Path(path)
    here = folder.parent.resolve() / ".data" / path.rpartition(DATA)[2]
    if not here.is_file():
        raise FileNotFoundError(f"{folder.name}: {path} is gone, and {here} is not there")
    return here


def _begins(folder: Path) -> bool:
    """Whether a run's beginning can be read."""
    try:
        return "id" in read_run(folder)
    except Exception:  # as in `damage`
        return False


def _name(folder: Path) -> str | None:
    """What a run is called, which stands at its log's beginning; None if that did not reach the disk."""
    for log in folder.glob("*.wandb"):
        try:
            for record in map(_parse, _payloads(log.read_bytes())):
                if record.HasField("run"):
                    return record.run.display_name
        except Exception:  # as in `damage`
            continue
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
    """Whole records, up to the end or to what is none: torn by a kill, zeroed by a power cut, not of W&B at all."""
    if not data.startswith(HEADER):
        return
    position, pieces = FILE_HEADER, b""
    while position + PIECE_HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < PIECE_HEADER:
            position += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, position)
        position += PIECE_HEADER
        piece = data[position : position + length]
        position += length
        if checksum != _checksum(kind, piece):
            return
        pieces += piece
        if kind in (FULL, LAST):
            yield pieces
            pieces = b""


def _checksum(kind: int, piece: bytes) -> int:
    return zlib.crc32(piece, zlib.crc32(bytes([kind])))


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
            packed += struct.pack("<IHB", _checksum(kind, piece), len(piece), kind) + piece
            begun = True
            if not payload:
                break
    return bytes(packed)

"""Files that are whole or not there: atomic writes, locks, hashes."""

import contextlib
import errno
import fcntl
import gzip
import hashlib
import itertools
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from suite.errors import SuiteError

FULL = 2**16  # bytes: with less room than this a disk counts as full


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its name only when the block ends without an error.

    Raises:
        SuiteError: the disk is full; torch says so by a position in a file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or shutil.disk_usage(path.parent).free < FULL:
            raise SuiteError(
                f"{path}: no space left on its disk ({error}). Nothing is lost: make room, and the same command goes on"
            ) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON atomically; gzip where the name ends in .gz, byte for byte the same for the same value."""
    text = json.dumps(value, indent=None if str(path).endswith(".gz") else 1, allow_nan=False)
    if not str(path).endswith(".gz"):
        write_text(path, text + "\n")
        return
    with atomic(path) as part:
        part.write_bytes(gzip.compress(text.encode(), compresslevel=6, mtime=0))


def read_json(path: str | Path) -> Any:
    """Reads JSON, gzip where the name ends in .gz.

    Raises:
        FileNotFoundError: no such file.
        SuiteError: it is truncated or no JSON.
    """
    data = Path(path).read_bytes()
    try:
        return json.loads(gzip.decompress(data) if str(path).endswith(".gz") else data)
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SuiteError(f"{path}: damaged, cannot be read ({error}; {len(data)} bytes)") from None


def sha256(path: str | Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Sha256 of a value's JSON; the order of keys counts."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def unused(path: Path) -> Path:
    """The path if nothing is there, else the first of `<path>-2`, `<path>-3`, … where nothing is."""
    names = (path.with_name(f"{path.name}-{number}") if number > 1 else path for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


@contextlib.contextmanager
def folder_lock(folder: str | Path, wait: bool = True) -> Iterator[None]:
    """Holds a folder for this process; the kernel frees it when the process ends, however it ends.

    Raises:
        BlockingIOError: another process holds it and `wait` is False.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "ab") as file:
        _acquire(file, folder, wait)
        yield


def _acquire(file: BinaryIO, folder: Path, wait: bool) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise BlockingIOError(f"{folder} is in use by another process") from None
        print(f"{folder} is in use by another process: waiting for it to end", flush=True)
        started = time.monotonic()
        fcntl.flock(file, fcntl.LOCK_EX)
        print(f"{folder} is free after {time.monotonic() - started:.0f} s", flush=True)

"""The journal file of a study: one JSON object per line, appended to by every worker.

A power cut or a full disk may leave half a line, or NUL bytes, at its end. Nobody has read that as a record: it is cut
off, and a copy kept, before anything is read or appended. Both happen under the lock that Optuna's writers hold, and
under one of the kernel: who was stopped for so long that its lock was broken must not cut off what others wrote since.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from suite.errors import SuiteError
from suite.files import unused

REMEDY = "restore it from a backup, or move it away: the study then begins anew, and takes up what was trained"


class Journal(JournalFileBackend):
    """Optuna's journal file, in which a record never joins half a line."""

    def __init__(self, path: Path, grace: int) -> None:
        """Opens the file, or makes it, and mends its end.

        Args:
            path: of the file.
            grace: seconds after which a lock that was left behind is broken.

        Raises:
            SuiteError: the file is damaged before its end, or cannot be read or written.
        """
        self._path = path
        with _named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # not Optuna's default, a symbolic link: it never notices that a lock on a relative path is a leftover
            super().__init__(str(path), JournalFileOpenLock(str(path), grace_period=grace))
        with self.held():
            mend(path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the journal among all that write to it."""
        with _named(self._path):
            self._lock.acquire()
            try:
                with self._path.open("r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    yield
            finally:
                with suppress(RuntimeError):  # another broke the lock, since it was held for longer than the grace
                    self._lock.release()

    def append_logs(self, logs: Iterable[dict[str, Any]]) -> None:
        """Appends records, all or none. Raises `SuiteError`."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self.held():
            if _is_torn(self._path):
                mend(self._path)
            _append(self._path, text.encode())

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Records from a number on. Raises `SuiteError`."""
        with _named(self._path):
            yield from super().read_logs(log_number_from)


def open_journal(path: Path, grace: int) -> JournalStorage:
    """The storage of a journal file; see `Journal`.

    Raises:
        SuiteError: as there; or a record does not fit those before it.
    """
    journal = Journal(path, grace)
    try:
        return JournalStorage(journal)
    except SuiteError:
        raise
    except Exception as error:  # of any kind: Optuna takes the records for its own
        reason = f"{type(error).__name__}: {error}"
    raise SuiteError(f"{path}: its records do not fit each other ({reason}), lines are missing or changed; {REMEDY}")


def mend(path: Path) -> None:
    """Cuts off what is no record at a journal's end, and keeps it beside the file. To be called by who holds its lock.

    Raises:
        SuiteError: something is no record, but records follow.
    """
    whole = position = 0
    torn = None
    line = b"\n"
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            position += len(line)
            if not _is_record(line):
                torn = torn or number
            elif torn is not None:
                raise SuiteError(f"{path}, line {torn}: damaged, and records follow it; {REMEDY}")
            else:
                whole = position
    if torn is None:
        if not line.endswith(b"\n"):  # whole but for its end
            _append(path, b"\n")
        return
    with path.open("r+b") as file:
        file.seek(whole)
        rest = file.read()
        copy = unused(path.with_name(f"{path.name}.torn"))
        with copy.open("xb") as kept:
            kept.write(rest)
            kept.flush()
            os.fsync(kept.fileno())
        file.truncate(whole)
        os.fsync(file.fileno())
    print(
        f"{path}: the last {len(rest)} bytes are no whole record (a power cut, a full disk): "
        f"cut off and kept in {copy.name}; the study goes on",
        flush=True,
    )


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and isinstance(record.get("op_code"), int) and "worker_id" in record


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        return file.seek(0, os.SEEK_END) > 0 and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"


def _append(path: Path, data: bytes) -> None:
    """All of the data or, on a full disk, nothing."""
    end = path.stat().st_size
    try:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        os.truncate(path, end)
        raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unusable(path, error) from None


def _unusable(path: Path, error: OSError) -> SuiteError:
    return SuiteError(
        f"{path}: the sweep's journal cannot be read and written ({error.strerror or error}); "
        "make room and mend its rights, then run it again"
    )

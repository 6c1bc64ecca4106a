"""One Snakemake at a time on the results of a suite, wherever it was started."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from pathlib import Path
from typing import TextIO

from suite.errors import SuiteError


def hold_results(lock: Path) -> TextIO:
    """Holds the results of a suite until the returned file is closed; the kernel closes it when the process ends.

    Args:
        lock: file in the folder of the results, in which the holder says who it is.

    Raises:
        SuiteError: another process holds them; the message says which.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = lock.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SuiteError(
            f"another snakemake is at work on {lock.parent.resolve()} ({_holder(file)}): wait for it or stop it. "
            "For results of their own give this run another folder: --config results=FOLDER"
        ) from None
    file.truncate(0)
    json.dump({"host": platform.node(), "pid": os.getpid(), "directory": os.getcwd()}, file)
    file.flush()
    return file


def _holder(file: TextIO) -> str:
    """Who holds the lock, as that process wrote it."""
    file.seek(0)
    try:
        holder = json.load(file)
        return f"process {holder['pid']} on host {holder['host']}, started in {holder['directory']}"
    except (ValueError, KeyError, TypeError):  # it is just writing that
        return "it has not said who it is"

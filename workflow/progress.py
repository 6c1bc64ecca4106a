"""What a running workflow says now and then: which jobs run, how far they are, how long the rest takes."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 30.0  # seconds between two lines
TAIL = 4096  # bytes of a log that are looked at
TRAINING = re.compile(r"iteration (\d+)/(\d+), (\d+) min (\d+) s left")
BAR = re.compile(r"(\d+)%\|[^\[]*\[[^<\]]*<(?:(\d+):)?(\d+):(\d+)")


@dataclass(frozen=True)
class Unfinished:
    """A job that is at work or to come.

    Attributes:
        kind: as `workflow.plan` has it.
        name: what the line calls it.
        log: the file in which it says how far it is.
        threads: cores that it takes.
    """

    kind: str
    name: str
    log: Path | None
    threads: int = 1


@dataclass(frozen=True)
class Share:
    """How far a job is: the share done, and the seconds left, as far as its log says."""

    done: float
    left: float


def share_of(log: Path) -> Share | None:
    """How far a job is by the last line of its log that says so: a training's, or a progress bar's."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return None
    found = [*TRAINING.finditer(text), *BAR.finditer(text)]
    if not found:
        return None
    last = max(found, key=lambda match: match.start())
    if last.re is TRAINING:
        done, total, minutes, seconds = map(int, last.groups())
        return Share(done / total, 60 * minutes + seconds)
    percent, hours, minutes, seconds = (int(part or 0) for part in last.groups())
    return Share(percent / 100, 3600 * hours + 60 * minutes + seconds)


def progress_line(
    jobs: Iterable[Unfinished], since: float, expected: Mapping[str, float], cores: int, done: int
) -> str | None:
    """What runs and what is left; None where nothing runs.

    Args:
        jobs: those that are not finished.
        since: when the workflow began; a log that is older is of an earlier run.
        expected: seconds of a job, by kind, as far as they are known.
        cores: that jobs share.
        done: jobs finished.
    """
    jobs, running, seconds, unknown = list(jobs), [], 0.0, False
    for job in jobs:
        whole = expected.get(job.kind)
        if job.log is not None and job.log.is_file() and job.log.stat().st_mtime >= since:
            share = share_of(job.log)
            running.append(job.name if share is None else f"{job.name} {share.done:.0%}, {_duration(share.left)} left")
            own = share.left if share is not None else whole
        else:
            own = whole
        unknown |= own is None and job.log is not None
        seconds += (own or 0.0) * min(job.threads, cores) / cores
    if not running:
        return None
    left = f"{'at least' if unknown else 'about'} {_duration(seconds)} left"
    if unknown and not seconds:
        left = "time left not known yet"
    return f"{done} of {done + len(jobs)} jobs done, {left}; running: {'; '.join(running)}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class Progress(threading.Thread):
    """Tells a `progress_line` every `INTERVAL` seconds, until the process ends."""

    def __init__(self, line: Callable[[], str | None], tell: Callable[[str], None]) -> None:
        super().__init__(daemon=True, name="progress")
        self._line, self._tell = line, tell

    def run(self) -> None:
        """Called by `start`."""
        while True:
            time.sleep(INTERVAL)
            try:
                line = self._line()
            except (RuntimeError, OSError):  # a set that changes, or a file that goes, while it is looked at
                continue
            if line:
                self._tell(line)

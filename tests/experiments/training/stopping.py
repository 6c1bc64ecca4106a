"""A training that stops in mid-epoch: `python -m tests.experiments.training.stopping STEP …` trains as
`python -m experiments train …` does, but its process (of rank 0) halts once STEP is logged. It is killed there for
certain, however busy the machine is.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

SECONDS = 300


def state(pid):
    """A process's state as the kernel's letter: 'T' has stopped, 'Z' has ended; None for none of that id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return None


def children(pid):
    of_threads = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for own in of_threads for child in own]


def tree(pid):
    """A process and all that it started, directly or not."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            found += children(parent)
    return found


def signal_all(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_until_one_has_stopped(process, pids):
    """Waits for a training that `process` started; `pids()` are those that may stop."""
    deadline = time.monotonic() + SECONDS
    while "T" not in map(state, pids()):
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_until_ended(pids):
    deadline = time.monotonic() + SECONDS
    while any(state(pid) not in (None, "Z") for pid in pids):
        assert time.monotonic() < deadline, "a process outlives the one that started it"
        time.sleep(0.05)


def main():
    from experiments.training import train
    from experiments.training.runner import MetricsHook

    step, log = int(sys.argv[1]), MetricsHook.log

    def log_and_stop(hook, runner):
        log(hook, runner)
        if hook.log_file is not None and runner.iter + 1 == step:
            os.kill(os.getpid(), signal.SIGSTOP)

    MetricsHook.log = log_and_stop
    train.main(sys.argv[2:])


if __name__ == "__main__":
    main()

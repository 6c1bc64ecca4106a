"""A training shown on the W&B server while it runs.

A process of its own follows the local metrics log and streams it, so that a server that is slow or down costs the
training nothing. It resumes the server's run by its id and passes over the steps that are already there: a killed and
resumed training stays one curve, to which the upload at the training's end adds what is missing.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.history import read_metrics
from experiments.tracking import runs, server
from experiments.tracking.runs import Json
from experiments.tracking.telling import tell
from experiments.tracking.training import live_run, log_rows
from suite import provenance, records
from suite.layout import RunFolder
from suite.suite import Suite

PATIENCE, POLL_SECONDS = 30, 2.0


class Live:
    """Streams a training's metrics log while the block runs; does nothing unless W&B is online.

    Attributes:
        failed: whether the server could not be reached or took too long; the user was told.
    """

    def __init__(
        self,
        suite: Suite,
        variant: str,
        seed: int,
        folder: RunFolder,
        identity: Json,
        config: Json,
        *,
        is_on: bool = True,
        patience: float = PATIENCE,
    ) -> None:
        """Takes what the run is called by.

        Args:
            suite: a checked suite.
            variant: of the suite, or 'pretraining'.
            seed: of the training.
            folder: of the training, with its metrics log and its W&B record.
            identity: `training_hash`, `seed`, `ranks` and the inputs' hashes, as `training_stage` will find them.
            config: the resolved mmdet config.
            is_on: False shows nothing.
            patience: seconds to wait for the server at either end.
        """
        self.failed, self._is_on, self._patience = False, is_on, patience
        self._suite, self._folder, self._identity = suite, folder, identity
        self._name, self._contents = live_run(suite, variant, seed, config)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Live":
        if self._is_on and runs.mode() == "online":
            if reason := server.remembered(self._suite.layout.wandb):
                self.failed = True
                _tell_not_shown(reason)
                return self
            run_id = records.claim(self._folder.record, self._identity).run_id
            run = runs.run_settings(self._suite, self._name, run_id, self._contents)
            paths = {"metrics": self._folder.metrics, "wandb": self._suite.layout.wandb}
            order = {"run": run, "patience": self._patience, **{key: str(p.resolve()) for key, p in paths.items()}}
            command = [sys.executable, "-m", "experiments.tracking.live"]
            self._process = subprocess.Popen(
                command, cwd=provenance.ROOT, env=runs.environment(), stdin=subprocess.PIPE, text=True
            )
            self._send(json.dumps(order))
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self._process is None:
            return
        if kind is None:
            self._send("finished")
        try:
            self._process.communicate(timeout=2 * self._patience + 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            server.remember(self._suite.layout.wandb, "the server takes too long")
            tell("the server takes too long; nothing is lost, `make sync` uploads this run later")
        self.failed = self._process.returncode != 0

    def _send(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and said why


def follow(run: Any, metrics: Path, ended: threading.Event) -> None:
    """Logs the rows of a growing metrics log until `ended` is set and the last row is logged.

    Args:
        run: of W&B; its `starting_step` is the first one that the server does not have.
        metrics: the log; another process appends to it.
        ended: nothing is appended any more.
    """
    position, defined = 0, set[str]()
    while True:
        is_last = ended.wait(POLL_SECONDS)
        rows = read_metrics(metrics)
        log_rows(run, [row for row in rows[position:] if row["step"] >= run.starting_step], defined)
        position = len(rows)
        if is_last:
            return


def main() -> int:
    """Reads the order and, at the end of the training, the word 'finished' from stdin; a closed stdin is a kill."""
    order: Mapping[str, Any] = json.loads(sys.stdin.readline())
    ended, said = threading.Event(), []

    def listen() -> None:
        said.append(sys.stdin.readline().strip())
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    folder = Path(order["wandb"])
    if reason := server.unusable(folder):
        _tell_not_shown(reason)
        return 1
    try:
        import wandb

        patience = order["patience"]
        limits = {"init_timeout": patience, "finish_timeout": patience, "finish_timeout_raises": True}
        run = wandb.init(**order["run"], mode="online", resume="allow", settings=runs.wandb_settings(**limits))
        follow(run, Path(order["metrics"]), ended)
        if said != ["finished"]:
            return 1  # killed: the last step may still lack its validation, so it is not sent
        run.finish()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        server.remember(folder, reason)
        _tell_not_shown(reason)
        return 1
    return 0


def _tell_not_shown(reason: str) -> None:
    tell(f"this training is not shown live ({reason}); nothing is lost, `make sync` uploads its run later")


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # W&B would wait at exit for a server that does not answer

"""What training adds to mmcv's runner: exact resume, atomic checkpoints, logging to the metrics log, validation."""

import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.runner import EpochBasedRunner, Hook, LoggerHook
from mmcv.runner.checkpoint import get_state_dict

from experiments.history import VALIDATION, MetricsLog, read_metrics, validation_of
from suite.errors import SuiteError
from suite.files import atomic
from suite.layout import RunFolder

PATIENCE = 10.0  # seconds, at most, between two lines of a training on how far it is


class Runner(EpochBasedRunner):
    """mmcv's epoch runner with atomic checkpoints and without its pause of two seconds per epoch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock = time.monotonic()
        self.scaler: torch.amp.GradScaler | None = None  # of a training in float16

    def elapsed(self) -> float:
        """Seconds of wall time spent on this training, those of killed processes included."""
        return time.monotonic() - self._clock

    def train(self, data_loader: Any, **kwargs: Any) -> None:
        """One epoch."""
        self.epoch_length = len(data_loader)
        self.model.train()
        self.mode = "train"
        self.data_loader = data_loader
        self._max_iters = self._max_epochs * self.epoch_length
        self.call_hook("before_train_epoch")
        for i, batch in enumerate(data_loader):
            self.data_batch = batch
            self._inner_iter = i
            self.call_hook("before_train_iter")
            self.run_iter(batch, train_mode=True, **kwargs)
            self.call_hook("after_train_iter")
            del self.data_batch
            self._iter += 1
        self.call_hook("after_train_epoch")
        self._epoch += 1

    def save_state(self, keep: int = 2) -> None:
        """Writes epoch_<n>.pth (weights, optimizer, position) and drops all but the last `keep` of them."""
        require_finite_weights(self)
        state = {
            "meta": {**self.meta, "epoch": self.epoch + 1, "iter": self.iter, "seconds": self.elapsed()},
            "state_dict": {k: v.cpu() for k, v in get_state_dict(self.model).items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }
        folder = RunFolder(Path(self.work_dir))
        with atomic(folder.state(self.epoch + 1)) as part:
            save(state, part)
        for old in folder.states()[keep:]:
            old.unlink()

    def resume_state(self, state: dict[str, Any]) -> None:
        """Continues from what `save_state` wrote."""
        from mmcv.runner import load_state_dict

        load_state_dict(self.model, state["state_dict"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        self._epoch, self._iter = state["meta"]["epoch"], state["meta"]["iter"]
        self._clock -= state["meta"]["seconds"]


def save(value: Any, path: Path) -> None:
    """`torch.save`, byte for byte the same for the same value: to a path, it writes the path's name into the file."""
    with path.open("wb") as file:
        torch.save(value, file)


class FiniteLossHook(Hook):
    """Ends a training whose loss is no number any more, before the weights of an epoch are lost with it."""

    def after_train_iter(self, runner: Runner) -> None:
        """Called by mmcv. Raises `SuiteError`."""
        loss = runner.outputs["log_vars"]["loss"]
        if not np.isfinite(loss):
            raise SuiteError(f"the loss is {loss} in {_diverged(runner)}")


def require_finite_weights(runner: Runner) -> None:
    """Refuses weights that are not finite. Raises `SuiteError`."""
    for name, value in get_state_dict(runner.model).items():
        if value.is_floating_point() and not value.isfinite().all():
            raise SuiteError(f"weights are not finite any more ({name}) after {_diverged(runner)}")


def _diverged(runner: Runner) -> str:
    """Where a training is, and what to try."""
    kept = RunFolder(Path(runner.work_dir)).states()
    return (
        f"iteration {runner.iter + 1} (epoch {runner.epoch + 1}), at a learning rate of {runner.current_lr()[0]:g}: "
        "the training diverged. Try a lower `optimizer.lr`, a longer warm-up (`lr_config.warmup_iters`) or clipped "
        "gradients (`optimizer_config.grad_clip`). "
        + (f"The last finite state is {kept[0]}" if kept else "No epoch was finished before")
    )


def peak_memory() -> float:
    """Largest memory so far in MiB: of the GPU's tensors, without a GPU of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


class ReseedHook(Hook):
    """Seeds every generator from (seed, epoch, rank): a resumed run draws what the uninterrupted one would."""

    def __init__(self, seed: int, rank: int = 0) -> None:
        self.seed, self.rank = seed, rank

    def before_train_epoch(self, runner: Runner) -> None:
        """Called by mmcv."""
        seed_everything(self.seed, runner.epoch, self.rank)


def seed_everything(seed: int, epoch: int, rank: int = 0) -> None:
    """Seeds random, numpy and torch from the three, by numpy's SeedSequence."""
    words = np.random.SeedSequence([seed, epoch, rank]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 - mmdet draws from numpy's global generator
    torch.manual_seed(int(words[2]))


class AverageBuffersHook(Hook):
    """Before an epoch's evaluation: one set of batch statistics for all ranks."""

    def __init__(self, average: Callable[[torch.nn.Module], None]) -> None:
        self.average = average

    def after_train_epoch(self, runner: Runner) -> None:
        """Called by mmcv."""
        self.average(runner.model)


class SaveStateHook(Hook):
    """Saves the state after every epoch; the last one serves a run killed before its result is written."""

    def after_train_epoch(self, runner: Runner) -> None:
        """Called by mmcv."""
        runner.save_state()


class ValidationHook(Hook):
    """Evaluates after every epoch and logs what `evaluate(model)` returns as `val/<metric>`; None is not logged."""

    def __init__(
        self, evaluate: Callable[[torch.nn.Module], dict[str, float | None] | None], log: MetricsLog | None
    ) -> None:
        self.evaluate, self.log = evaluate, log

    def after_train_epoch(self, runner: Runner) -> None:
        """Called by mmcv."""
        metrics = self.evaluate(runner.model.module)
        runner.model.train()
        if metrics is None or self.log is None:
            return
        runner.logger.info("validation: " + ", ".join(f"{k} {v:.3f}" for k, v in metrics.items() if v is not None))
        self.log.append(runner.iter, runner.epoch + 1, {f"{VALIDATION}{k}": v for k, v in metrics.items()})


class ValidatedHook(Hook):
    """Hands each epoch's validation, as logged, to `on_validation(epoch, metrics)`; what that raises ends the run."""

    def __init__(self, log: MetricsLog, on_validation: Callable[[int, dict[str, float]], None]) -> None:
        self.log, self.on_validation = log, on_validation

    def after_train_epoch(self, runner: Runner) -> None:
        """Called by mmcv."""
        self.on_validation(runner.epoch + 1, validation_of(read_metrics(self.log.path)[-1]))


class MetricsHook(LoggerHook):
    """Logs every training series, averaged over `interval` iterations, and a progress line with the time left.

    At least twice an epoch, however long the interval; where iterations are slow, a line with the time left comes every
    `PATIENCE` seconds. Without a log (any rank but the first) it only clears mmcv's buffer.
    """

    def __init__(self, log: MetricsLog | None, interval: int) -> None:
        super().__init__(interval=interval, ignore_last=False, reset_flag=True)
        self.log_file, self.started, self.first = log, time.monotonic(), 0
        self.most, self.told = interval, self.started

    def before_run(self, runner: Runner) -> None:
        """Called by mmcv."""
        super().before_run(runner)
        self.started, self.first = time.monotonic(), runner.iter

    def before_train_epoch(self, runner: Runner) -> None:
        """Called by mmcv."""
        super().before_train_epoch(runner)
        self.interval = min(self.most, max(1, runner.epoch_length // 2))
        self.told = time.monotonic()

    def after_train_iter(self, runner: Runner) -> None:
        """Called by mmcv."""
        super().after_train_iter(runner)
        if self.log_file is not None and time.monotonic() - self.told >= PATIENCE:
            self._tell(runner)

    def log(self, runner: Runner) -> None:
        """Called by mmcv every `interval` iterations."""
        if runner.mode != "train" or self.log_file is None:
            return
        step = runner.iter + 1
        values: dict[str, float | None] = {k: float(v) for k, v in runner.log_buffer.output.items() if np.isfinite(v)}
        values["lr"] = float(runner.current_lr()[0])
        values["memory"] = peak_memory()
        self.log_file.append(step, runner.epoch + (runner.inner_iter + 1) / runner.epoch_length, values)
        self._tell(
            runner, ", ".join(f"{k} {v:.3f}" for k, v in values.items() if k.startswith("loss") and v is not None)
        )

    def _tell(self, runner: Runner, terms: str = "") -> None:
        """A line on how far it is and how long the rest takes."""
        step, self.told = runner.iter + 1, time.monotonic()
        left = (self.told - self.started) / (step - self.first) * (runner.max_iters - step)
        runner.logger.info(
            f"epoch {runner.epoch + 1}/{runner.max_epochs}, iteration {step}/{runner.max_iters}, "
            f"{int(left // 60)} min {int(left % 60):02d} s left{f': {terms}' if terms else ''}"
        )

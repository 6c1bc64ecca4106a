"""A trial: train once with its parameters, then evaluate its checkpoint in every inference setting of the grid."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna

from experiments.data.datasets import require_unseen
from experiments.evaluation.inference import detect
from experiments.evaluation.metrics import evaluate_detections
from experiments.models import open_checkpoint
from experiments.training.train import train
from experiments.training.training import pretraining_of
from suite.errors import SuiteError
from suite.files import folder_lock, read_json, write_json
from suite.layout import RunFolder
from sweeps.space import Search, published_step


def run_trial(search: Search, trial: optuna.Trial, params: Mapping[str, Any], *, worker: int, threads: int) -> float:
    """The value of a trial: its best AP over the grid, on the search's split, in [0, 1].

    Raises:
        optuna.TrialPruned: it lies below the median of the others after an epoch.
        SuiteError: data or pretraining are missing, or the training saw images of the search's split.
    """
    started, folder = time.monotonic(), search.trial_folder(params)
    below = folder.path.relative_to(search.folder.path).as_posix()
    _set_attributes(trial, {"worker": worker, "host": platform.node(), "pid": os.getpid(), "folder": below})
    try:
        train_trial(search, params, threads=threads, on_validation=_reporter(search, trial))
    except optuna.TrialPruned:
        trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
        raise
    run = read_json(folder.run)
    require_unseen(run, search.options.split, "λ and the guide of NMS")
    trained = run["wall_time_s"]  # with that of killed processes
    evaluating = time.monotonic()
    profile = evaluate_grid(search, params, folder.checkpoint, label=f"trial {trial.number}")
    best = max(search.grid, key=lambda setting: profile[setting.name])
    value = profile[best.name]
    found = {
        "profile": profile,
        "guide": best.guide,
        "step_size": published_step(best),
        "train_seconds": trained,
        "seconds": round(trained + time.monotonic() - evaluating, 1),
    }
    _set_attributes(trial, found)
    published = trial.user_attrs.get("published")
    record = {"study": search.study, "number": trial.number, "params": dict(params), "published": published}
    write_json(folder.profile, {**record, "value": value, **found})
    return value


def _set_attributes(trial: optuna.Trial, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        trial.set_user_attr(key, value)


def _reporter(search: Search, trial: optuna.Trial) -> Callable[[int, Mapping[str, float]], None]:
    """Tells Optuna the validation AP after each epoch, once, and prunes."""
    is_published = "published" in trial.user_attrs
    told: set[int] = set()

    def report(epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch in told:
            return
        told.add(epoch)
        ap = metrics.get("AP", 0.0)
        trial.report(ap, epoch)
        # a published point is part of every study; after the last epoch there is no training left to save
        if not is_published and epoch < search.options.epochs and trial.should_prune():
            raise optuna.TrialPruned(f"AP {ap:.3f} after epoch {epoch} is below the median")

    return report


def train_trial(search: Search, params: Mapping[str, Any], **kwargs: Any) -> RunFolder:
    """Trains with a trial's parameters, or goes on with it, or finds it done. Returns its folder."""
    folder = search.trial_folder(params)
    train(
        search.trial_suite,
        search.base,
        search.options.seed,
        folder=folder,
        data=search.suite.layout.data,
        pretraining=pretraining_of(search.suite, search.base),
        changes=search.changes(params),
        **kwargs,
    )
    return folder


def evaluate_grid(search: Search, params: Mapping[str, Any], checkpoint: Path, label: str) -> dict[str, float]:
    """AP on the search's split of every setting of the grid, from one pass over the images: setting name to AP.

    Raises:
        SuiteError: the split has no objects.
    """
    split, data = search.options.split, search.suite.layout.data
    with folder_lock(checkpoint.parent):
        opened = open_checkpoint(
            search.trial_suite, search.base, checkpoint, data, split, changes=search.changes(params)
        )
    found = detect(
        opened.model,
        opened.dataset,
        search.grid,
        batch_size=search.suite.inference.batch_size,
        progress=label,
        workers=opened.cfg.data.workers_per_gpu,
    )
    profile = {}
    for name, detections in found.items():
        ap = evaluate_detections(opened.dataset.coco, detections, opened.dataset.img_ids).metrics["AP"]
        if ap is None:
            raise SuiteError(f"split '{split}' has no objects: nothing can be chosen on it")
        profile[name] = ap
    return profile

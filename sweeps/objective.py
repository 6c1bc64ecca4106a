"""A trial: train once with its parameters, then evaluate its checkpoint in every inference setting of the grid."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from experiments.data.datasets import require_unseen
from experiments.tracking.trial import log_trial
from experiments.training.train import train
from suite.errors import SuiteError
from suite.files import folder_lock, read_json, write_json
from sweeps.space import Sweep


def data_dir(sweep: Sweep) -> Path:
    """The suite's images."""
    return sweep.suite.layout.root / "data"


def train_trial(sweep: Sweep, params: Mapping[str, Any], **kwargs: Any) -> Path:
    """Trains with a trial's parameters, or goes on with it, or finds it done. Returns its folder."""
    folder = sweep.trial_folder(params)
    pretraining = sweep.suite.layout.root / "pretraining" / "checkpoint.pth"
    train(
        sweep.trial_suite,
        sweep.base,
        sweep.options["seed"],
        work_dir=folder,
        data_dir=data_dir(sweep),
        pretraining=pretraining if "pretraining" in sweep.suite else None,
        changes=sweep.changes(params),
        tracked=False,
        **kwargs,
    )
    return folder


def run_trial(sweep: Sweep, trial: optuna.Trial, params: Mapping[str, Any], *, worker: int, threads: int) -> float:
    """The value of a trial: its best AP over the grid, on the sweep's split, in [0, 1].

    Raises:
        optuna.TrialPruned: it lies below the median of the others after an epoch.
        SuiteError: data or pretraining are missing, or the training saw images of the sweep's split.
    """
    started = time.monotonic()
    for key, value in {"worker": worker, "host": platform.node(), "pid": os.getpid()}.items():
        trial.set_user_attr(key, value)
    trial.set_user_attr("folder", sweep.trial_folder(params).relative_to(sweep.folder).as_posix())
    is_published = "published" in trial.user_attrs
    curve: dict[int, float] = {}

    def report(epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch in curve:
            return
        curve[epoch] = metrics.get("AP", 0.0)
        trial.report(curve[epoch], epoch)
        # a published point is part of every study; after the last epoch there is no training left to save
        if not is_published and epoch < sweep.options["epochs"] and trial.should_prune():
            raise optuna.TrialPruned(f"AP {curve[epoch]:.3f} after epoch {epoch} is below the median")

    tracked = sweep.suite.layout.sweep.trial_record(f"{sweep.study}__t{trial.number}")
    record = {
        "study": sweep.study,
        "number": trial.number,
        "params": dict(params),
        "published": trial.user_attrs.get("published"),
    }
    try:
        folder = train_trial(sweep, params, threads=threads, on_validation=report)
    except optuna.TrialPruned:
        trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
        log_trial(sweep.suite, tracked, {**record, "state": "pruned"}, curve)
        raise
    run = read_json(folder / "run.json")
    require_unseen(run, sweep.options["split"], "λ and the guide of NMS")
    trained = run["wall_time_s"]  # with that of killed processes
    evaluating = time.monotonic()
    profile = evaluate_grid(sweep, params, folder / "checkpoint.pth", label=f"trial {trial.number}")
    best = max(sweep.grid, key=lambda step: profile[step.setting.name])
    value = profile[best.setting.name]
    found = {
        "profile": profile,
        "guide": best.setting.guide,
        "step_size": best.published,
        "train_seconds": trained,
        "seconds": round(trained + time.monotonic() - evaluating, 1),
    }
    for key, item in found.items():
        trial.set_user_attr(key, item)
    write_json(folder / "profile.json", {**record, "value": value, **found})
    log_trial(sweep.suite, tracked, {**record, "state": "complete", "value": value, **found}, curve)
    return value


def evaluate_grid(sweep: Sweep, params: Mapping[str, Any], checkpoint: Path, label: str) -> dict[str, float]:
    """AP on the sweep's split of every setting of the grid, from one pass over the images: setting name to AP.

    Raises:
        SuiteError: the split has no objects.
    """
    import torch

    from experiments.config import set_classes
    from experiments.data.datasets import build_split, dataset_classes
    from experiments.evaluation.inference import detect
    from experiments.evaluation.metrics import evaluate_detections
    from experiments.training.train import load_model

    cfg = sweep.config(params)
    set_classes(cfg, dataset_classes(data_dir(sweep)))
    split = build_split(cfg, data_dir(sweep), sweep.options["split"])
    with folder_lock(checkpoint.parent):
        model = load_model(cfg, checkpoint)
    model = model.cuda() if torch.cuda.is_available() else model
    settings = [step.setting for step in sweep.grid]
    found = detect(
        model,
        split,
        settings,
        batch_size=sweep.suite.inference.batch_size,
        progress=label,
        workers=cfg.data.workers_per_gpu,
    )
    profile = {}
    for name, detections in found.items():
        ap = evaluate_detections(split.coco, detections, split.img_ids).metrics["AP"]
        if ap is None:
            raise SuiteError(f"split '{sweep.options['split']}' has no objects: nothing can be chosen on it")
        profile[name] = ap
    return profile

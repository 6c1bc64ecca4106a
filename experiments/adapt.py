"""What a suite, its data and the machine change in a resolved mmdet config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def apply_training(cfg: Any, training: dict[str, Any]) -> None:
    """Applies a suite's `training` block; part of what a training's hash covers."""
    if "epochs" in training:
        published, cfg.runner.max_epochs = cfg.runner.max_epochs, training["epochs"]
        if "step" in cfg.lr_config:
            steps = [round(step * training["epochs"] / published) for step in cfg.lr_config.step]
            cfg.lr_config.step = sorted({max(1, step) for step in steps})
    if "images_per_gpu" in training:
        cfg.data.samples_per_gpu = training["images_per_gpu"]
    if "split" in training:
        cfg.data.train.ann_file = f"{training['split']}.json"
        cfg.data.train.img_prefix = f"{training['split']}/"
    if "image_size" in training:
        for split in ("train", "val", "test"):
            for step in _steps(cfg.data[split].pipeline):
                if "img_scale" in step:
                    step.img_scale = tuple(training["image_size"])


def set_classes(cfg: Any, names: Sequence[str]) -> None:
    """Makes the detector one of these classes, in this order."""
    for split in ("train", "val", "test"):
        cfg.data[split].classes = tuple(names)
    _set_everywhere(cfg.model.roi_head, "num_classes", len(names))


def fit_schedule(cfg: Any, gpus: int, iterations: int) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Scales the learning rate to the batch, and shortens a warm-up that would fill a short training.

    The learning rate of a config with mmdet's `auto_scale_lr` (enabled) is for `base_batch_size` images and is scaled
    linearly (arXiv 1706.02677, section 2.1). The warm-up takes at most a tenth of the training.

    Args:
        cfg: changed in place.
        gpus: how many processes train, each on `samples_per_gpu` images.
        iterations: of one epoch.

    Returns:
        What changed, as {'lr': {'published', 'actual'}}, and a line per statement for the log.
    """
    changed, notes = {}, []
    scaling = cfg.get("auto_scale_lr") or {}
    if scaling.get("enable"):
        images, base, rate = gpus * cfg.data.samples_per_gpu, scaling["base_batch_size"], cfg.optimizer.lr
        cfg.optimizer.lr = rate * images / base
        changed["lr"] = {"published": rate, "actual": cfg.optimizer.lr}
        notes.append(
            f"learning rate {cfg.optimizer.lr:g}: {rate:g} for {base} images, scaled to {gpus} "
            f"process{'es' * (gpus != 1)} × {cfg.data.samples_per_gpu} images"
        )
    warmup, most = cfg.lr_config.get("warmup_iters"), max(1, iterations * cfg.runner.max_epochs // 10)
    if warmup and warmup > most:
        cfg.lr_config.warmup_iters = most
        changed["warmup_iters"] = {"published": warmup, "actual": most}
        notes.append(f"warm-up of {most} iterations, a tenth of the training, in place of {warmup}")
    return changed, notes


def _steps(pipeline: Sequence[Any]) -> Iterator[Any]:
    """The steps of a pipeline, those inside others included."""
    for step in pipeline:
        yield step
        yield from _steps(step.get("transforms", []))


def _set_everywhere(node: Any, key: str, value: Any) -> None:
    if isinstance(node, dict):
        for own in node:
            if own == key:
                node[own] = value
            else:
                _set_everywhere(node[own], key, value)
    elif isinstance(node, list | tuple):
        for item in node:
            _set_everywhere(item, key, value)

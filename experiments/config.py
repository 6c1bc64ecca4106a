"""A variant's mmdet config, resolved: what the suite, its data and the machine change in it, and its hashes."""

from __future__ import annotations

import hashlib
import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.supported import require_branch, require_split, require_supported
from suite.blocks import FROM_SCRATCH, Training
from suite.errors import SuiteError
from suite.settings import Setting, StepSize
from suite.suite import PRETRAINING, ROOT, Suite
from suite.treatments import CLASS_AGNOSTIC

READ = (  # top-level keys that mean something; a config's other ones are names that it gives to values
    *("custom_imports", "model", "data", "runner", "optimizer", "optimizer_config", "lr_config", "auto_scale_lr"),
    *("precision", "channels_last", "log_interval"),
)


def resolve_config(suite: Suite, variant: str, changes: Mapping[str, Any] | None = None) -> Any:
    """The variant's mmdet config, bases included, with the suite's `scale:` block applied.

    Args:
        suite: a checked suite.
        variant: one of its variants, or 'pretraining'.
        changes: dotted config key to the value that takes the config's place, in published units as the config's are.

    Returns:
        mmcv.Config: free of machine paths; two equal configs train the same model.

    Raises:
        SuiteError: the file cannot be read, or asks for what a training here does not do; names variant, file and key.
    """
    entry = suite.variant(variant)
    where = f"variant '{variant}', {entry.config}"
    cfg = _read(ROOT / entry.config, where)
    require_supported(cfg, where)
    require_branch(cfg, entry.family, entry.has_iou_branch, where)
    if variant != PRETRAINING:
        apply_training(cfg, suite.training)
    require_split(cfg, suite.training_splits, suite.report_split, where)
    cfg.merge_from_dict(dict(changes or {}))
    mapped: dict[str, dict[str, float]] = {}
    if entry.has_iou_branch:
        scale, head = suite.scale, cfg.model.roi_head
        _scale(mapped, head.iou_head.loss_iou, "loss_weight", scale.loss_weight)
        _scale(mapped, head.iou_head.loss_iou, "beta", scale.smooth_l1_beta)
        for key, factor in (("sample_num", scale.rois), ("per_iou", scale.rois_per_iou), ("max_num", scale.rois)):
            _scale(mapped, head.roi_generator, key, factor, whole=True)
        refine = cfg.model.test_cfg.rcnn.iou.get("refine")
        if refine:
            step = scale.step(refine.lamb)
            mapped["lamb"] = {"published": refine.lamb, "actual": step.actual}
            refine.lamb = step.actual
    cfg.mapped = mapped
    return cfg


def _read(path: Path, where: str) -> Any:
    from mmcv import Config

    try:
        return Config.fromfile(str(path), import_custom_modules=False)
    except Exception as error:  # a config is a program: whatever it raises
        _free(error)
        raise SuiteError(f"{where} cannot be read: {type(error).__name__}: {error}") from error


def _free(error: Exception) -> None:
    """Frees what an error's frames hold: mmcv's temporary files, which cannot be closed without saying a lot."""
    told, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        traceback.clear_frames(error.__traceback__)
    finally:
        sys.unraisablehook = told


def training_hash(cfg: Any) -> str:
    """Hash of what training depends on in a resolved config; comments, formatting, order of keys do not change it."""
    plain = _plain(cfg._cfg_dict)
    plain["model"].pop("test_cfg")
    plain["mapped"].pop("lamb", None)
    plain["data"] = {key: value for key, value in plain["data"].items() if key not in ("val", "test")}
    plain.pop("test_pipeline", None)
    return _digest(plain)


def config_hash(cfg: Any) -> str:
    """Hash of the whole resolved config."""
    return _digest(_plain(cfg._cfg_dict))


def changes_of_head(head: str) -> dict[str, Any]:
    """What the config of a refiner with this head (`suite.treatments.HEADS`) differs in from its IoU-Net's."""
    return {"model.roi_head.iou_head.class_agnostic": head == CLASS_AGNOSTIC}


def default_setting(cfg: Any) -> Setting:
    """The setting of the config's own test_cfg: what validation during a training uses."""
    iou = cfg.model.test_cfg.get("rcnn", {}).get("iou")
    if not iou:
        return Setting()
    if not iou.get("refine"):
        return Setting(iou.nms.guide)
    actual = float(iou.refine.lamb)
    step = StepSize(float(cfg.get("mapped", {}).get("lamb", {}).get("published", actual)), actual)
    return Setting(iou.nms.guide, step, iou.refine.t)


def apply_training(cfg: Any, training: Training) -> None:
    """Applies a suite's `training` block; part of what a training's hash covers."""
    if training.backbone_weights == FROM_SCRATCH:
        cfg.model.backbone.init_cfg = None
    if training.epochs is not None:
        published, cfg.runner.max_epochs = cfg.runner.max_epochs, training.epochs
        if "step" in cfg.lr_config:
            own = cfg.lr_config.step
            is_list = isinstance(own, list)  # else a number: after every so many epochs
            steps = {max(1, round(step * training.epochs / published)) for step in (own if is_list else [own])}
            cfg.lr_config.step = sorted(steps) if is_list else steps.pop()
    if training.images_per_gpu is not None:
        cfg.data.samples_per_gpu = training.images_per_gpu
    if training.split is not None:
        cfg.data.train.ann_file = f"{training.split}.json"
        cfg.data.train.img_prefix = f"{training.split}/"
    if training.image_size is not None:
        for split in ("train", "val", "test"):
            for step in steps_of(cfg.data[split].pipeline):
                if "img_scale" in step:
                    step.img_scale = training.image_size


def set_classes(cfg: Any, names: Sequence[str]) -> None:
    """Makes the detector one of these classes, in this order."""
    for split in ("train", "val", "test"):
        cfg.data[split].classes = tuple(names)
    _set_everywhere(cfg.model.get("roi_head", cfg.model), "num_classes", len(names))


def self_contained(cfg: Any, heading: str) -> str:
    """A resolved config as the text of a config file of mmdet's, for `init_detector` and mmdet's own tools.

    Args:
        cfg: with the classes of the data; see `set_classes`.
        heading: its docstring.
    """
    from mmcv import Config

    read = {key: value for key, value in cfg._cfg_dict.to_dict().items() if key in READ}
    return f'"""{heading}"""\n\n{Config(read).pretty_text}'


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


def training_pixels(cfg: Any) -> int | None:
    """Pixels of the largest image that a training's network sees; None where images keep their size."""
    sizes = [step.img_scale for step in steps_of(cfg.data.train.pipeline) if "img_scale" in step]
    return max(int(width * height) for width, height in sizes) if sizes else None


def steps_of(pipeline: Sequence[Any]) -> Iterator[Any]:
    """The steps of a pipeline, those inside others included."""
    for step in pipeline:
        yield step
        yield from steps_of(step.get("transforms", []))


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


def _scale(mapped: dict[str, dict[str, float]], node: Any, key: str, factor: float, whole: bool = False) -> None:
    """Multiplies node[key], if it is there, and records it as mapped[key] = {'published', 'actual'}."""
    published = node.get(key)
    if published is not None:
        node[key] = max(1, round(published * factor)) if whole else published * factor
        mapped[key] = {"published": published, "actual": node[key]}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Tuples become lists and numbers compare by value (1 and 1.0 train the same model)."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value

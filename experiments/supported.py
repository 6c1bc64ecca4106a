"""What an mmdet config may ask of this project's trainings; all else is refused before anything trains.

A key that changes nothing here, but would change what mmdet trains, would be a training other than its config says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from suite.errors import SuiteError
from suite.settings import GUIDES


def _is_nothing(value: Any) -> bool:
    return not value


def _is_training_alone(value: Any) -> bool:
    return [tuple(step) for step in value or ()] in ([], [("train", 1)])


def _only_counts_classes(value: Any) -> bool:
    return all(hook.get("type") == "NumClassCheckHook" for hook in value or ())


# Top-level keys of mmdet and mmcv that have no effect here: the values that say what happens anyway, and what to do.
WITHOUT_EFFECT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "load_from": (_is_nothing, "a training starts from the suite's `pretraining` or the backbone's weights"),
    "resume_from": (_is_nothing, "a training that was stopped is continued without it"),
    "fp16": (_is_nothing, "set `precision = 'fp16'`"),
    "custom_hooks": (_only_counts_classes, "remove it"),
    "workflow": (_is_training_alone, "remove it: every epoch is followed by an evaluation on the suite's `validation`"),
    "evaluation": (
        lambda value: set(value or {}) <= {"interval", "metric"} and (value or {}).get("interval", 1) == 1,
        "remove it: every epoch is followed by an evaluation on the suite's `validation`",
    ),
    "total_epochs": (_is_nothing, "set `runner = dict(type='EpochBasedRunner', max_epochs=…)`"),
    "momentum_config": (_is_nothing, "remove it; `lr_config` with policy OneCycle moves the momentum itself"),
    "seed": (lambda value: value is None, "the suite's `seeds` are trained"),
}
RUNNER_KEYS = {"type", "max_epochs"}
REQUIRED = ("model", "data", "optimizer", "lr_config", "runner")
RUNNER = "EpochBasedRunner"
LOG_INTERVAL = 50  # iterations, mmdet's
WRAPPERS = ("RepeatDataset", "ClassBalancedDataset", "ConcatDataset", "MultiImageMixDataset")


def require_supported(cfg: Any, where: str) -> None:
    """Refuses a config that asks for what a training here does not do.

    Args:
        cfg: mmcv.Config with its bases.
        where: the variant and its file, for messages.

    Raises:
        SuiteError: names the key and what to do.
    """
    for key in REQUIRED:
        if not isinstance(cfg.get(key), Mapping):
            raise SuiteError(f"{where}: key '{key}' is {cfg.get(key)!r}, expected a dict(…)")
    for key, (is_harmless, remedy) in WITHOUT_EFFECT.items():
        if key in cfg and not is_harmless(cfg[key]):
            raise SuiteError(f"{where}: {key} = {cfg[key]!r:.80} has no effect here: {remedy}")
    if (kind := cfg.runner.get("type", RUNNER)) != RUNNER:
        raise SuiteError(f"{where}: runner.type = {kind!r} is not supported: set it to {RUNNER!r}")
    if foreign := sorted(cfg.runner.keys() - RUNNER_KEYS):
        raise SuiteError(
            f"{where}: runner.{foreign[0]} has no effect here: remove it, max_epochs says how long to train"
        )
    epochs = cfg.runner.get("max_epochs")
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise SuiteError(f"{where}: runner.max_epochs is {epochs!r}, expected 1 or more")
    if not isinstance(cfg.get("optimizer_config"), Mapping):
        cfg.optimizer_config = {}  # mmdet's None: gradients as they are
    for split in ("train", "val", "test"):
        part = cfg.data.get(split)
        if not isinstance(part, Mapping) or part.get("type") in WRAPPERS or not part.get("pipeline"):
            kind = part.get("type") if isinstance(part, Mapping) else part
            raise SuiteError(f"{where}: data.{split} is of type {kind!r}: give a data set with a pipeline of its own")
    _require_model(cfg.model, where)
    _require_numbers(cfg, where)
    _require_schedule(cfg, where)


def require_branch(cfg: Any, family: str, has_branch: bool, where: str) -> None:
    """Refuses a config whose IoU branch is not what the suite's `family` says. Raises `SuiteError`, naming the key."""
    if bool(cfg.model.get("roi_head", {}).get("iou_head")) != has_branch:
        found = "no iou_head" if has_branch else "an iou_head"
        raise SuiteError(f"{where}: its family is '{family}' in the suite, but model.roi_head has {found}")
    if not has_branch:
        return
    for key in ("iou_head.loss_iou", "roi_generator"):
        node = cfg.model.roi_head
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping):
            raise SuiteError(f"{where}: model.roi_head.{key} is {node!r}, expected a dict(…)")
    place = "model.test_cfg.rcnn.iou"
    iou = cfg.model.test_cfg.rcnn.get("iou")
    nms = iou.get("nms") if isinstance(iou, Mapping) else None
    if not isinstance(nms, Mapping) or nms.get("guide") not in GUIDES:
        raise SuiteError(f"{where}: {place} is {iou!r:.120}: it needs nms=dict(guide=…), one of {', '.join(GUIDES)}")
    if (refine := iou.get("refine")) and not _is_positive(refine.get("lamb")):
        raise SuiteError(f"{where}: {place}.refine.lamb is {refine.get('lamb')!r}, expected a number above 0")


def require_split(cfg: Any, splits: Collection[str], reported: str, where: str) -> None:
    """Refuses to train on files that are no split of the suite, or on the one that is reported. Raises `SuiteError`."""
    files = tuple(cfg.data.train.get(key) for key in ("ann_file", "img_prefix"))
    split = str(files[0]).removesuffix(".json")
    if split not in splits or files != (f"{split}.json", f"{split}/"):
        raise SuiteError(
            f"{where}: data.train has ann_file = {files[0]!r} and img_prefix = {files[1]!r}: set them to "
            f"'<split>.json' and '<split>/', with one of the suite's splits: {', '.join(splits)}"
        )
    if split == reported:
        raise SuiteError(
            f"{where}: data.train is split '{split}', which is the suite's report_split: nothing may be reported on "
            "images that were trained on"
        )


def _require_model(model: Any, where: str) -> None:
    """The parts of a detector that a training here reads, of two stages or of one."""
    stages = {"roi_head"} if {"roi_head", "rpn_head"} & model.keys() else set()
    for name in ("backbone", "test_cfg", *stages):
        if not isinstance(model.get(name), Mapping):
            raise SuiteError(
                f"{where}: model.{name} is {model.get(name)!r}, expected a dict(…); a detector without roi_head and "
                "rpn_head is one of a single stage"
            )
    for name in ("train_cfg", "test_cfg") if stages else ():
        if not (isinstance(part := model.get(name), Mapping) and part.get("rcnn")):
            raise SuiteError(
                f"{where}: model.{name} has no `rcnn`, which says how the second stage works: {part!r:.80}"
            )


def _require_numbers(cfg: Any, where: str) -> None:
    """Whole numbers that mmdet would stumble over in a training. `log_interval` gets mmdet's value if it has none."""
    cfg.setdefault("log_interval", (cfg.get("log_config") or {}).get("interval", LOG_INTERVAL))
    found = {"log_interval": (cfg.log_interval, 1)}
    found |= {
        f"data.{key}": (cfg.data.get(key), least) for key, least in {"samples_per_gpu": 1, "workers_per_gpu": 0}.items()
    }
    scaling = cfg.get("auto_scale_lr") or {}
    if scaling.get("enable"):
        found["auto_scale_lr.base_batch_size"] = (scaling.get("base_batch_size"), 1)
    for key, (value, least) in found.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise SuiteError(f"{where}: {key} is {value!r}, expected a whole number, {least} or more")


def _require_schedule(cfg: Any, where: str) -> None:
    """Makes optimizer and hooks of the config once, so that what they refuse shows before the data are read."""
    from mmcv.runner import HOOKS, build_optimizer
    from torch import zeros
    from torch.nn import ParameterList

    if not _is_positive(cfg.optimizer.get("lr")):
        raise SuiteError(f"{where}: optimizer.lr is {cfg.optimizer.get('lr')!r}, expected a number above 0")
    policy = str(cfg.lr_config.get("policy"))
    name = (policy.title() if policy == policy.lower() else policy) + "LrUpdaterHook"  # as mmcv's runner names it
    schedule = {key: value for key, value in cfg.lr_config.items() if key != "policy"}
    made: dict[str, Callable[[], Any]] = {
        "optimizer": lambda: build_optimizer(ParameterList([zeros(1)]), cfg.optimizer),
        "lr_config": lambda: HOOKS.build({**schedule, "type": name}),
        "optimizer_config": lambda: HOOKS.build({"type": "OptimizerHook", **cfg.optimizer_config}),
    }
    for key, make in made.items():
        try:
            make()
        except Exception as error:  # whatever a class makes of its arguments
            reason = f"{type(error).__name__}: {error}"
            raise SuiteError(f"{where}: {key} = {dict(cfg[key])!r:.200} cannot be used: {reason}") from None
    if cfg.get("precision") == "fp16" and (foreign := sorted(cfg.optimizer_config.keys() - {"grad_clip"})):
        raise SuiteError(f"{where}: optimizer_config.{foreign[0]} has no effect with precision = 'fp16': remove it")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf

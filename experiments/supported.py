"""What an mmdet config may ask of this project's trainings; all else is refused before anything trains.

A key that changes nothing here, but would change what mmdet trains, would be a training other than its config says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from suite.errors import SuiteError


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
REQUIRED = ("model", "data", "optimizer", "lr_config", "runner")
RUNNER = "EpochBasedRunner"
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
    for name in ("backbone", "roi_head"):
        if not isinstance(cfg.model.get(name), Mapping):
            raise SuiteError(f"{where}: model.{name} is {cfg.model.get(name)!r}: only two-stage detectors are trained")

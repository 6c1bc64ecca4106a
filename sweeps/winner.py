"""The best trial of a study: which it is, how it compares with the default, and its configs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import FrozenTrial

from experiments.config import default_setting, resolve_config
from suite.blocks import IOUNET
from suite.files import write_text
from suite.search import PARAMETERS
from suite.settings import Setting
from suite.suite import ROOT
from sweeps.space import Search, actual_step, published_step, value_of

INFERENCE = "model.test_cfg.rcnn.iou"


def winner_of(complete: Sequence[FrozenTrial]) -> FrozenTrial:
    """The trial with the best AP; of several, the first."""
    return max(complete, key=lambda trial: (trial.value, -trial.number))


def setting_of(search: Search, trial: FrozenTrial) -> Setting:
    """The inference setting that a complete trial is best in."""
    best = (trial.user_attrs["guide"], trial.user_attrs["step_size"])
    return next(setting for setting in search.grid if (setting.guide, published_step(setting)) == best)


def default_of(search: Search) -> Setting:
    """The base's own inference setting, with the suite's number of steps, as it is evaluated."""
    own = default_setting(search.config({}))
    return own if own.step_size is None else dataclasses.replace(own, num_steps=search.suite.inference.num_steps)


def actual_of(search: Search, params: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's parameters as they are used, base values included."""
    cfg = search.config(params)
    values = {name: value_of(cfg, parameter, "actual") for name, parameter in PARAMETERS.items()}
    return {name: value for name, value in values.items() if value is not None}


def best(search: Search, complete: Sequence[FrozenTrial]) -> dict[str, Any]:
    """The contents of best.json: the winner, and the base's own settings as the default that it is compared with."""
    winner, own = winner_of(complete), default_of(search)
    setting = setting_of(search, winner)
    base = next((t for t in complete if t.user_attrs.get("published") == search.base), None)
    return {
        "study": search.study,
        "trial": winner.number,
        "published": winner.user_attrs.get("published"),
        "value": winner.value,
        "split": search.options.split,
        "trials": len(complete),
        "params": winner.params,
        "actual": actual_of(search, winner.params),
        "inference": {
            "guide": setting.guide,
            "step_size": {"published": published_step(setting), "actual": actual_step(setting)},
            "num_steps": setting.num_steps,
        },
        "default": {
            "label": search.base,
            "trial": None if base is None else base.number,
            "params": search.points[search.base],
            "setting": own.name,
            "value": None if base is None else base.user_attrs["profile"].get(own.name),
            "best_value": None if base is None else base.value,
        },
    }


def write_configs(search: Search, params: Mapping[str, Any], setting: Setting) -> None:
    """Writes best.py, best_variant.py and best.yaml: the full schedule with a trial's parameters and inference."""
    changes = {**search.changes(params), **_inference_changes(setting)}
    cfg = resolve_config(search.suite, search.base, changes)
    _write_config(search, cfg)
    _write_variant(search, changes, type(cfg))
    _write_entry(search, setting)


def _inference_changes(setting: Setting) -> dict[str, Any]:
    """The keys of a config that make an inference setting of the grid its own."""
    changes: dict[str, Any] = {f"{INFERENCE}.nms.guide": setting.guide}
    if setting.step_size is None:
        return {**changes, f"{INFERENCE}.refine": None}
    refine = {f"{INFERENCE}.refine.lamb": setting.step_size.published, f"{INFERENCE}.refine.t": setting.num_steps}
    return changes | refine


def _write_config(search: Search, cfg: Any) -> None:
    mapped = cfg._cfg_dict.pop("mapped")
    for part in ("train", "val", "test"):
        cfg.data[part].data_root = search.suite.layout.data.path.as_posix()
    units = ", ".join(f"{key} {value['published']:g} -> {value['actual']:g}" for key, value in mapped.items())
    write_text(
        search.folder.best_config,
        f'"""Best trial of the study {search.study}, with the full schedule: a config that needs no other file.\n\n'
        f'Published units -> those used here: {units}.\n"""\n\n{cfg.pretty_text}',
    )


def _write_variant(search: Search, changes: Mapping[str, Any], config: type[Any]) -> None:
    nested: dict[str, Any] = {}
    for key, value in changes.items():
        node = nested
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    base = os.path.relpath(ROOT / search.suite.variant(search.base).config, search.folder.path.resolve())
    write_text(
        search.folder.best_variant,
        f'"""Best trial of the study {search.study}, in published units, as a variant of a suite (see best.yaml)."""'
        f"\n\n_base_ = [{Path(base).as_posix()!r}]\n{config(nested).pretty_text}",
    )


def _write_entry(search: Search, setting: Setting) -> None:
    variant = {"family": IOUNET, "config": search.folder.best_variant.as_posix()}
    entry = yaml.safe_dump({"variants": {f"sweep_{search.options.name}": variant}}, sort_keys=False)
    write_text(
        search.folder.best_suite,
        f"# For a suite with the `scale:` block of '{search.suite.name}'. Its own inference setting is "
        f"{setting.name} (published lambda {published_step(setting):g}).\n{entry}",
    )

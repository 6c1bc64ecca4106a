"""Reads ``test_cfg.rcnn.iou``, the one place where an mmdet config becomes keyword arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from iounet.core.nms import GUIDES
from iounet.models.iou_head import FC_DTYPES


class _Key(NamedTuple):
    default: Any
    allowed: str
    check: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any, lowest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= lowest


_BOOL = ("True or False", lambda value: isinstance(value, bool))
_NMS = {
    "multiclass": _Key(True, *_BOOL),
    "iou_threshold": _Key(0.5, "a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
    "guide": _Key("rank", " or ".join(map(repr, GUIDES)), lambda value: value in GUIDES),
}
_REFINE = {
    "pre_refine": _Key(100, "a whole number, 1 or more", lambda value: _is_count(value, 1)),
    "t": _Key(5, "a whole number, 0 or more", lambda value: _is_count(value, 0)),
    "omega_1": _Key(0.001, "a number, 0 or more", lambda value: _is_number(value) and value >= 0),
    "omega_2": _Key(-0.01, "a number, 0 or less", lambda value: _is_number(value) and value <= 0),
    "lamb": _Key(0.5, "a number above 0", lambda value: _is_number(value) and value > 0),
    "use_iou_score": _Key(True, *_BOOL),
}
_BRANCH = {"fc_dtype": _Key("float32", " or ".join(map(repr, FC_DTYPES)), lambda value: value in tuple(FC_DTYPES))}


def read_iou_cfg(rcnn_cfg: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any] | None, str] | None:
    """Keyword arguments of the IoU branch from ``test_cfg.rcnn``.

    Returns:
        ``None`` if there is no ``iou`` (branch off); else those of NMS (``multiclass, iou_threshold, guide``), those of
        the refinement (``pre_refine, t, omega_1, omega_2, lamb, use_iou_score``), ``None`` without a ``refine``, and
        ``fc_dtype``.

    Raises:
        ValueError: naming the key, its value, and what is allowed.
    """
    cfg = None if rcnn_cfg is None else rcnn_cfg.get("iou")
    if cfg is None:
        return None
    name = "test_cfg.rcnn.iou"
    _check_mapping(name, cfg, ("nms", "refine", *_BRANCH))
    nms = _read(f"{name}.nms", cfg.get("nms", {}), _NMS)
    refine = None if cfg.get("refine") is None else _read(f"{name}.refine", cfg["refine"], _REFINE)
    branch = _read(name, {key: value for key, value in cfg.items() if key in _BRANCH}, _BRANCH)
    return nms, refine, branch["fc_dtype"]


def _read(name: str, cfg: Any, keys: Mapping[str, _Key]) -> dict[str, Any]:
    _check_mapping(name, cfg, keys)
    for key, value in cfg.items():
        if not keys[key].check(value):
            raise ValueError(f"{name}.{key}={value!r} is not allowed: it must be {keys[key].allowed}")
    return {key: cfg.get(key, entry.default) for key, entry in keys.items()}


def _check_mapping(name: str, cfg: Any, keys: Any) -> None:
    if not isinstance(cfg, Mapping):
        raise ValueError(f"{name}={cfg!r} is not allowed: it must be a dict with keys of {', '.join(keys)}")
    for key, value in cfg.items():
        if key not in keys:
            raise ValueError(f"{name} has the unknown key {key!r} (={value!r}): its keys are {', '.join(keys)}")

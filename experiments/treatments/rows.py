"""Which treatments a detector's boxes are given."""

from __future__ import annotations

from typing import Any

from experiments.config import resolve_config
from suite.errors import SuiteError
from suite.suite import Suite
from suite.treatments import MOST, STEPS, THRESHOLD, Treatment, by_iteration, by_threshold, compared


def has_box_head(cfg: Any) -> bool:
    """Whether a detector has a box head that can be asked again: two-stage ones have."""
    return "roi_head" in cfg.model


def treatments_of(suite: Suite, detector: str) -> list[Treatment]:
    """What a detector's boxes are evaluated in, each once.

    Args:
        suite: the suite.
        detector: one of `suite.treated`; the first is compared further.

    Raises:
        SuiteError: its config cannot be read, or asks for another NMS than the detectors are compared after.
    """
    cfg = resolve_config(suite, detector)
    _require_plain_nms(cfg, f"detector '{detector}', {suite.variant(detector).config}")
    steps = [suite.scale.step(step) for step in STEPS]
    found = [*compared(steps), *(by_threshold() if detector == suite.treated[0] else [])]
    found += by_iteration(steps, has_regression=has_box_head(cfg))
    return list(dict.fromkeys(found))


def _require_plain_nms(cfg: Any, where: str) -> None:
    """Refuses a detector whose own NMS is not the one that every treatment starts from, or is compared with."""
    key = "model.test_cfg.rcnn" if has_box_head(cfg) else "model.test_cfg"
    own = cfg.model.test_cfg.rcnn if has_box_head(cfg) else cfg.model.test_cfg
    wanted = {"nms": {"type": "nms", "iou_threshold": THRESHOLD}, "max_per_img": MOST}
    for name, value in wanted.items():
        if (found := own.get(name)) != value:
            raise SuiteError(
                f"{where}: {key}.{name}={found!r}: boxes of several detectors are compared after {value!r}"
            )

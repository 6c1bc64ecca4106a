"""Which treatments a detector's boxes are given."""

from __future__ import annotations

from typing import Any

from experiments.config import resolve_config
from suite.suite import Suite
from suite.treatments import STEPS, Treatment, by_iteration, by_threshold, compared


def has_box_head(cfg: Any) -> bool:
    """Whether a detector has a box head that can be asked again: two-stage ones have."""
    return "roi_head" in cfg.model


def treatments_of(suite: Suite, detector: str) -> list[Treatment]:
    """What a detector's boxes are evaluated in, each once.

    Args:
        suite: the suite.
        detector: one of `suite.treated`; the first is compared further.

    Raises:
        SuiteError: its config cannot be read.
    """
    steps = [suite.scale.step(step) for step in STEPS]
    found = [*compared(steps), *(by_threshold() if detector == suite.treated[0] else [])]
    found += by_iteration(steps, has_regression=has_box_head(resolve_config(suite, detector)))
    return list(dict.fromkeys(found))

"""A trained detector under one inference setting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from experiments.evaluation.inference import test_cfg_of
from suite.settings import Setting


class Detector:
    """A trained detector under one inference setting, called as `mmdet`'s own testing calls it."""

    def __init__(self, model: Any, setting: Setting, fc_dtype: str | None = None) -> None:
        self.model, self.test_cfg = model, test_cfg_of(model.roi_head.test_cfg, setting, fc_dtype)

    def __call__(self, images: Any, metas: list[dict[str, Any]]) -> list[list[Any]]:
        """Per image and class `ndarray[M, 5]` of (x1, y1, x2, y2, score)."""
        with self.active():
            return self.model.simple_test(images, metas, rescale=True)

    @contextmanager
    def active(self) -> Iterator[None]:
        """The model's RoI head has this setting's test_cfg inside the block: settings share the weights."""
        own, self.model.roi_head.test_cfg = self.model.roi_head.test_cfg, self.test_cfg
        try:
            yield
        finally:
            self.model.roi_head.test_cfg = own

from typing import Any

import pytest
from mmcv import ConfigDict

from iounet.export import Refiner, refiner_of
from tests.models.tiny import build, detector_config

STEP_SIZE = 2.0  # of an untrained head: boxes move by pixels


def small_config(**iou_head: Any) -> ConfigDict:
    """Two levels and four channels: a graph is traced in seconds."""
    config = detector_config(channels=4)
    config.roi_head.bbox_roi_extractor.featmap_strides = [4, 8]
    config.roi_head.iou_head.update(iou_head)
    return config


@pytest.fixture(scope="package")
def roi_head() -> Any:
    """Shared: do not change it."""
    return build(small_config()).roi_head


@pytest.fixture(scope="package")
def refiner(roi_head: Any) -> Refiner:
    """Two steps: the first moves every box, the second those that it did not stop."""
    return refiner_of(roi_head, step_size=STEP_SIZE, num_steps=2)

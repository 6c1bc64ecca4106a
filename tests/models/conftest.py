from typing import Any

import pytest
import torch
from mmcv import ConfigDict

from tests.models.tiny import build, detector_config, image_meta


@pytest.fixture
def config() -> ConfigDict:
    return detector_config()


@pytest.fixture(scope="session")
def detector() -> Any:
    """Shared: do not change it."""
    return build(detector_config())


@pytest.fixture
def batch() -> dict[str, Any]:
    """Three images of different sizes in one padded tensor; the second has no ground truth."""
    generator = torch.Generator().manual_seed(0)
    img = torch.randn(3, 3, 96, 96, generator=generator)
    metas = [image_meta(96, 96, 2.0), image_meta(64, 80), image_meta(90, 70, 0.5)]
    gt_bboxes = [
        torch.tensor([[10.0, 12.0, 50.0, 40.0], [40.0, 50.0, 90.0, 95.0]]),
        torch.zeros(0, 4),
        torch.tensor([[5.0, 5.0, 65.0, 85.0]]),
    ]
    gt_labels = [torch.tensor([0, 2]), torch.zeros(0).long(), torch.tensor([1])]
    return {"img": img, "img_metas": metas, "gt_bboxes": gt_bboxes, "gt_labels": gt_labels}


@pytest.fixture
def proposals() -> list[torch.Tensor]:
    """Jittered boxes of many sizes, 40, 1 and 25 of them, with the score column that mmdet's have."""
    generator = torch.Generator().manual_seed(1)
    result = []
    for number, width, height in ((40, 96, 96), (1, 80, 64), (25, 70, 90)):
        size = torch.tensor([width, height, width, height])
        corner = torch.rand(number, 2, generator=generator) * 0.6
        extent = 0.1 + torch.rand(number, 2, generator=generator) * 0.5
        boxes = torch.cat([corner, (corner + extent).clamp(max=1)], dim=1) * size
        result.append(torch.cat([boxes, torch.rand(number, 1, generator=generator)], dim=1))
    return result

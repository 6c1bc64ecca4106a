import pytest
import torch

from iounet.refiner import IoURefiner

CATEGORIES = ["ant", "bee", "cat"]
SMALL = {
    "depth": 18,
    "base_channels": 8,
    "num_stages": 3,
    "norm_eval": False,
    "channels": 16,
    "fc_channels": [32, 32],
    "roi_generator": {"sample_num": 64},
}


def build(seed=0, categories=CATEGORIES, **arguments):
    """A small refiner whose IoUs vary, so that its boxes move."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = IoURefiner(categories, **{**SMALL, **arguments})
        torch.nn.init.normal_(model.iou_head.fc_iou.weight, std=0.3)
        with torch.no_grad():  # statistics as if it had been trained: else maps vanish or explode
            model.train()
            for _ in range(20):
                model.features(torch.randn(4, 3, 64, 64))
    return model.eval()


@pytest.fixture(scope="session")
def model():
    """Shared: do not change it."""
    return build()


@pytest.fixture
def batch():
    """Images of two sizes with boxes, scores and labels; the second has none."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(0, 256, (3, h, w), generator=generator).byte() for h, w in ((64, 96), (48, 80), (64, 96))]
    boxes, scores, labels = [], [], []
    for image, number in zip(images, (30, 0, 12), strict=True):
        corner = torch.rand(number, 2, generator=generator) * 20
        size = 15 + torch.rand(number, 2, generator=generator) * 20
        boxes.append(torch.cat([corner, corner + size], dim=1))
        scores.append(torch.rand(number, generator=generator))
        labels.append(torch.randint(0, 3, (number,), generator=generator))
        assert image.shape[0] == 3
    return images, boxes, scores, labels

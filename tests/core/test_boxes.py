import pytest
import torch
from torch import Tensor

from iounet.core.boxes import apply_deltas, box_iou, clip_boxes


def slow_iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def random_boxes(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator, dtype=torch.float64) * 50
    return torch.cat([corner, corner + torch.rand(n, 2, generator=generator, dtype=torch.float64) * 40], dim=1)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),  # with "+ 1" pixels this would be 66 / 176
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),  # a shared edge is no overlap
        ((0, 0, 10, 10), (20, 20, 30, 30), 0.0),
        ((0, 0, 10, 10), (2, 2, 4, 4), 0.04),
        ((5, 5, 5, 5), (5, 5, 5, 5), 0.0),  # empty union, not NaN
    ],
)
def test_known_ious(a, b, expected):
    iou = box_iou(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64))
    assert iou.tolist() == pytest.approx([expected], abs=1e-15)


def test_iou_aligned_and_pairwise_equal_the_slow_one():
    a, b = random_boxes(20), random_boxes(30, seed=1)
    pairs = box_iou(a[:, None], b)
    assert pairs.shape == (20, 30)
    expected = [[slow_iou(x, y) for y in b.tolist()] for x in a.tolist()]
    torch.testing.assert_close(pairs, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)
    torch.testing.assert_close(box_iou(a, b[:20]), pairs.diagonal(), rtol=0, atol=0)
    assert box_iou(a[:0], b[:0]).shape == (0,)


def test_clip_to_one_image_and_to_each_boxes_own():
    boxes = torch.tensor([[-5.0, -5.0, 200.0, 200.0], [10.0, 20.0, 30.0, 40.0]])
    original = boxes.clone()
    clipped = clip_boxes(boxes, (60, 100, 3))
    assert clipped.tolist() == [[0, 0, 100, 60], [10, 20, 30, 40]]
    assert torch.equal(boxes, original)
    own = clip_boxes(boxes, torch.tensor([[60, 100], [35, 25]]))
    assert own.tolist() == [[0, 0, 100, 60], [10, 20, 25, 35]]


def test_apply_deltas_moves_by_sizes_and_scales_about_the_center():
    box = torch.tensor([10.0, 20.0, 30.0, 60.0])  # 20 × 40 at (20, 40)
    moved = apply_deltas(box, torch.tensor([[0.5, -0.25, 2.0, 0.5], [0.0, 0.0, 1.0, 1.0]]))
    assert moved.tolist() == [[10, 20, 50, 40], [10, 20, 30, 60]]

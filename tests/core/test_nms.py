import math

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from iounet.core import nms as nms_module
from iounet.core.nms import iou_guided_nms


def slow_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def slow_nms(boxes, scores, ious, labels, iou_threshold, score_threshold=None, guide="rank"):
    """Algorithm 1 of the paper as it is told: one box at a time, lists only."""
    values = {"rank": ious, "weight": scores * ious, "none": scores}[guide].tolist()
    boxes, scores, labels = boxes.double().tolist(), scores.tolist(), labels.tolist()
    remaining = [i for i in range(len(boxes)) if score_threshold is None or scores[i] >= score_threshold]
    remaining.sort(key=lambda i: (-values[i], i))
    clusters = []
    while remaining:
        best = remaining.pop(0)
        suppressed = [
            i for i in remaining if labels[i] == labels[best] and slow_iou(boxes[best], boxes[i]) > iou_threshold
        ]
        remaining = [i for i in remaining if i not in suppressed]
        clusters.append((max(scores[i] for i in [best, *suppressed]), best))
    clusters.sort(key=lambda cluster: (-cluster[0], cluster[1]))
    return [best for _, best in clusters], [score for score, _ in clusters]


def assert_same(result: tuple[Tensor, Tensor], expected: tuple[list[int], list[float]]) -> None:
    assert result[0].dtype == torch.long
    assert result[0].tolist() == expected[0]
    assert result[1].tolist() == expected[1]


# Coordinates and scores from few values: equal boxes, ties, empty boxes and overlaps at the threshold are common.
row = st.tuples(
    st.integers(0, 6), st.integers(0, 6), st.integers(0, 8), st.integers(0, 8), st.integers(0, 5), st.integers(-1, 5),
    st.integers(-2, 2),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(row, max_size=25),
    st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.75, 1.0]),
    st.sampled_from([None, 0.0, 0.4, 2.0]),
    st.sampled_from(["rank", "weight", "none"]),
)
def test_equals_the_slow_one(rows, iou_threshold, score_threshold, guide):
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 7)
    boxes = torch.cat([table[:, :2], table[:, :2] + table[:, 2:4]], dim=1)
    scores, ious, labels = table[:, 4] / 5, table[:, 5] / 5, table[:, 6].long()
    # 1/5, 2/5, … as the float32 that they are: 0.4 as a threshold must mean the same to both.
    if score_threshold is not None:
        score_threshold = torch.tensor(score_threshold, dtype=torch.float32).item()
    arguments = (boxes, scores, ious, labels, iou_threshold, score_threshold, guide)
    assert_same(iou_guided_nms(*arguments), slow_nms(*arguments))


@pytest.mark.parametrize("guide", ["rank", "weight", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_batch_equals_the_slow_one(guide, dtype, monkeypatch):
    monkeypatch.setattr(nms_module, "_PAIRS_PER_CHUNK", 1000)  # several chunks, cut in the middle of a box's pairs
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(300, 2, generator=generator, dtype=dtype) * 40
    boxes = torch.cat([corner, corner + 5 + torch.rand(300, 2, generator=generator, dtype=dtype) * 40], dim=1)
    scores, ious = torch.rand(2, 300, generator=generator, dtype=dtype)
    labels = torch.randint(-3, 3, (300,), generator=generator) * 10**6
    arguments = (boxes, scores, ious, labels, 0.5, 0.1, guide)
    result = iou_guided_nms(*arguments)
    assert 6 < len(result[0]) < 250
    assert_same(result, slow_nms(*arguments))


def test_guide_none_keeps_what_torchvision_keeps():
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(500, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 5 + torch.rand(500, 2, generator=generator) * 30], dim=1)
    scores = torch.rand(500, generator=generator)
    keep, kept_scores = iou_guided_nms(boxes, scores, torch.zeros(500), torch.zeros(500).long(), 0.5, guide="none")
    assert torch.equal(keep, torchvision.ops.nms(boxes, scores, 0.5))
    assert torch.equal(kept_scores, scores[keep])


def one_row(*lefts: float) -> Tensor:
    """Boxes of 10 × 10 in a row: shifted by d, two of them have IoU (10 - d) / (10 + d)."""
    return torch.tensor([[left, 0.0, left + 10.0, 10.0] for left in lefts])


def test_guides_order_by_iou_by_product_and_by_score():
    boxes = one_row(0, 1, 2)
    scores, ious, labels = torch.tensor([0.9, 0.2, 0.6]), torch.tensor([0.3, 0.8, 0.7]), torch.zeros(3).long()
    for guide, best in (("rank", 1), ("weight", 2), ("none", 0)):
        keep, cluster_scores = iou_guided_nms(boxes, scores, ious, labels, 0.5, guide=guide)
        assert keep.tolist() == [best]
        # the kept box takes the highest class score of its cluster
        torch.testing.assert_close(cluster_scores, torch.tensor([0.9]), rtol=0, atol=0)


def test_a_box_exactly_at_the_threshold_stays():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]])  # IoU 0.5
    keep, _ = iou_guided_nms(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0.9, 0.8]), torch.zeros(2).long(), 0.5)
    assert keep.tolist() == [0, 1]
    below = math.nextafter(0.5, 0)
    keep, _ = iou_guided_nms(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0.9, 0.8]), torch.zeros(2).long(), below)
    assert keep.tolist() == [0]
    # 7 / 10 computed in float32 would be below 0.7, in float64 it is 0.7
    boxes = torch.tensor([[0.0, 0.0, 10.0, 1.0], [0.0, 0.0, 7.0, 1.0]])
    keep, _ = iou_guided_nms(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0.9, 0.8]), torch.zeros(2).long(), 0.7)
    assert keep.tolist() == [0, 1]


def test_a_suppressed_box_belongs_to_the_first_that_suppresses_it():
    # In guide order 0, 1, 2: 0 and 1 do not overlap enough, 2 overlaps both. Its score goes to 0 only.
    boxes, labels = one_row(0, 5, 2.5), torch.zeros(3).long()
    scores, ious = torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.9, 0.8, 0.7])
    assert_same(
        iou_guided_nms(boxes, scores.double(), ious, labels, 0.5), ([0, 1], [scores.double()[2], scores.double()[1]])
    )


def test_a_suppressed_box_suppresses_nothing():
    # A chain: 0 suppresses 1, which alone would have suppressed 2, which suppresses 3.
    boxes, labels = one_row(0, 3, 6, 9), torch.zeros(4).long()
    scores, ious = torch.tensor([0.25, 0.5, 0.125, 0.75]), torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert_same(iou_guided_nms(boxes, scores, ious, labels, 0.5), ([2, 0], [0.75, 0.5]))


def test_long_chain():
    # Every decision hangs on the one before it.
    n = 200
    boxes, labels = one_row(*(3.0 * i for i in range(n))), torch.zeros(n).long()
    values = torch.linspace(1, 0.5, n)
    keep, scores = iou_guided_nms(boxes, values, values, labels, 0.5)
    assert keep.tolist() == list(range(0, n, 2))
    assert torch.equal(scores, values[::2])


def test_ties_keep_the_order_of_the_input():
    boxes = torch.cat([one_row(0, 1), one_row(100), one_row(200)])
    half = torch.full((4,), 0.5)
    keep, _ = iou_guided_nms(boxes, half, half, torch.zeros(4).long(), 0.5)
    assert keep.tolist() == [0, 2, 3]


def test_the_score_threshold_counts_the_box_at_it_and_drops_before_anything_else():
    boxes, labels = one_row(0, 1, 50), torch.zeros(3).long()
    scores, ious = torch.tensor([0.25, 0.5, 0.5]), torch.tensor([0.9, 0.8, 0.7])
    assert_same(iou_guided_nms(boxes, scores, ious, labels, 0.5, 0.5), ([1, 2], [0.5, 0.5]))
    assert_same(iou_guided_nms(boxes, scores, ious, labels, 0.5, 0.25), ([0, 2], [0.5, 0.5]))


@pytest.mark.parametrize(("number", "score_threshold"), [(0, None), (3, 0.99)])
def test_nothing_left(number, score_threshold):
    boxes = torch.rand(number, 4)
    keep, scores = iou_guided_nms(
        boxes, torch.zeros(number), torch.zeros(number), torch.zeros(number).long(), 0.5, score_threshold
    )
    assert keep.shape == scores.shape == (0,)
    assert keep.dtype == torch.long


def test_one_box():
    assert_same(
        iou_guided_nms(one_row(0), torch.tensor([0.5]), torch.tensor([-0.1]), torch.tensor([7]), 0.5), ([0], [0.5])
    )


def test_labels_at_once_equal_label_by_label():
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(400, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + 5 + torch.rand(400, 2, generator=generator) * 30], dim=1)
    scores, ious = torch.rand(2, 400, generator=generator)
    labels = torch.randint(0, 40, (400,), generator=generator)
    together = iou_guided_nms(boxes, scores, ious, labels, 0.4)
    found = dict(zip(together[0].tolist(), together[1].tolist(), strict=True))
    for label in range(40):
        own = (labels == label).nonzero()[:, 0]
        keep, kept_scores = iou_guided_nms(boxes[own], scores[own], ious[own], labels[own], 0.4)
        for index, score in zip(own[keep].tolist(), kept_scores.tolist(), strict=True):
            assert found.pop(index) == score
    assert not found


def test_many_labels_need_no_square_matrix(monkeypatch):
    # 20 000 boxes; a dense matrix would be 3.2 GB. Only the boxes of one label are paired.
    pairs = []
    original = nms_module.box_iou
    monkeypatch.setattr(nms_module, "box_iou", lambda a, b: (pairs.append(len(a)), original(a, b))[1])
    boxes = one_row(0.0).repeat(20_000, 1)
    labels = torch.arange(20_000) // 10
    values = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    keep, _ = iou_guided_nms(boxes, values, values, labels, 0.5)
    assert len(keep) == 2000
    assert sum(pairs) == 2000 * 45


def test_inputs_are_left_alone_and_the_result_has_no_gradient():
    boxes, scores = one_row(0, 1), torch.tensor([0.3, 0.6], requires_grad=True)
    keep, cluster_scores = iou_guided_nms(boxes, scores, scores.detach(), torch.zeros(2).long(), 0.5)
    assert keep.tolist() == [1]
    assert not cluster_scores.requires_grad
    assert torch.equal(boxes, one_row(0, 1))


def test_messages():
    boxes, three = torch.rand(3, 4), torch.rand(3)
    with pytest.raises(ValueError, match=r"guide='rnak' is unknown: choose one of 'rank', 'weight', 'none'"):
        iou_guided_nms(boxes, three, three, three.long(), 0.5, guide="rnak")
    with pytest.raises(ValueError, match=r"boxes must have shape \[N, 4\], got \[3, 5\]"):
        iou_guided_nms(torch.rand(3, 5), three, three, three.long(), 0.5)
    with pytest.raises(ValueError, match=r"ious must have shape \[3\] like boxes, got \[2\]"):
        iou_guided_nms(boxes, three, three[:2], three.long(), 0.5)

"""IoU-guided non-maximum suppression (IoU-Net, section 3.1, algorithm 1).

Shapes: N boxes given, P pairs of boxes that share a label, E pairs of them that overlap ("edges"), M boxes kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from iounet.core.boxes import box_iou

GUIDES = ("rank", "weight", "none")

# Pairs whose overlaps are computed at once (and at most one box's more): few enough to stay in a CPU's cache. On a GPU
# more at once, since each chunk waits for the host.
_PAIRS_PER_CHUNK = 1 << 14
_CHUNKS_AT_ONCE_ON_GPU = 64


@torch.no_grad()
def iou_guided_nms(
    boxes: Tensor,
    scores: Tensor,
    ious: Tensor,
    labels: Tensor,
    iou_threshold: float,
    score_threshold: float | None = None,
    guide: str = "rank",
) -> tuple[Tensor, Tensor]:
    """Greedy NMS by label, ordered by localization confidence; a kept box takes its cluster's best class score.

    A box is suppressed by the first kept box, in guide order, of its label that overlaps it by more than
    ``iou_threshold`` (a box exactly at the threshold stays). A kept box and the boxes it suppressed are a cluster.
    Boxes of different labels never meet, and nothing computed for one label depends on the others: a batch of images
    goes through at once when each (image, class) has its own label. Overlaps are computed in float64.

    Args:
        boxes: ``Tensor[N, 4]``.
        scores: ``Tensor[N]``, class scores.
        ious: ``Tensor[N]``, predicted IoUs.
        labels: ``LongTensor[N]``, any integers.
        iou_threshold: overlap above which a box is suppressed.
        score_threshold: drop boxes with a class score below it first.
        guide: what orders the boxes: ``'rank'`` the predicted IoU (the paper), ``'weight'`` class score × predicted
            IoU, ``'none'`` the class score (ordinary NMS). Equal values keep the order of the input.

    Returns:
        ``LongTensor[M]`` indices of the kept boxes and ``Tensor[M]`` their clusters' scores, highest score first;
        equal scores in the order of the input.

    Raises:
        ValueError: for an unknown ``guide``, or shapes that do not agree.
    """
    if guide not in GUIDES:
        raise ValueError(f"guide={guide!r} is unknown: choose one of {', '.join(map(repr, GUIDES))}")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must have shape [N, 4], got {list(boxes.shape)}")
    for name, tensor in (("scores", scores), ("ious", ious), ("labels", labels)):
        if tensor.shape != boxes.shape[:1]:
            raise ValueError(f"{name} must have shape [{len(boxes)}] like boxes, got {list(tensor.shape)}")

    guidance = {"rank": ious, "weight": scores * ious, "none": scores}[guide]
    order = guidance.argsort(descending=True, stable=True)
    if score_threshold is not None:
        order = order[scores[order] >= score_threshold]
    labels, by_label = labels[order].sort(stable=True)  # labels together, guide order within each
    order = order[by_label]

    owner = order[_suppressors(boxes[order].double(), labels, iou_threshold)]
    cluster_scores = scores.scatter_reduce(0, owner, scores[order], "amax")
    keep = order[owner == order].sort().values
    keep = keep[cluster_scores[keep].argsort(descending=True, stable=True)]
    return keep, cluster_scores[keep]


def _suppressors(boxes: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """``LongTensor[N]``: the position of the box that suppresses each box, its own position for a kept one.

    ``boxes`` come with their labels ascending, each label in guide order.
    """
    position = torch.arange(len(boxes), device=boxes.device)
    edges = list(_overlapping_pairs(boxes, labels, position, iou_threshold))
    first, second = (torch.cat(ends) for ends in zip(*edges, strict=True))

    # A box is kept unless a kept box before it overlaps it. Starting from "all kept", round n settles every box that is
    # decided by a chain of up to n boxes; the greedy result is the only fixed point.
    kept = torch.ones_like(position, dtype=torch.bool)
    while True:
        active = torch.where(kept, position, len(boxes))
        suppressor = position.scatter_reduce(0, second, active.index_select(0, first), "amin")
        unmoved = suppressor == position
        if torch.equal(unmoved, kept):
            return suppressor
        kept = unmoved


def _overlapping_pairs(
    boxes: Tensor, labels: Tensor, position: Tensor, iou_threshold: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``(first, second)``, ``LongTensor[E]`` each: pairs of one label, first < second, that overlap too much."""
    before = position - torch.searchsorted(labels, labels)  # boxes of the same label before each box: its pairs
    pairs_until = before.cumsum(0)
    shift = position - pairs_until  # from a pair's number to its first box

    total = int(pairs_until[-1]) if len(boxes) else 0
    chunk = _PAIRS_PER_CHUNK * (1 if boxes.is_cpu else _CHUNKS_AT_ONCE_ON_GPU)
    cuts = torch.arange(0, total, chunk, device=boxes.device)[1:]
    rows = [0, *torch.searchsorted(pairs_until, cuts).tolist(), len(boxes)]
    done = 0
    for low, high in pairwise(rows):
        second = position[low:high].repeat_interleave(before[low:high])
        first = torch.arange(done, done + len(second), device=boxes.device) + shift.index_select(0, second)
        done += len(second)
        overlap = box_iou(boxes.index_select(0, first), boxes.index_select(0, second))
        (edge,) = torch.where(overlap > iou_threshold)
        yield first.index_select(0, edge), second.index_select(0, edge)

"""pycocotools' evaluation of boxes with all images matched at once: the same numbers in a fraction of the time.

Shapes: D detections and G ground-truth boxes of all images and classes, P pairs of them that overlap, T IoU thresholds.
A *group* is a class on an image.
"""

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

Array = NDArray[Any]


class BoxEval(COCOeval):
    """`COCOeval` with `iouType="bbox"` whose `evaluate` leaves in `evalImgs` what `accumulate` reads.

    `dtMatches` says whether a detection is matched (1 or 0), not with which object.
    """

    def evaluate(self) -> None:
        """Matches detections with ground truth on every image, in every class and area range, at every threshold."""
        params = self.params
        params.imgIds, params.catIds = np.unique(params.imgIds).tolist(), np.unique(params.catIds).tolist()
        params.maxDets = sorted(params.maxDets)
        self._prepare()
        groups = [(image, category) for category in params.catIds for image in params.imgIds]
        found = _best(_Boxes.of(self._dts, groups), params.maxDets[-1])
        truth = _Boxes.of(self._gts, groups)
        thresholds = np.minimum(params.iouThrs, 1 - 1e-10)
        pairs = overlaps(found, truth, float(thresholds.min()))
        by_area = []
        for limits in params.areaRng:
            ignored = truth.crowd | _outside(truth, limits)
            matched, ignores = match(*pairs, found.group, ignored, truth.crowd, thresholds)
            ignores |= ~matched & _outside(found, limits)[:, None]
            by_area.append(_entries(found, truth, len(groups), matched, ignores, ignored))
        images = len(params.imgIds)
        classes = range(0, len(groups), images)
        self.evalImgs = [entry for start in classes for area in by_area for entry in area[start : start + images]]
        self._paramsEval = copy.deepcopy(params)


class _Boxes(NamedTuple):
    """N detections or objects, group by group.

    Attributes:
        group: `Int[N]`, ascending.
        xywh: `Float[N, 4]`.
        areas: `Float[N]`, COCO's `area`.
        scores: `Float[N]`, 0 for ground truth.
        crowd: `Bool[N]`.
    """

    group: Array
    xywh: Array
    areas: Array
    scores: Array
    crowd: Array

    @staticmethod
    def of(annotations: Mapping[Any, list[dict[str, Any]]], groups: Sequence[Any]) -> "_Boxes":
        rows = [entry for group in groups for entry in annotations.get(group, ())]
        return _Boxes(
            np.repeat(np.arange(len(groups)), [len(annotations.get(group, ())) for group in groups]),
            np.array([entry["bbox"] for entry in rows], float).reshape(-1, 4),
            np.array([entry["area"] for entry in rows], float),
            np.array([entry.get("score", 0) for entry in rows], float),
            np.array([bool(entry.get("iscrowd")) for entry in rows], bool),
        )


def _best(boxes: _Boxes, count: int) -> _Boxes:
    """Those of the highest scores of each group, at most `count`, by falling score."""
    order = np.lexsort((-boxes.scores, boxes.group))
    order = order[_rank(boxes.group) < count]
    return _Boxes(*(column[order] for column in boxes))


def _outside(boxes: _Boxes, limits: Sequence[float]) -> Array:
    return (boxes.areas < limits[0]) | (boxes.areas > limits[1])


def _rank(keys: Array) -> Array:
    """Place of each element among the equal ones, of ascending keys."""
    return np.arange(len(keys)) - np.searchsorted(keys, keys)


def overlaps(found: _Boxes, truth: _Boxes, least: float) -> tuple[Array, Array, Array]:
    """Pairs of one group whose IoU is at least `least`; with a crowd it is the share of the detection (COCO's rule).

    Returns:
        `Int[P]` detections, ascending; `Int[P]` objects; `Float[P]` IoUs.
    """
    start, end = (np.searchsorted(truth.group, found.group, side) for side in ("left", "right"))
    detection = np.repeat(np.arange(len(found.group)), end - start)
    target = start[detection] + _rank(detection)
    one, other = found.xywh[detection], truth.xywh[target]
    corner = np.maximum(one[:, :2], other[:, :2])
    sides = (np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:]) - corner).clip(0)
    common, own = sides.prod(1), one[:, 2:].prod(1)
    union = np.where(truth.crowd[target], own, own + other[:, 2:].prod(1) - common)
    ious = np.divide(common, union, out=np.zeros_like(common), where=common > 0)
    kept = ious >= least
    return detection[kept], target[kept], ious[kept]


def match(
    detection: Array, target: Array, ious: Array, group: Array, ignored: Array, crowd: Array, thresholds: Array
) -> tuple[Array, Array]:
    """COCO's matching: by falling score, each detection takes the free object of the highest IoU.

    Objects that count go before those that are ignored; of equal IoUs the later object is taken; a crowd stays free.

    Args:
        detection: `Int[P]`, ascending; those of a group by falling score.
        target: `Int[P]`, its object.
        ious: `Float[P]`.
        group: `Int[D]`, ascending.
        ignored: `Bool[G]`, objects that do not count.
        crowd: `Bool[G]`.
        thresholds: `Float[T]`.

    Returns:
        `Bool[D, T]` whether a detection has an object, and whether that object is an ignored one.
    """
    order = np.lexsort((target, ious, ~ignored[target], detection))  # a detection takes the last one that is free
    detection, target = detection[order], target[order]
    reaches = ious[order, None] >= thresholds
    matched, ignores = (np.zeros((len(group), len(thresholds)), bool) for _ in range(2))
    taken = np.zeros((len(ignored), len(thresholds)), bool)
    present, pairs = np.unique(detection, return_counts=True)
    turn = np.repeat(_rank(group[present]), pairs)  # detections of different groups choose at once
    for now in range(turn.max(initial=-1) + 1):
        rows = np.flatnonzero(turn == now)
        first = np.flatnonzero(np.diff(detection[rows], prepend=-1))
        free = reaches[rows] & ~taken[target[rows]]
        last = np.maximum.reduceat(np.where(free, np.arange(len(rows))[:, None], -1), first)
        chooser, threshold = np.nonzero(last >= 0)
        pair = rows[last[chooser, threshold]]
        matched[detection[pair], threshold] = True
        ignores[detection[pair], threshold] = ignored[target[pair]]
        taken[target[pair], threshold] = ~crowd[target[pair]]
    return matched, ignores


def _entries(
    found: _Boxes, truth: _Boxes, groups: int, matched: Array, ignores: Array, ignored: Array
) -> list[dict[str, Any] | None]:
    """pycocotools' record of each group, None for one without boxes."""
    of_found, of_truth = (
        pairwise(np.searchsorted(boxes.group, np.arange(groups + 1)).tolist()) for boxes in (found, truth)
    )
    matched, ignores = matched.T.astype(int), ignores.T
    return [
        {
            "dtScores": found.scores[start:end],
            "dtMatches": matched[:, start:end],
            "dtIgnore": ignores[:, start:end],
            "gtIgnore": ignored[first:last],
        }
        if end > start or last > first
        else None
        for (start, end), (first, last) in zip(of_found, of_truth, strict=True)
    ]

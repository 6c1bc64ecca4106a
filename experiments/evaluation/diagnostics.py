"""What explains an IoU-Net on one checkpoint: confidence against localization, survivors of NMS, refinement.

Shapes: K boxes, G ground-truth boxes of a batch, P boxes followed through a refinement of at most S steps. Boxes are
(x1, y1, x2, y2); IoUs with ground truth are computed in pixels of the original images. A box is *positive* when its IoU
with the nearest ground truth of its class, the *true* IoU, is at least 0.5.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from experiments.evaluation.batch import Batch
from iounet.core.boxes import box_iou
from iounet.models.detections import rank_in_image, suppress
from suite.settings import Setting, StepSize

Array = NDArray[Any]

POSITIVE = 0.5
UNCHANGED = 0.005  # IoU: a smaller change is none
TRUE_IOU_EDGES = np.linspace(0.5, 1, 11)
DENSITY_EDGES = np.linspace(0.5, 1, 21), np.linspace(0, 1, 41)  # of the true IoU and of a confidence
CHANGE_EDGES = np.linspace(-0.05, 0.05, 41)  # the outer bins also hold what lies beyond
GUIDED = "rank"
NMS = {"guided": GUIDED, "regular": "none", "no_nms": None}  # guide; None: nothing is suppressed
DIGITS = 5


class Diagnostics:
    """Follows the boxes of one checkpoint over the batches of a split; `summary` is what `diagnostics.json` holds.

    Args:
        ground_truth: pycocotools' index of the split.
        category_ids: COCO category of each label.
        setting: the refinement that is looked at closely (`step_size`, `num_steps`).
        step_sizes: the λ whose ascents are compared.
    """

    def __init__(
        self, ground_truth: Any, category_ids: Sequence[int], setting: Setting, step_sizes: Sequence[StepSize]
    ) -> None:
        if setting.step_size is None:
            raise ValueError(f"setting '{setting.name}' has no refinement: there is no ascent to follow")
        self._ground_truth = ground_truth
        self._labels = {category: label for label, category in enumerate(category_ids)}
        self._step_size, self._num_steps = setting.step_size.actual, setting.num_steps
        self._step_sizes = sorted({self._step_size, *(step.actual for step in step_sizes)})
        self._objects = self._images = 0
        self._confidence: list[Array] = []
        self._kept: list[Array] = []
        self._survivors: dict[str, list[Array]] = {name: [] for name in NMS}
        self._ascents: dict[float, list[Array]] = {step: [] for step in self._step_sizes}
        self._steps: list[Array] = []

    @torch.no_grad()
    def add(self, batch: Batch, image_ids: Sequence[int]) -> None:
        """Adds a batch; the test_cfg of its head gives NMS and refinement."""
        candidates, ious, cfg = batch.candidates, batch.predicted.ious, batch.cfg
        classes = candidates.class_scores.shape[1]
        factors = candidates.boxes.new_tensor(np.stack([meta["scale_factor"] for meta in batch.metas]))
        truth, truth_keys = self._truth(image_ids, classes, candidates.boxes)
        self._images += len(image_ids)
        self._objects += len(truth)

        score, label = candidates.class_scores.max(1)
        image = candidates.image_index
        true, _ = nearest_iou(candidates.boxes / factors[image], image * classes + label, truth, truth_keys)
        shown = (true >= POSITIVE) & (score >= cfg.score_thr)
        predicted = ious.gather(1, label[:, None])[:, 0]
        self._confidence.append(_numpy(torch.stack([score, predicted, true])[:, shown]))

        all_boxes = {**cfg.iou.nms, "guide": "none", "iou_threshold": 1.0, "score_thr": cfg.score_thr}
        for name, guide in NMS.items():
            kept, rows = suppress(candidates, ious, **all_boxes) if guide is None else batch.kept(guide)
            image = candidates.image_index[rows]
            true, nearest = nearest_iou(kept.boxes / factors[image], image * classes + kept.labels, truth, truth_keys)
            positive = true >= POSITIVE
            self._survivors[name].append(_numpy(true[positive]))
            if name == "regular":
                self._kept.append(_numpy(torch.stack([kept.scores, kept.ious, true])[:, positive]))
            if name == "guided":
                refined = rank_in_image(image) < cfg.iou.refine.pre_refine
                self._follow(batch, positive[refined], factors[image[refined]], truth[nearest[refined]])

    def _follow(self, batch: Batch, positive: Tensor, factors: Tensor, target: Tensor) -> None:
        """Follows the positive ones of P boxes with each λ; `target`, `Tensor[P, 4]`, is the ground truth of each."""
        factors, target = factors[positive], target[positive]
        for step_size in self._step_sizes:
            refine = {**batch.cfg.iou.refine, "lamb": step_size, "t": self._num_steps}
            trace = batch.ascent(GUIDED, refine).trace
            states, predicted = (torch.stack(parts)[:, positive] for parts in zip(*trace, strict=True))
            self._ascents[step_size].append(_numpy(torch.stack([predicted, box_iou(states / factors, target)])))
            if step_size == self._step_size:
                self._steps.append(_numpy((states[1:] != states[:-1]).any(-1).sum(0)))

    def _truth(self, image_ids: Sequence[int], classes: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """`Tensor[G, 4]` non-crowd boxes of a batch, and their keys: image in the batch × classes + label."""
        boxes, keys = [], []
        for position, image_id in enumerate(image_ids):
            for entry in self._ground_truth.imgToAnns[image_id]:
                if not entry.get("iscrowd") and entry["category_id"] in self._labels:
                    x, y, w, h = entry["bbox"]
                    boxes.append([x, y, x + w, y + h])
                    keys.append(position * classes + self._labels[entry["category_id"]])
        device = like.device
        return like.new_tensor(boxes).reshape(-1, 4), torch.tensor(keys, dtype=torch.long, device=device)

    def summary(self) -> dict[str, Any]:
        """Everything of the module's docstring, as plain numbers and lists."""
        ascents = {step: np.concatenate(parts, axis=2) for step, parts in self._ascents.items()}
        return {
            "setting": {"guide": GUIDED, "step_size": self._step_size, "num_steps": self._num_steps},
            "images": self._images,
            "objects": self._objects,
            "confidence": confidence_summary(*_confidences(self._confidence)),
            "confidence_after_nms": confidence_summary(*_confidences(self._kept)),
            "survivors": survivor_summary({name: np.concatenate(parts) for name, parts in self._survivors.items()}),
            "refinement": refinement_summary(ascents[self._step_size][1], np.concatenate(self._steps)),
            "ascent": [
                {"step_size": step, "boxes": values.shape[2], **_ascent_means(values)}
                for step, values in ascents.items()
            ],
        }


def nearest_iou(boxes: Tensor, keys: Tensor, truth: Tensor, truth_keys: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of each box with the nearest ground truth of its key, and which one that is.

    Args:
        boxes: `Tensor[K, 4]`.
        keys: `LongTensor[K]`, the same for boxes that may be compared: of one image and class.
        truth: `Tensor[G, 4]`.
        truth_keys: `LongTensor[G]`.

    Returns:
        `Tensor[K]`, 0 for a box without ground truth of its key; and `LongTensor[K]`, rows of `truth`.
    """
    if len(truth) == 0:
        return boxes.new_zeros(len(boxes)), keys.new_zeros(len(boxes))
    pairs = box_iou(boxes[:, None], truth[None]).where(keys[:, None] == truth_keys[None], 0.0)
    best = pairs.max(1)
    return best.values, best.indices


def confidence_summary(confidences: dict[str, Array], true: Array) -> dict[str, Any]:
    """How well each confidence goes with the true IoU (figure 2 of the paper).

    Args:
        confidences: name to `Float[K]`.
        true: `Float[K]`, at least 0.5.

    Returns:
        Per name Pearson's and Spearman's correlation (None where undefined) and a histogram, rows by true IoU and
        columns by confidence; confidences outside [0, 1] count in the outer bins.
    """
    true_edges, edges = DENSITY_EDGES
    found: dict[str, Any] = {"boxes": len(true), "true_iou_edges": _plain(true_edges), "edges": _plain(edges)}
    for name, values in confidences.items():
        counts, _, _ = np.histogram2d(true, values.clip(0, 1), bins=[true_edges, edges])
        found[name] = {
            "pearson": _correlation(values, true),
            "spearman": _correlation(stats.rankdata(values), stats.rankdata(true)),
            "histogram": counts.astype(int).tolist(),
        }
    return found


def _confidences(parts: Sequence[Array]) -> tuple[dict[str, Array], Array]:
    """Class score and predicted IoU by name, and the true IoU, from the `Float[3, K]` of batches."""
    score, predicted, true = np.concatenate(parts, axis=1)
    return {"class_score": score, "predicted_iou": predicted}, true


def _correlation(first: Array, second: Array) -> float | None:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return round(float(np.corrcoef(first, second)[0, 1]), DIGITS)


def survivor_summary(true: dict[str, Array]) -> dict[str, Any]:
    """Positive boxes that each kind of NMS keeps, by true IoU (figure 3 of the paper).

    Args:
        true: per kind `Float[K]`, true IoUs of the boxes that it keeps, at least 0.5.
    """
    counts = {name: np.histogram(values, TRUE_IOU_EDGES)[0].tolist() for name, values in true.items()}
    return {"edges": _plain(TRUE_IOU_EDGES), **counts}


def refinement_summary(true: Array, steps: Array) -> dict[str, Any]:
    """What refinement does to boxes.

    Args:
        true: `Float[S + 1, P]`, the true IoUs before the first and after each step.
        steps: `Int[P]`, steps taken by each box.

    Returns:
        `by_step`: mean true IoU before and after each step, and the shares that gained, lost or did neither since the
        start; `by_start`: boxes, mean change and these shares by true IoU before; `change`: a histogram;
        `steps`: how many boxes took 0, 1, … S steps. A mean of no boxes is None.
    """
    change = true - true[:1]
    final = change[-1]
    place = np.digitize(true[0], TRUE_IOU_EDGES[1:-1])
    bins = [final[place == index] for index in range(len(TRUE_IOU_EDGES) - 1)]
    inside = final.clip(CHANGE_EDGES[0], CHANGE_EDGES[-1])
    return {
        "boxes": true.shape[1],
        "unchanged_below": UNCHANGED,
        "by_step": {"true_iou": [_mean(row) for row in true], **_shares(list(change))},
        "by_start": {
            "edges": _plain(TRUE_IOU_EDGES),
            "boxes": [len(values) for values in bins],
            "change": [_mean(values) for values in bins],
            **_shares(bins),
        },
        "change": {"edges": _plain(CHANGE_EDGES), "boxes": np.histogram(inside, CHANGE_EDGES)[0].tolist()},
        "steps": np.bincount(steps, minlength=len(true)).tolist(),
    }


def _shares(changes: list[Array]) -> dict[str, list[float | None]]:
    return {
        "gained": [_mean(values > UNCHANGED) for values in changes],
        "lost": [_mean(values < -UNCHANGED) for values in changes],
        "unchanged": [_mean(abs(values) <= UNCHANGED) for values in changes],
    }


def _ascent_means(values: Array) -> dict[str, list[float | None]]:
    """Of `Float[2, S + 1, P]`, predicted and true."""
    return {name: [_mean(row) for row in rows] for name, rows in zip(("predicted", "true"), values, strict=True)}


def _mean(values: Array) -> float | None:
    return round(float(np.mean(values)), DIGITS) if len(values) else None


def _plain(edges: Array) -> list[float]:
    return [round(float(edge), DIGITS) for edge in edges]


def _numpy(values: Tensor) -> Array:
    return values.cpu().numpy()

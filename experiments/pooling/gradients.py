"""Gradients in the coordinates: which poolings have one, how far it is from the exact one, and how it jumps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.pooling.rows import EXACT, SAMPLES
from experiments.pooling.sampled import sampled_pool
from experiments.pooling.scenes import BORDER, CLASSES, Boxes, Scene, all_sizes
from experiments.pooling.values import exact_pool
from iounet.ops import prroi_pool

POOLINGS = (EXACT, *SAMPLES)
SHIFT = 1e-3  # pixels
JUMP = 0.01  # a change of the gradient by more than this share of it, over `SHIFT`
LOW = 0.05  # the quantile of cosines that is given beside the median
PLACES = 16
SCAN = (-4.0, 4.0, 0.02)  # pixels: from, to, step


def existing() -> dict[str, bool]:
    """Whether each operator passes a gradient on to the RoIs, seen by running it."""
    from mmcv.ops import roi_align as mmcv_roi_align
    from torchvision.ops import roi_align

    operators = {
        "torchvision.ops.roi_align": lambda maps, rois: roi_align(maps, rois, 7, 0.25, 2, aligned=True),
        "mmcv.ops.roi_align": lambda maps, rois: mmcv_roi_align(maps, rois, 7, 0.25, 2, "avg", True),
        "sampled in plain torch": lambda maps, rois: sampled_pool([maps], rois, _first_level(rois), (7, 7), [0.25], 2),
        "iounet.ops.prroi_pool": lambda maps, rois: prroi_pool(maps, rois, 7, 0.25),
    }
    found = {}
    for name, pool in operators.items():
        generator = torch.Generator().manual_seed(0)
        maps = torch.randn(1, 4, 24, 24, generator=generator).requires_grad_()
        rois = torch.tensor([[0, 10.3, 12.1, 61.7, 70.9]]).requires_grad_()
        pool(maps, rois).square().sum().backward()
        assert maps.grad is not None  # else nothing was differentiated
        found[name] = rois.grad is not None and bool(rois.grad.any())
    return found


def _first_level(rois: Tensor) -> Tensor:
    return torch.zeros(len(rois), dtype=torch.long)


def pool_with_gradient(pooling: str, scene: Scene, rois: Tensor) -> Tensor:
    """`Tensor[K, C, ph, pw]`, differentiable in the RoIs; `scene` is in their precision."""
    if pooling == EXACT:
        return exact_pool(scene, rois)
    return sampled_pool(scene.maps, rois, scene.levels(rois), scene.size, scene.scales, SAMPLES[pooling])


def iou_gradient(pooling: str, scene: Scene, boxes: Boxes) -> Tensor:
    """The gradient of the IoU that is predicted for each box to its coordinates, both through this pooling.

    Returns:
        `Tensor[K, 4]`, per pixel.
    """
    leaf = boxes.rois.detach().requires_grad_()
    with torch.enable_grad():
        pooled = pool_with_gradient(pooling, scene, leaf)
    upstream = head_gradient(scene, boxes, pooled.detach())
    (gradient,) = torch.autograd.grad(pooled, leaf, upstream)
    return gradient[:, 1:]


def head_gradient(scene: Scene, boxes: Boxes, pooled: Tensor) -> Tensor:
    """The gradient of the predicted IoU to the pooled features, `Tensor[K, C, ph, pw]`."""
    return scene.head.of_labels(boxes.labels).with_gradient(pooled)[1]


def linear_gradient(pooling: str, scene: Scene, rois: Tensor, upstream: Tensor) -> Tensor:
    """The gradient of `(pooled × upstream).sum()` to the coordinates: through the pooling alone. `Tensor[K, 4]`."""
    leaf = rois.detach().requires_grad_()
    with torch.enable_grad():
        pooled = pool_with_gradient(pooling, scene, leaf)
    return torch.autograd.grad(pooled, leaf, upstream)[0][:, 1:]


class Gradients:
    """Gradients of the predicted IoU at the boxes that refinement moves, over many scenes.

    Args:
        factors: boxes are also taken this many times as long.
    """

    def __init__(self, factors: Sequence[float]) -> None:
        self._factors = factors
        self._classes: list[Tensor] = []
        self._as_found: list[Tensor] = []
        self._found: dict[str, list[Tensor]] = {pooling: [] for pooling in POOLINGS}

    def add(self, scene: Scene) -> None:
        """Adds a scene."""
        double = scene.double()
        for factor, boxes, classes in all_sizes(double.kept, double, self._factors):
            self._classes.append(classes.cpu())
            self._as_found.append(torch.full_like(self._classes[-1], factor == 1, dtype=torch.bool))
            for pooling in POOLINGS:
                self._found[pooling].append(iou_gradient(pooling, double, boxes).cpu())

    def summary(self) -> dict[str, Any]:
        """Per row of `scenes.ROWS`: boxes, and per pooling `compare` with the exact gradient.

        Boxes without a gradient are left out: no ReLU of the head lets it pass.
        """
        classes, as_found, exact = (torch.cat(parts) for parts in (self._classes, self._as_found, self._found[EXACT]))
        has_gradient = exact.norm(dim=1) > 0
        rows = [*(classes == number for number in range(CLASSES)), as_found & (classes != BORDER)]
        masks = [row & has_gradient for row in rows]
        found = {}
        for pooling in SAMPLES:
            own = torch.cat(self._found[pooling])
            compared = [compare(own[mask], exact[mask]) for mask in masks]
            found[pooling] = {key: [one[key] for one in compared] for key in compared[0]}
        return {"rois": [int(mask.sum()) for mask in masks], "against_exact": found}


def compare(own: Tensor, exact: Tensor) -> dict[str, float | None]:
    """Gradients `Tensor[K, 4]` beside the exact ones.

    Returns:
        `cosine`: the median; `low_cosine`: the quantile `LOW`; `norm`: median of the ratios of norms; `error`: the RMS
        of the difference relative to the exact RMS. None for K = 0.
    """
    if len(own) == 0:
        return dict.fromkeys(("cosine", "low_cosine", "norm", "error"))
    cosines = torch.nn.functional.cosine_similarity(own, exact, dim=1, eps=1e-300)
    quantiles = cosines.quantile(cosines.new_tensor([0.5, LOW])).tolist()
    return {
        "cosine": quantiles[0],
        "low_cosine": quantiles[1],
        "norm": float((own.norm(dim=1) / exact.norm(dim=1)).median()),
        "error": float((own - exact).norm() / exact.norm()),
    }


class Jumps:
    """How the gradient changes where a box moves by `SHIFT` along x and y, over many scenes.

    What the head makes of the features is held fixed, as its ReLUs are kinks of their own: this is the pooling's part.

    Args:
        places: at which each box is looked at, moved at random by up to a cell.
    """

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        self._generator = torch.Generator().manual_seed(0)
        self._changes: dict[str, list[Tensor]] = {pooling: [] for pooling in POOLINGS}

    def add(self, scene: Scene) -> None:
        """Adds a scene."""
        double = scene.double()
        boxes = double.kept
        upstream = head_gradient(double, boxes, exact_pool(double, boxes.rois))
        for _ in range(self._places):
            scale = boxes.rois.new_tensor(double.scales)[double.levels(boxes.rois), None]
            by = torch.rand(len(boxes.rois), 2, generator=self._generator, dtype=torch.float64).to(scale.device)
            moved = shifted(boxes.rois, (2 * by - 1) / scale)
            inside = double.classes(moved) != BORDER
            near = shifted(moved, SHIFT)[inside]
            for pooling in POOLINGS:
                first = linear_gradient(pooling, double, moved[inside], upstream[inside])
                change = linear_gradient(pooling, double, near, upstream[inside]) - first
                relative = change.norm(dim=1) / first.norm(dim=1)
                self._changes[pooling].append(relative[relative.isfinite()].cpu())

    def summary(self) -> dict[str, Any]:
        """`places`; and per pooling the `share` of them where the gradient changes by more than `JUMP`, the median
        `size` of such a change (None without one), and the median `change` of all."""
        changes = {pooling: torch.cat(parts) for pooling, parts in self._changes.items()}
        return {
            "places": len(changes[EXACT]),
            "share": {pooling: _mean(own > JUMP) for pooling, own in changes.items()},
            "size": {pooling: _median(own[own > JUMP]) for pooling, own in changes.items()},
            "change": {pooling: _median(own) for pooling, own in changes.items()},
        }


def shifted(rois: Tensor, by: Any) -> Tensor:
    """RoIs moved as they are, by pixels along x and y: a number, or `Tensor[K, 2]`."""
    by = rois.new_zeros(len(rois), 2) + by
    return rois + torch.cat([by.new_zeros(len(by), 1), by, by], dim=1)


def scan(scene: Scene) -> Mapping[str, Any] | None:
    """The gradient of one box to its place along x while it moves there: the first of a scene that has room for it.

    Returns:
        The `roi`, its `stride`, `shift` in pixels, and per pooling the `value` (the pooled features times what the head
        makes of them at the start) and its `derivative` per pixel; None without such a box.
    """
    double = scene.double()
    shifts = torch.arange(SCAN[0], SCAN[1] + SCAN[2] / 2, SCAN[2], dtype=torch.float64)
    for row in range(len(double.kept.rois)):
        box = double.kept.take(torch.tensor([row]))
        ends = box.rois + torch.tensor([[0, SCAN[0], 0, SCAN[0], 0], [0, SCAN[1], 0, SCAN[1], 0]]).to(box.rois)
        if (double.classes(ends) == BORDER).any():
            continue
        upstream = head_gradient(double, box, exact_pool(double, box.rois))
        rois = shifted(box.rois.expand(len(shifts), -1), torch.stack([shifts, 0 * shifts], 1).to(box.rois))
        values, derivatives = {}, {}
        for pooling in POOLINGS:
            values[pooling] = (pool_with_gradient(pooling, double, rois) * upstream).flatten(1).sum(1)
            gradient = linear_gradient(pooling, double, rois, upstream.expand(len(rois), -1, -1, -1))
            derivatives[pooling] = gradient[:, 0] + gradient[:, 2]
        return {
            "roi": [round(value, 3) for value in box.rois[0, 1:].tolist()],
            "stride": 1 / double.scales[int(double.levels(box.rois)[0])],
            "shift": [round(value, 4) for value in shifts.tolist()],
            "value": {pooling: [round(v, 8) for v in own.tolist()] for pooling, own in values.items()},
            "derivative": {pooling: [round(v, 8) for v in own.tolist()] for pooling, own in derivatives.items()},
        }
    return None


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None


def _median(values: Tensor) -> float | None:
    return float(values.median()) if len(values) else None

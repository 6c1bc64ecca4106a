"""How far RoIAlign's values are from the exact means that Precise RoI Pooling computes, by size of the bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import roi_align

from experiments.pooling.rows import EXACT, SAMPLES
from experiments.pooling.sampled import half_a_cell_on, kernel_pool, sampled_pool
from experiments.pooling.scenes import BORDER, CLASSES, Scene, all_sizes
from iounet.ops import prroi_pool_multilevel
from iounet.ops._reference import prroi_pool_reference

CONVENTION_SAMPLES = 2  # with which the conventions of coordinates are compared
TOLERANCE = 1e-9  # of the plain torch that is differentiated against the kernel, relative to the largest value
_PER_CALL = 1024  # RoIs: their values in float64 fit


def exact_pool(scene: Scene, rois: Tensor) -> Tensor:
    """The oracle of Precise RoI Pooling. `Tensor[K, C, ph, pw]`."""
    return prroi_pool_reference(scene.maps, rois, scene.levels(rois), scene.size, scene.scales)


class Values:
    """Sums over the boxes of many scenes; `summary` is what the file holds.

    Args:
        factors: boxes are also taken this many times as long.
    """

    def __init__(self, factors: Sequence[float]) -> None:
        self._factors = factors
        # of the boxes as they are, and of the longer and shorter ones
        self._rois, self._power, *squares = torch.zeros(3 + len(SAMPLES), 2, CLASSES, dtype=torch.float64)
        self._squares = dict(zip((EXACT, *SAMPLES), squares, strict=True))
        self._unmoved = torch.zeros(2, dtype=torch.float64)
        self._largest = {"aligned_false": 0.0, "plain_torch": 0.0}

    @torch.no_grad()
    def add(self, scene: Scene) -> None:
        """Adds a scene; its candidates are pooled.

        Raises:
            RuntimeError: the RoIAlign that is differentiated is not torchvision's.
        """
        double = scene.double()
        for factor, boxes, classes in all_sizes(double.candidates, double, self._factors):
            for rows in torch.arange(len(classes), device=classes.device).split(_PER_CALL):
                self._add(scene, double, boxes.rois[rows], classes[rows], is_as_found=factor == 1)

    def _add(self, scene: Scene, double: Scene, rois: Tensor, classes: Tensor, *, is_as_found: bool) -> None:
        exact, levels, part = exact_pool(double, rois), double.levels(rois), int(not is_as_found)
        self._rois[part] += classes.bincount(minlength=CLASSES).cpu()
        self._power[part] += _by_class(exact.square(), classes)
        own = prroi_pool_multilevel(scene.maps, rois.to(scene.maps[0].dtype), levels, scene.size, scene.scales)
        self._squares[EXACT][part] += _by_class((own - exact).square(), classes)
        arguments = (double.maps, rois, levels, scene.size, scene.scales)
        for pooling, samples in SAMPLES.items():
            pooled = kernel_pool(*arguments, samples)
            self._squares[pooling][part] += _by_class((pooled - exact).square(), classes)
            if is_as_found:
                plain = sampled_pool(*arguments, samples)
                self._keep("plain_torch", plain - pooled, exact)
                # an adaptive number of samples may round to another one
                if samples and self._largest["plain_torch"] > TOLERANCE:
                    raise RuntimeError(
                        f"{pooling}: plain torch and torchvision's kernel differ by "
                        f"{self._largest['plain_torch']:.1e}, allowed {TOLERANCE:.0e}: nothing is measured"
                    )
        if is_as_found:
            self._compare_conventions(double, rois, levels, exact, classes != BORDER)

    def _compare_conventions(self, scene: Scene, rois: Tensor, levels: Tensor, exact: Tensor, inside: Tensor) -> None:
        """`aligned=False` against `aligned=True` half a cell on; and `aligned=True` without that against the oracle."""
        for level, (feature, scale) in enumerate(zip(scene.maps, scene.scales, strict=True)):
            sides = (rois[:, 3:] - rois[:, 1:3]) * scale
            rows = ((levels == level) & (sides >= 1).all(1) & inside).nonzero()[:, 0]
            if len(rows) == 0:
                continue
            options = {"spatial_scale": scale, "sampling_ratio": CONVENTION_SAMPLES}
            moved = roi_align(feature, half_a_cell_on(rois[rows], scale), scene.size, aligned=True, **options)
            unmoved = roi_align(feature, rois[rows], scene.size, aligned=True, **options)
            plain = roi_align(feature, rois[rows], scene.size, aligned=False, **options)
            self._keep("aligned_false", plain - moved, exact[rows])
            self._unmoved += torch.stack([(unmoved - exact[rows]).square().sum(), exact[rows].square().sum()]).cpu()

    def _keep(self, name: str, difference: Tensor, exact: Tensor) -> None:
        if difference.numel():
            self._largest[name] = max(self._largest[name], float(difference.abs().max() / exact.abs().max()))

    def summary(self) -> dict[str, Any]:
        """Per row of `scenes.ROWS`: RoIs, and per pooling the RMS error relative to the exact RMS.

        Also `conventions`: the largest differences relative to the largest value, and the error of `aligned=True` where
        the RoIs are not moved.
        """
        power = _rows(self._power)
        return {
            "rois": _rows(self._rois).long().tolist(),
            "error": {pooling: relative_roots(_rows(squares), power) for pooling, squares in self._squares.items()},
            "conventions": {**self._largest, "unmoved": relative_roots(*self._unmoved[:, None])[0]},
        }


def relative_roots(squares: Tensor, power: Tensor) -> list[float | None]:
    """√(sum of squared errors / sum of squares) of each class; None where there is nothing to compare."""
    return [float((own / all_).sqrt()) if all_ > 0 else None for own, all_ in zip(squares, power, strict=True)]


def _rows(sums: Tensor) -> Tensor:
    """`Tensor[2, CLASSES]` as the file's rows: the classes, and what is inside the map of the boxes as they are."""
    return torch.cat([sums.sum(0), sums[0, :BORDER].sum(0, keepdim=True)])


def _by_class(values: Tensor, classes: Tensor) -> Tensor:
    """`Tensor[CLASSES]`: sums of `Tensor[K, …]` over each class."""
    sums = values.new_zeros(CLASSES, dtype=torch.float64)
    return sums.index_add(0, classes, values.double().flatten(1).sum(1)).cpu()

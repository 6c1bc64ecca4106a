"""The refinement of boxes as one module of stock operators, with the gradient written out (algorithm 2).

Shapes: K boxes, N images, C channels, L levels of Hl x Wl cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from iounet.export.pooling import Pooled, Pyramid
from iounet.models._test_cfg import read_iou_cfg
from iounet.models.iou_head import IoUHead
from iounet.models.iou_roi_head import IoURoIHead
from iounet.models.prroi_extractor import PrRoIExtractor
from iounet.ops import PrRoIPool


class Refiner(nn.Module):
    """Moves boxes uphill on their predicted IoU, as :func:`iounet.core.refine_boxes`, in a fixed number of steps.

    The same operations whatever the values: no autograd, no custom operator, no data-dependent shape. A box that has
    stopped is computed along and stays where it is. In the weights' precision.

    Args:
        iou_head: trained.
        output_size: bins per RoI, (height, width).
        strides: image pixels per cell, one per level.
        level_areas: smallest area, in square pixels, on each level but the first.
        step_size: λ.
        num_steps: T; 0 predicts IoUs and moves nothing.
        omega_1: early-stop threshold.
        omega_2: tolerance of degradation; negative.

    Raises:
        ValueError: for a negative ``num_steps``.
    """

    def __init__(
        self,
        iou_head: IoUHead,
        *,
        output_size: tuple[int, int],
        strides: Sequence[int],
        level_areas: Sequence[float],
        step_size: float = 0.5,
        num_steps: int = 5,
        omega_1: float = 0.001,
        omega_2: float = -0.01,
    ) -> None:
        super().__init__()
        if num_steps < 0:
            raise ValueError(f"num_steps={num_steps} must not be negative")
        self.iou_head = iou_head
        first: Any = iou_head.shared_fcs[0]
        self._in_channels: int = first.in_features
        self.output_size, self.strides = output_size, tuple(strides)
        self.step_size, self.num_steps = float(step_size), num_steps
        self.omega_1, self.omega_2 = float(omega_1), float(omega_2)
        self.level_areas = tuple(level_areas)

    @property
    def channels(self) -> int:
        """C, of every map."""
        return self._in_channels // (self.output_size[0] * self.output_size[1])

    def forward(self, rois: Tensor, labels: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Refined boxes and their predicted IoUs.

        Args:
            rois: ``Tensor[K, 5]`` of (image index, x1, y1, x2, y2), in pixels of the network's input.
            labels: ``LongTensor[K]``, the class of each box; a class-agnostic head does not read them.
            maps: ``Tensor[N, C, Hl, Wl]`` per level of ``strides``; finite.

        Returns:
            ``Tensor[K, 4]`` of (x1, y1, x2, y2), not clipped to the image, and ``Tensor[K]``; in the order of ``rois``.
        """
        model = self.iou_head.of_labels(labels)
        pyramid = Pyramid(maps, self.strides, self.level_areas)
        stopped = torch.zeros_like(labels, dtype=torch.bool)
        previous = None
        for _ in range(self.num_steps):
            pooled = Pooled(pyramid, rois, self.output_size)
            ious, gradient = model.with_gradient(pooled.output)
            if previous is not None:
                change = ious - previous
                stopped = stopped | (change.abs() < self.omega_1) | (change < self.omega_2)
            corners = rois[:, 1:]
            size = (corners[:, 2:] - corners[:, :2]).repeat(1, 2)
            moved = corners + self.step_size * (pooled.coordinate_gradient(gradient) * size)
            rois = torch.cat([rois[:, :1], torch.where(stopped[:, None], corners, moved)], dim=1)
            previous = ious
        return rois[:, 1:].clone(), model(Pooled(pyramid, rois, self.output_size).output)


def refiner_of(roi_head: Any, *, step_size: float | None = None, num_steps: int | None = None) -> Refiner:
    """The refiner of a detector's RoI head, which shares its weights.

    Args:
        roi_head: of an IoU-Net.
        step_size: λ; ``None``: that of ``test_cfg.rcnn.iou.refine``, as all else, or the default there.
        num_steps: T; likewise.

    Raises:
        ValueError: if the head has no IoU branch, or its RoI extractor does not pool by Precise RoI Pooling.
    """
    if not isinstance(roi_head, IoURoIHead):
        raise ValueError(f"roi_head: {type(roi_head).__name__} has no IoU branch to export; it must be an IoURoIHead")
    extractor = roi_head._extractor
    layer = extractor.roi_layers[0]
    if not isinstance(extractor, PrRoIExtractor) or not isinstance(layer, PrRoIPool):
        raise ValueError(
            f"roi_head: the IoU branch pools with {type(layer).__name__}, which has no gradient to the boxes: only a "
            "PrRoIExtractor with PrRoIPool can be exported"
        )
    branch = read_iou_cfg(roi_head.test_cfg)
    movement = None if branch is None else branch[1]
    if movement is None:
        defaults = read_iou_cfg({"iou": {"refine": {}}})
        assert defaults is not None
        movement = defaults[1]
        assert movement is not None
    size = layer.output_size
    return Refiner(
        roi_head.iou_head,
        output_size=(size, size) if isinstance(size, int) else size,
        strides=extractor.featmap_strides,
        level_areas=extractor.level_areas,
        step_size=movement["lamb"] if step_size is None else step_size,
        num_steps=movement["t"] if num_steps is None else num_steps,
        omega_1=movement["omega_1"],
        omega_2=movement["omega_2"],
    ).eval()

"""What is pooled: feature maps of a trained IoU-Net on some images, and the boxes that it pools there.

Shapes: L levels, K boxes of a batch of N images.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiments.data.datasets import build_split
from experiments.evaluation.batch import Batch
from experiments.models import Opened
from experiments.pooling.rows import GUIDE
from experiments.speed.timing import batches_of
from iounet.core.boxes import as_rois
from iounet.models import PrRoIExtractor
from suite.layout import DataFolder

EDGES = (0.0, 0.5, 1.0, 2.0, 4.0, float("inf"))  # of the classes of boxes, in cells per bin
BORDER = len(EDGES) - 1  # the class of boxes that reach beyond the centres of the map's first or last cells
CLASSES = len(EDGES)
# What the file has a row for: each class, and all boxes inside the map as they are, without longer and shorter ones.
ROWS = (*(f"{low:g} to {high:g}" for low, high in pairwise(EDGES[:-1])), f"over {EDGES[-2]:g}", "border", "own")


class Boxes(NamedTuple):
    """Boxes of a batch.

    Attributes:
        rois: `Tensor[K, 5]`, (image in the batch, x1, y1, x2, y2) in pixels of the network's input.
        labels: `LongTensor[K]`.
    """

    rois: Tensor
    labels: Tensor

    def take(self, rows: Tensor) -> Boxes:
        """The rows of an index or a mask."""
        return Boxes(self.rois[rows], self.labels[rows])

    def sized(self, factor: float) -> Boxes:
        """Boxes this many times as long, about the same centres."""
        centre = (self.rois[:, 1:3] + self.rois[:, 3:]) / 2
        half = factor * (self.rois[:, 3:] - self.rois[:, 1:3]) / 2
        return self._replace(rois=torch.cat([self.rois[:, :1], centre - half, centre + half], dim=1))


class Scene(NamedTuple):
    """A batch of images as a detector sees them.

    Attributes:
        maps: `Tensor[N, C, Hl, Wl]` of each level that RoIs are pooled from, as the detector has them.
        scales: cells per pixel of each level.
        size: (ph, pw), bins of a RoI.
        extractor: tells the level of a RoI.
        head: the IoU head, in float64.
        candidates: what box head and IoU head score: K boxes with their best labels.
        kept: what guided NMS keeps of them, and refinement moves.
    """

    maps: list[Tensor]
    scales: list[float]
    size: tuple[int, int]
    extractor: PrRoIExtractor
    head: Any
    candidates: Boxes
    kept: Boxes

    def levels(self, rois: Tensor) -> Tensor:
        """`LongTensor[K]`."""
        return self.extractor.map_roi_levels(rois, len(self.maps))

    def classes(self, rois: Tensor) -> Tensor:
        """`LongTensor[K]`: the class of each box, by the mean length √(w·h) of its bins; `BORDER` for some.

        A box that reaches beyond the centres of the map's first or last cells is at the border: there PrRoIPool falls
        to 0 within a cell, and RoIAlign repeats the last cell, so that no number of samples makes them equal.
        """
        levels = self.levels(rois)
        scale = rois.new_tensor(self.scales)[levels, None]
        last = rois.new_tensor([[level.shape[3] - 1, level.shape[2] - 1] for level in self.maps])[levels]
        low, high = rois[:, 1:3] * scale, rois[:, 3:] * scale
        cells = ((high - low).clamp(min=0) / rois.new_tensor(self.size[::-1])).prod(1).sqrt()
        inside = (low >= 0).all(1) & (high <= last).all(1)
        return torch.bucketize(cells, rois.new_tensor(EDGES[1:-1])).where(inside, BORDER)

    def double(self) -> Scene:
        """The same maps, contiguous, and boxes in float64."""
        return self._replace(
            maps=[level.double().contiguous() for level in self.maps],
            candidates=self.candidates._replace(rois=self.candidates.rois.double()),
            kept=self.kept._replace(rois=self.kept.rois.double()),
        )


@torch.no_grad()
def scenes_of(opened: Opened, data: DataFolder, split: str, images: int, batch_size: int) -> Iterator[Scene]:
    """The first images of a split, batch by batch.

    Args:
        opened: an IoU-Net with a `PrRoIExtractor`.
        data: the suite's images.
        split: the images.
        images: how many of them.
        batch_size: images of a scene.
    """
    model: Any = opened.model
    head, device = model.roi_head, next(model.parameters()).device
    extractor = head.bbox_roi_extractor
    size = extractor.roi_layers[0].output_size
    iou_head = copy.deepcopy(head.iou_head).double()
    for pixels, metas in batches_of(build_split(opened.cfg, data, split, images), batch_size, str(device)):
        features = model.extract_feat(pixels)
        batch = Batch(head, features, model.rpn_head.simple_test_rpn(features, metas), metas)
        found, rows = batch.kept(GUIDE)
        candidates = batch.candidates
        maps = list(features[: extractor.num_inputs])
        yield Scene(
            maps=maps,
            scales=[1 / stride for stride in extractor.featmap_strides[: len(maps)]],
            size=(size, size) if isinstance(size, int) else tuple(size),
            extractor=extractor,
            head=iou_head,
            candidates=_boxes(candidates.image_index, candidates.boxes, candidates.class_scores.argmax(1)),
            kept=_boxes(candidates.image_index[rows], found.boxes, found.labels),
        )


def _boxes(image_index: Tensor, boxes: Tensor, labels: Tensor) -> Boxes:
    return Boxes(as_rois(image_index, boxes), labels)


def all_sizes(boxes: Boxes, scene: Scene, factors: Sequence[float]) -> Iterator[tuple[float, Boxes, Tensor]]:
    """(factor, boxes, their classes): as they are, and longer and shorter as far as they then lie inside the map."""
    for factor in (1.0, *factors):
        sized = boxes.sized(factor)
        classes = scene.classes(sized.rois)
        if factor != 1:
            inside = classes != BORDER
            sized, classes = sized.take(inside), classes[inside]
        yield factor, sized, classes

"""A trained detector as a source of boxes: those before NMS, and where its box head moves others.

Shapes: N images of a batch, K boxes of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiments.config import config_hash, resolve_config
from experiments.evaluation.inference import detections_of
from experiments.models import open_checkpoint
from experiments.treatments.rows import has_box_head
from iounet.core.boxes import as_rois
from iounet.core.detections import Detections
from suite.layout import DataFolder
from suite.suite import Suite

# An NMS that suppresses nothing: no IoU is above 1. Of two-stage detectors of mmdet.
_WITHOUT_NMS = {"model.test_cfg.rcnn.nms.iou_threshold": 1.0, "model.test_cfg.rcnn.max_per_img": -1}


class Boxes(NamedTuple):
    """Boxes of a batch, image by image.

    Attributes:
        found: K boxes (x1, y1, x2, y2) in pixels of the images as they are in their files, with scores and labels.
        image_index: `LongTensor[K]`, ascending.
    """

    found: Detections
    image_index: Tensor

    def take(self, rows: Tensor) -> Boxes:
        """The rows of an index or a mask."""
        return Boxes(self.found.take(rows), self.image_index[rows])


class BoxSource:
    """A detector's checkpoint, opened on a split.

    Args:
        suite: the suite.
        detector: one of `suite.treated`.
        checkpoint: the detector's.
        data: the suite's images.
        split: the images.

    Attributes:
        config_hash: of its config.
        dataset: mmdet's data set of the split.
        model: the detector, on its device.
        has_regression: whether it has a box head that can be asked again.

    Raises:
        SuiteError: checkpoint or data are missing, damaged or of another model or other classes.
    """

    def __init__(self, suite: Suite, detector: str, checkpoint: Path, data: DataFolder, split: str) -> None:
        cfg = resolve_config(suite, detector)
        self.config_hash = config_hash(cfg)
        self.has_regression = has_box_head(cfg)
        changes = _WITHOUT_NMS if self.has_regression else None
        opened = open_checkpoint(suite, detector, checkpoint, data, split, changes=changes)
        self.dataset, self.model = opened.dataset, opened.model
        self.workers: int = opened.cfg.data.workers_per_gpu

    @torch.no_grad()
    def candidates(self, images: Tensor, metas: list[dict[str, Any]]) -> Boxes:
        """All boxes before NMS that score as the detector's config asks, and have an area.

        Args:
            images: `Tensor[N, 3, H, W]`, of the data set's pipeline.
            metas: mmdet's, of each image.
        """
        model: Any = self.model
        if self.has_regression:
            results = detections_of(model, images, metas)
        else:
            results = model.candidates(images, metas, rescale=True)
        boxes, scores, labels = (torch.cat(column) for column in zip(*results, strict=True))
        counts = torch.tensor([len(own) for own, _, _ in results], device=images.device)
        index = torch.arange(len(results), device=images.device).repeat_interleave(counts)
        has_area = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)  # without one IoUs are not defined
        return Boxes(Detections(boxes, scores, labels, torch.zeros_like(scores)), index).take(has_area)

    @torch.no_grad()
    def maps(self, images: Tensor) -> Sequence[Tensor]:
        """The feature maps that `regress` reads."""
        model: Any = self.model
        return model.extract_feat(images)

    @torch.no_grad()
    def regress(self, boxes: Boxes, *, maps: Sequence[Tensor], metas: Sequence[dict[str, Any]]) -> Boxes:
        """The boxes where the last box head moves them once, for the labels that they have.

        Args:
            boxes: of the images.
            maps: of the images.
            metas: mmdet's, of each image.
        """
        if len(boxes.image_index) == 0:
            return boxes
        head: Any = self.model.roi_head
        extractor, box_head = _last(head.bbox_roi_extractor), _last(head.bbox_head)
        factors = boxes.found.boxes.new_tensor([meta["scale_factor"] for meta in metas])[boxes.image_index]
        rois = as_rois(boxes.image_index, boxes.found.boxes * factors)
        _, offsets = box_head(extractor(maps[: extractor.num_inputs], rois))
        moved = rois[:, 1:].clone()
        for image, meta in enumerate(metas):
            own = boxes.image_index == image
            moved[own] = box_head.regress_by_class(rois[own, 1:], boxes.found.labels[own], offsets[own], meta)
        return boxes._replace(found=boxes.found._replace(boxes=moved / factors))


def _last(part: Any) -> Any:
    """The part of the last stage."""
    return part[-1] if isinstance(part, nn.ModuleList) else part

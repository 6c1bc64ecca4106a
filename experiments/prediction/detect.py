"""A training's detections on an image file, with predicted IoUs and where each box was before its refinement."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.data.names import composed
from experiments.evaluation.batch import Batch
from experiments.models import load_model
from iounet.models.detections import in_order
from suite.errors import SuiteError
from suite.layout import RunFolder


@dataclass(frozen=True)
class Detection:
    """One detected object; boxes are (x1, y1, x2, y2) in pixels of the image file.

    Attributes:
        label: position of the class among the training's.
        score: class score, times the predicted IoU where the config says so (`use_iou_score`).
        iou: predicted IoU; None without an IoU branch.
        before: the box before refinement; None without one.
    """

    box: Sequence[float]
    label: int
    name: str
    score: float
    iou: float | None = None
    before: Sequence[float] | None = None

    def as_coco(self, image_id: int, file_name: str) -> dict[str, object]:
        """A row of COCO's results format, and what that has no place for."""
        row: dict[str, object] = {
            "image_id": image_id,
            "file_name": file_name,
            "category_id": self.label + 1,
            "category": self.name,
            "bbox": xywh(self.box),
            "score": self.score,
        }
        if self.iou is not None:
            row["iou"] = self.iou
        if self.before is not None:
            row["bbox_before"] = xywh(self.before)
        return row


class Predictor:
    """A training's detector, with the settings of its config.

    Args:
        run: its folder; `config.py` and `checkpoint.pth` are read.
        device: None = the GPU if there is one.

    Attributes:
        classes: in the order of labels.

    Raises:
        SuiteError: a file is missing or damaged, or the detector has no two stages, or there is no GPU.
    """

    def __init__(self, run: RunFolder, device: str | None = None) -> None:
        from mmdet.datasets import replace_ImageToTensor
        from mmdet.datasets.pipelines import Compose

        from experiments.data.loading import naming_images

        if device == "cuda" and not torch.cuda.is_available():
            raise SuiteError("--device cuda: torch sees no GPU here")
        cfg = _read_config(run)
        try:
            with warnings.catch_warnings(action="ignore"):  # it warns that it does what it is called for
                self._pipeline = Compose(naming_images(replace_ImageToTensor(cfg.data.test.pipeline)))
        except Exception as error:  # whatever mmdet's steps make of their arguments
            raise SuiteError(f"{run.config}: data.test.pipeline: {type(error).__name__}: {error}") from error
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model: Any = load_model(cfg, run.checkpoint)
        self._model = model.to(device)
        self._device = torch.device(device)
        if not hasattr(self._model, "roi_head") or not hasattr(self._model, "rpn_head"):
            raise SuiteError(f"{run.config}: {cfg.model.type} is no two-stage detector: predict needs an RPN and RoIs")
        self.classes = [composed(name) for name in self._model.CLASSES]

    @property
    def has_iou_branch(self) -> bool:
        """Whether it is an IoU-Net that tests as one."""
        return bool(self._model.roi_head.test_cfg.get("iou"))

    @torch.no_grad()
    def __call__(self, image: Path) -> list[Detection]:
        """Detections on an image file, highest score first.

        Raises:
            SuiteError: it cannot be read.
        """
        from mmcv.parallel import collate, scatter

        data = self._pipeline({"img_info": {"filename": str(image)}, "img_prefix": None})
        batch = collate([data], samples_per_gpu=1)
        data = scatter(batch, [-1 if self._device.type == "cpu" else self._device.index or 0])[0]
        images, metas = data["img"][0], data["img_metas"][0]
        features = self._model.extract_feat(images)
        proposals = self._model.rpn_head.simple_test_rpn(features, metas)
        head = self._model.roi_head
        if not self.has_iou_branch:
            (boxes,), (labels,) = head.simple_test_bboxes(features, metas, proposals, head.test_cfg, rescale=True)
            return self._listed({"box": boxes[:, :4], "score": boxes[:, 4], "label": labels})
        together, iou = Batch(head, features, proposals, metas), head.test_cfg.iou
        (found,) = together.detections(iou)
        columns = {"box": found.boxes, "score": found.scores, "label": found.labels, "iou": found.ious}
        if iou.get("refine"):
            columns["before"] = _before(together, iou)[: len(found.boxes)]
        for key in columns.keys() & {"box", "before"}:
            columns[key] = columns[key] / columns[key].new_tensor(metas[0]["scale_factor"])
        return self._listed(columns)

    def _listed(self, columns: Mapping[str, Any]) -> list[Detection]:
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        return [Detection(**row, name=self.classes[row["label"]]) for row in named]


def baseline_beside(run: RunFolder) -> RunFolder | None:
    """The training without IoU branch that lies beside an IoU-Net's, with the same seed; None without one."""
    own = run.path.resolve()
    there = map(RunFolder, sorted(own.parent.parent.glob(f"*/{own.name}")))
    whole = [other for other in there if other.config.is_file() and other.checkpoint.is_file()]
    return next((other for other in whole if not _has_branch(other)), None) if _has_branch(run) else None


def _has_branch(run: RunFolder) -> bool:
    return "iou" in _read_config(run).model.test_cfg.get("rcnn", {})


def _read_config(run: RunFolder) -> Any:
    from mmcv import Config

    if not run.config.is_file():
        raise SuiteError(
            f"{run.path}: no {run.config.name}. A training that is done gets it from the same command again: "
            "python -m experiments train --suite SUITE --variant VARIANT --seed SEED"
        )
    try:
        return Config.fromfile(str(run.config))
    except Exception as error:  # a config is a program: whatever it raises
        raise SuiteError(f"{run.config} cannot be read: {type(error).__name__}: {error}") from error


def xywh(box: Sequence[float]) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) as (x, y, width, height)."""
    x1, y1, x2, y2 = box
    return x1, y1, x2 - x1, y2 - y1


def _before(together: Batch, iou: Mapping[str, Any]) -> torch.Tensor:
    """`Tensor[M, 4]`: where the refined boxes of a single image were before, in the order of the detections."""
    refine = iou["refine"]
    ascent = together.ascent(iou["nms"]["guide"], refine)
    started = ascent.detections._replace(boxes=ascent.trace[0][0])
    return in_order(started, ascent.image_index, rescore=refine.get("use_iou_score", True))[0].boxes

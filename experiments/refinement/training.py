"""The training of a refiner: as that of a variant, but for the model, what is validated, and the file it ends with.

Network, loss, RoIs, images and schedule are those of an IoU-Net variant; there is no RPN and no R-CNN in it, so the
loss is the IoU head's alone (paper, section 4).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.config import changes_of_head
from experiments.data.datasets import build_split, build_training_set
from experiments.data.weights import load_backbone
from experiments.refinement.settings import inference_arguments, refiner_arguments
from experiments.refinement.weights import renamed
from experiments.training.runner import seed_everything
from experiments.training.start import take_over
from experiments.training.training import Training
from iounet.refiner import IoURefiner
from suite.errors import SuiteError
from suite.images import read_image
from suite.suite import Suite

VALIDATION_SEED = 0  # of the RoIs that are validated: the same ones after every epoch


class TrainableRefiner(IoURefiner):
    """A refiner as mmcv's runner trains it, on batches of mmdet's data sets."""

    CLASSES: tuple[str, ...] = ()
    pretrained_parts = ("backbone.", "fpn.")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for part in (self.fpn, self.iou_head):
            part.fp16_enabled = False  # as mmdet marks what may compute in half precision

    def from_mmdet(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Backbone and FPN of a state dict of mmdet's, under the names that they have here."""
        return renamed(state)

    def train_step(self, data: Mapping[str, Any], optimizer: Any = None) -> dict[str, Any]:
        """Called by mmcv: losses of a batch, and what is logged."""
        from mmdet.core import reduce_mean
        from mmdet.models import BaseDetector

        sizes = [meta["img_shape"] for meta in data["img_metas"]]
        losses = self.loss(data["img"], sizes, data["gt_bboxes"], data["gt_labels"], mean_over_ranks=reduce_mean)
        loss, logged = BaseDetector._parse_losses(None, losses)
        return {"loss": loss, "log_vars": logged, "num_samples": len(sizes)}

    def forward(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """As :meth:`train_step`."""
        return self.train_step(data)


class RefinerTraining(Training):
    """One refiner trained with one seed; the arguments are those of `Training`, and the kind of its IoU head.

    Attributes:
        head: one of `suite.treatments.HEADS`.
    """

    def __init__(self, suite: Suite, variant: str, seed: int, *, head: str, **arguments: Any) -> None:
        self.head = head
        super().__init__(suite, variant, seed, changes=changes_of_head(head), **arguments)
        written = {"inference": json.dumps(inference_arguments(self.cfg))}  # the weights' file has them, too
        self.inputs |= written
        self.identity |= written

    @property
    def place(self) -> dict[str, Any]:
        """Which training of which suite it is."""
        return {**super().place, "head": self.head}

    def start(self) -> tuple[torch.nn.Module, Any]:
        """The refiner with its first weights, and its training set.

        Raises:
            SuiteError: data or weights are missing, damaged or of another model.
        """
        dataset = build_training_set(self.cfg, self.data)
        seed_everything(self.seed, 0)
        where = f"variant '{self.variant}', {self.suite.variant(self.variant).config}"
        arguments = refiner_arguments(self.cfg, dataset.CLASSES, where)
        try:
            model = TrainableRefiner(**arguments)
        except ValueError as error:
            raise SuiteError(f"{where}: {error}") from error
        if self.backbone is not None:
            load_backbone(model.backbone, self.backbone)
        if self.pretraining is not None:
            take_over(model, self.pretraining, "refiner")
        model.CLASSES = tuple(dataset.CLASSES)
        return model, dataset

    def contents(self, model: Any) -> dict[str, Any]:
        """The refiner, and where it comes from."""
        return {**model.contents(), "meta": {**self.place, **self.identity}}

    def write_config(self) -> None:
        """Writes nothing: the refiner's file has its config in it."""

    def make_validation(self) -> Callable[[torch.nn.Module], dict[str, float | None] | None]:
        """What compares predicted with true IoUs on jittered ground truth, after an epoch."""
        validation, at_once = self.suite.validation, self.suite.inference.batch_size
        tune = build_split(self.cfg, self.data, validation.split, validation.images)
        folder = self.data.images(validation.split)
        rows = range(len(tune))

        def evaluate(model: Any) -> dict[str, float | None] | None:
            if not self.is_first:
                return None
            model.eval()
            generator = torch.Generator().manual_seed(VALIDATION_SEED)
            pairs = []
            for start in range(0, len(rows), at_once):
                batch = rows[start : start + at_once]
                images = [as_tensor(read_image(folder / tune.data_infos[row]["filename"])) for row in batch]
                truth = [tune.get_ann_info(row) for row in batch]
                pairs.append(compare(model, images, truth, generator))
            predicted, true = (np.concatenate(column) for column in zip(*pairs, strict=True))
            return agreement(predicted, true)

        return evaluate


@torch.no_grad()
def compare(
    model: IoURefiner, images: Sequence[Tensor], truth: Sequence[Mapping[str, Any]], generator: torch.Generator
) -> tuple[Any, Any]:
    """Predicted and true IoUs of RoIs around ground truth.

    Args:
        model: in evaluation mode.
        images: `Tensor[3, h, w]` each.
        truth: mmdet's `bboxes` and `labels` of each.
        generator: of the RoIs.
    """
    prepared = model.prepare(images)
    device = prepared.images.device
    boxes = [
        torch.as_tensor(one["bboxes"], device=device, dtype=torch.float32).reshape(-1, 4) * factor
        for one, factor in zip(truth, prepared.factors, strict=True)
    ]
    labels = [torch.as_tensor(one["labels"], device=device, dtype=torch.int64) for one in truth]
    rois, ious, classes = model.targets(prepared.sizes, boxes, labels, generator)
    predicted = model.predict_iou(model.features(prepared.images), rois, classes)
    return predicted.cpu().numpy(), ious.cpu().numpy()


def agreement(predicted: Any, true: Any) -> dict[str, float | None]:
    """`iou_error`, the mean absolute one, and `correlation` (Pearson's); None where nothing varies."""
    if len(true) == 0:
        return {"iou_error": None, "correlation": None}
    varies = len(true) > 1 and predicted.std() > 0 and true.std() > 0
    correlation = float(np.corrcoef(predicted, true)[0, 1]) if varies else None
    return {"iou_error": float(np.abs(predicted - true).mean()), "correlation": correlation}


def as_tensor(pixels: Any) -> Tensor:
    """`Tensor[3, h, w]` of an image as `suite.images` reads it."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)

"""torchvision's Faster R-CNN as a detector of mmdet's, which the project's trainings and evaluations take for one."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.core import bbox2result
from mmdet.models import DETECTORS, BaseDetector
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from experiments.refinement.weights import renamed
from iounet.refiner.backbone import ResNet

BINS = 7
RATIOS = (0.5, 1.0, 2.0)  # of anchors
LOSSES = {  # torchvision's name to mmdet's
    "loss_objectness": "loss_rpn_cls",
    "loss_rpn_box_reg": "loss_rpn_bbox",
    "loss_classifier": "loss_cls",
    "loss_box_reg": "loss_bbox",
}
TEST_CFG = {"score_thr": "score_thresh", "max_per_img": "detections_per_img"}  # mmdet's name to torchvision's


@DETECTORS.register_module()
class TorchvisionFasterRCNN(BaseDetector):
    """`torchvision.models.detection.FasterRCNN` with mmdet's methods; network, losses and detections are torchvision's.

    Images come from mmdet's pipelines, normalised and resized. Shapes: N images, G objects of an image, C classes.

    Args:
        backbone: arguments of `iounet.refiner.backbone.ResNet`. `init_cfg` is for a training, which loads its weights.
        channels: of every level of the FPN.
        hidden: width of the box head's two layers.
        num_classes: C.
        test_cfg: `score_thr`, `nms=dict(type="nms", iou_threshold=…)`, `max_per_img`.
        settings: further arguments of torchvision's class, such as `rpn_pre_nms_top_n_train`.
        anchor_scale: side of a level's anchors in strides of the level.
        train_cfg: mmdet hands it to every detector; None.

    Attributes:
        detector: torchvision's model.
        pretrained_parts: what its parameters begin with that a pretraining has, too.

    Raises:
        ValueError: for a `test_cfg`, `train_cfg` or `settings` of other keys, or as of `ResNet`.
    """

    pretrained_parts = ("detector.backbone.",)

    def __init__(
        self,
        backbone: Mapping[str, Any],
        channels: int,
        hidden: int,
        num_classes: int,
        test_cfg: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        anchor_scale: float = 4,
        train_cfg: None = None,
    ) -> None:
        super().__init__()
        if train_cfg is not None:
            raise ValueError(f"train_cfg={train_cfg!r}: torchvision's settings stand in `settings`: remove it")
        if unknown := sorted((settings or {}).keys() - inspect.signature(FasterRCNN).parameters):
            raise ValueError(f"settings.{unknown[0]}: torchvision's FasterRCNN, which ignores it, has no such argument")
        pyramid = _Pyramid(ResNet(**{key: value for key, value in backbone.items() if key != "init_cfg"}), channels)
        strides = pyramid.backbone.strides
        levels = [str(level) for level in range(len(strides))]
        self.detector = FasterRCNN(
            pyramid,
            rpn_anchor_generator=AnchorGenerator(
                tuple((int(anchor_scale * stride),) for stride in strides), (RATIOS,) * len(strides)
            ),
            box_roi_pool=MultiScaleRoIAlign(levels, output_size=BINS, sampling_ratio=2),
            box_head=TwoMLPHead(channels * BINS**2, hidden),
            box_predictor=FastRCNNPredictor(hidden, num_classes + 1),
            **{f"box_{key}": value for key, value in _post_processing(test_cfg).items()},
            **(settings or {}),
        )
        self.detector.transform = _Unchanged(0, 0, [], [], size_divisible=strides[-1])
        self.num_classes = num_classes
        heads = self.detector.roi_heads
        for part in (pyramid, self.detector.rpn.head, heads.box_head, heads.box_predictor):
            part.fp16_enabled = False  # as mmdet marks what may compute in half precision

    @property
    def backbone(self) -> ResNet:
        """The ResNet below the FPN."""
        return self.detector.backbone.backbone

    def init_weights(self) -> None:
        """Draws the ResNet's first weights; torchvision has drawn the others."""
        self.backbone.reset_parameters()

    def from_mmdet(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Backbone and FPN of a state dict of mmdet's, under the names that they have here."""
        return {f"detector.backbone.{key}": value for key, value in renamed(state).items()}

    def extract_feat(self, img: Tensor) -> list[Tensor]:
        """``Tensor[N, 3, H, W]`` to the maps of the FPN, finest first."""
        return list(self.detector.backbone(img).values())

    def forward_train(
        self,
        img: Tensor,
        img_metas: Sequence[Mapping[str, Any]],
        gt_bboxes: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """The losses, in training mode.

        Args:
            img: ``Tensor[N, 3, H, W]``, padded to one size.
            img_metas: mmdet's, per image; `img_shape` is its height and width without padding.
            gt_bboxes: ``Tensor[G, 4]`` per image.
            gt_labels: ``LongTensor[G]`` per image, from 0 to C - 1; torchvision's 0 is the background.
        """
        targets = [{"boxes": boxes, "labels": labels + 1} for boxes, labels in zip(gt_bboxes, gt_labels, strict=True)]
        losses = self.detector(_unpadded(img, img_metas), targets)
        return {LOSSES[name]: loss for name, loss in losses.items()}

    def simple_test(self, img: Tensor, img_metas: Sequence[Mapping[str, Any]], rescale: bool = False) -> list[Any]:
        """Detections, in evaluation mode: per image and class an array ``[n, 5]`` of boxes and scores.

        Args:
            img: see `forward_train`.
            img_metas: see `forward_train`; `scale_factor` is that of the resizing.
            rescale: boxes in pixels of the original image.
        """
        return [
            bbox2result(torch.cat([boxes, scores[:, None]], dim=1), labels, self.num_classes)
            for boxes, scores, labels in self._found(img, img_metas, rescale)
        ]

    def candidates(
        self, img: Tensor, img_metas: Sequence[Mapping[str, Any]], rescale: bool = False
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The boxes that NMS chooses among, in evaluation mode, highest score first.

        They are torchvision's detections at an NMS threshold that no two boxes exceed.

        Args:
            img: see `forward_train`.
            img_metas: see `simple_test`.
            rescale: see `simple_test`.

        Returns:
            Per image ``Tensor[K, 4]`` boxes, ``Tensor[K]`` scores above `test_cfg.score_thr`, ``LongTensor[K]`` labels.
        """
        with _changed(self.detector.roi_heads, nms_thresh=1.0, detections_per_img=torch.iinfo(torch.int64).max):
            return self._found(img, img_metas, rescale)

    def aug_test(self, imgs: Sequence[Tensor], img_metas: Sequence[Any], **arguments: Any) -> None:
        """Raises `NotImplementedError`: an image is looked at once."""
        raise NotImplementedError("TorchvisionFasterRCNN has no test-time augmentation: give it one view of an image")

    def _found(
        self, img: Tensor, metas: Sequence[Mapping[str, Any]], rescale: bool
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes, scores and labels per image."""
        found = []
        for own, meta in zip(self.detector(_unpadded(img, metas)), metas, strict=True):
            boxes = own["boxes"] / own["boxes"].new_tensor(meta["scale_factor"]) if rescale else own["boxes"]
            found.append((boxes, own["scores"], own["labels"] - 1))
        return found


class _Pyramid(nn.Module):
    """ResNet and FPN, with what torchvision asks of a backbone."""

    def __init__(self, backbone: ResNet, channels: int) -> None:
        super().__init__()
        self.backbone, self.fpn = backbone, FeaturePyramidNetwork(backbone.out_channels, channels)
        self.out_channels = channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """``Tensor[N, 3, H, W]`` to the maps by level, finest first."""
        return self.fpn(OrderedDict((str(level), each) for level, each in enumerate(self.backbone(images))))


class _Unchanged(GeneralizedRCNNTransform):
    """torchvision's batches of images that are normalised and resized already."""

    def normalize(self, image: Tensor) -> Tensor:
        """The image itself."""
        return image

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        """Both themselves."""
        return image, target


def _post_processing(test_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """An mmdet `test_cfg` as torchvision's arguments."""
    nms = test_cfg.get("nms", {})
    if test_cfg.keys() != {*TEST_CFG, "nms"} or nms.keys() != {"type", "iou_threshold"} or nms["type"] != "nms":
        raise ValueError(
            f"test_cfg={dict(test_cfg)!r} must have score_thr, nms=dict(type='nms', iou_threshold=…), max_per_img, and "
            "nothing else"
        )
    return {"nms_thresh": nms["iou_threshold"], **{own: test_cfg[name] for name, own in TEST_CFG.items()}}


@contextmanager
def _changed(module: nn.Module, **values: Any) -> Iterator[None]:
    """A module with other attributes for a while."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def _unpadded(img: Tensor, metas: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """The images of a batch, each without its padding."""
    sizes = [meta["img_shape"][:2] for meta in metas]
    return [image[:, :height, :width] for image, (height, width) in zip(img, sizes, strict=True)]

"""torchvision's RetinaNet as a detector of mmdet's, which the project's trainings and evaluations take for one."""

from __future__ import annotations

import copy
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.core import bbox2result
from mmdet.models import DETECTORS, BaseDetector
from torch import Tensor, cat, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork

from experiments.refinement.weights import renamed
from iounet.refiner.backbone import ResNet

OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))  # the scales of a level's anchors, and their ratios: RetinaNet's
RATIOS = (0.5, 1.0, 2.0)


@DETECTORS.register_module()
class TorchvisionRetinaNet(BaseDetector):
    """`torchvision.models.detection.RetinaNet` with mmdet's methods; network, losses and detections are torchvision's.

    Images come from mmdet's pipelines, normalised and resized. Shapes: N images, G objects of an image, C classes.

    Args:
        backbone: arguments of `iounet.refiner.backbone.ResNet`. `init_cfg` is for a training, which loads its weights.
        channels: of every level of the FPN.
        num_classes: C.
        test_cfg: as of mmdet's RetinaNet: `score_thr`, `nms_pre` (the best boxes of a level that NMS sees),
            `nms=dict(type="nms", iou_threshold=…)`, `max_per_img`.
        anchor_scale: side of a level's smallest anchors in strides of the level.
        train_cfg: mmdet hands it to every detector; None.

    Attributes:
        detector: torchvision's model.
        pretrained_parts: what its parameters begin with that a pretraining has, too.

    Raises:
        ValueError: for a `test_cfg` or `train_cfg` of other keys, or as of `ResNet`.
    """

    pretrained_parts = ("detector.backbone.",)

    def __init__(
        self,
        backbone: Mapping[str, Any],
        channels: int,
        num_classes: int,
        test_cfg: Mapping[str, Any],
        anchor_scale: float = 4,
        train_cfg: None = None,
    ) -> None:
        super().__init__()
        if train_cfg is not None:
            raise ValueError(f"train_cfg={train_cfg!r}: torchvision's RetinaNet has no such settings: remove it")
        pyramid = _Pyramid(ResNet(**{key: value for key, value in backbone.items() if key != "init_cfg"}), channels)
        strides = pyramid.backbone.strides
        sizes = tuple(tuple(int(anchor_scale * stride * scale) for scale in OCTAVE) for stride in strides)
        anchors = AnchorGenerator(sizes, (RATIOS,) * len(sizes))
        self.detector = RetinaNet(pyramid, num_classes, anchor_generator=anchors, **_post_processing(test_cfg))
        self.detector.transform = _Unchanged(0, 0, [], [], size_divisible=strides[-1])
        self.num_classes = num_classes
        for part in (self.detector.backbone, self.detector.head):
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
            gt_labels: ``LongTensor[G]`` per image, from 0 to C - 1: torchvision counts no background either.
        """
        targets = [{"boxes": boxes, "labels": labels} for boxes, labels in zip(gt_bboxes, gt_labels, strict=True)]
        losses = self.detector(_unpadded(img, img_metas), targets)
        return {"loss_cls": losses["classification"], "loss_bbox": losses["bbox_regression"]}

    def simple_test(self, img: Tensor, img_metas: Sequence[Mapping[str, Any]], rescale: bool = False) -> list[Any]:
        """Detections, in evaluation mode: per image and class an array ``[n, 5]`` of boxes and scores.

        Args:
            img: see `forward_train`.
            img_metas: see `forward_train`; `scale_factor` is that of the resizing.
            rescale: boxes in pixels of the original image.
        """
        return [
            bbox2result(cat([boxes, scores[:, None]], dim=1), labels, self.num_classes)
            for boxes, scores, labels in _found(self.detector, img, img_metas, rescale)
        ]

    def candidates(
        self, img: Tensor, img_metas: Sequence[Mapping[str, Any]], score_threshold: float, rescale: bool = False
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The boxes that NMS chooses among, in evaluation mode, highest score first.

        They are torchvision's detections at an NMS threshold that no two boxes exceed.

        Args:
            img: see `forward_train`.
            img_metas: see `simple_test`.
            score_threshold: a box has a score above it; of a level there are at most `test_cfg.nms_pre`.
            rescale: see `simple_test`.

        Returns:
            Per image ``Tensor[K, 4]`` boxes, ``Tensor[K]`` scores and ``LongTensor[K]`` labels.
        """
        without_nms = copy.copy(self.detector)  # shares the weights
        without_nms.score_thresh, without_nms.nms_thresh = score_threshold, 1.0
        without_nms.detections_per_img = sys.maxsize
        return _found(without_nms, img, img_metas, rescale)

    def aug_test(self, imgs: Sequence[Tensor], img_metas: Sequence[Any], **arguments: Any) -> None:
        """Raises `NotImplementedError`: an image is looked at once."""
        raise NotImplementedError("TorchvisionRetinaNet has no test-time augmentation: give it one view of an image")


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
    if (
        test_cfg.keys() != {"score_thr", "nms_pre", "nms", "max_per_img"}
        or nms.keys() != {"type", "iou_threshold"}
        or nms["type"] != "nms"
    ):
        raise ValueError(
            f"test_cfg={dict(test_cfg)!r} must have score_thr, nms_pre, nms=dict(type='nms', iou_threshold=…), "
            "max_per_img, and nothing else"
        )
    return {
        "score_thresh": test_cfg["score_thr"],
        "topk_candidates": test_cfg["nms_pre"],
        "nms_thresh": nms["iou_threshold"],
        "detections_per_img": test_cfg["max_per_img"],
    }


def _unpadded(img: Tensor, metas: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """The images of a batch, each without its padding."""
    sizes = [meta["img_shape"][:2] for meta in metas]
    return [image[:, :height, :width] for image, (height, width) in zip(img, sizes, strict=True)]


def _found(
    detector: RetinaNet, img: Tensor, metas: Sequence[Mapping[str, Any]], rescale: bool
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Boxes, scores and labels per image."""
    found = []
    for own, meta in zip(detector(_unpadded(img, metas)), metas, strict=True):
        boxes = own["boxes"] / own["boxes"].new_tensor(meta["scale_factor"]) if rescale else own["boxes"]
        found.append((boxes, own["scores"], own["labels"]))
    return found

"""The head that predicts a box's IoU with its object (IoU-Net, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.runner import BaseModule, auto_fp16, force_fp32
from mmdet.core import reduce_mean
from mmdet.models import HEADS
from mmdet.models.builder import build_loss
from torch import Tensor

from iounet.core.iou_head import HiddenLayers, IoUPredictor, LabelledIoU, Prediction

__all__ = ["FC_DTYPES", "HiddenLayers", "IoUHead", "LabelledIoU", "Prediction"]

# What the hidden layers may be computed in at inference; None: the precision of the weights.
FC_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LOSSES = "dict(type='SmoothL1Loss') or dict(type='CrossEntropyLoss', use_sigmoid=True)"


@HEADS.register_module()
class IoUHead(IoUPredictor, BaseModule):
    """Pooled features → fully connected layers → one IoU per class: :class:`iounet.core.IoUPredictor` for mmdet.

    With ``SmoothL1Loss`` the raw output is the normalised IoU, (IoU − mean) / std; with the sigmoid
    ``CrossEntropyLoss`` it is the logit of the IoU. :meth:`forward` and :meth:`loss` deal in raw outputs,
    :meth:`predict_iou` in IoUs, in training and evaluation alike.

    Args:
        in_channels: number of pooled values per RoI, channels × height × width.
        fc_channels: widths of the hidden layers.
        num_classes: number of foreground classes.
        target_norm: ``mean`` and ``std`` of the IoU for ``SmoothL1Loss``.
        class_agnostic: predict one IoU for all classes.
        loss_iou: ``dict(type='SmoothL1Loss', …)`` or ``dict(type='CrossEntropyLoss', use_sigmoid=True, …)``.
        init_cfg: as in mmdet; ``None`` is Xavier for the hidden layers, and N(0, 0.01²) for the last one.

    Raises:
        ValueError: for arguments that make no sense; the message names the key.
    """

    def __init__(
        self,
        in_channels: int,
        fc_channels: Sequence[int] = (1024, 1024),
        num_classes: int = 80,
        target_norm: Mapping[str, float] | None = None,
        class_agnostic: bool = False,
        loss_iou: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        loss_iou = {"type": "SmoothL1Loss", "loss_weight": 5.0} if loss_iou is None else dict(loss_iou)
        super().__init__(
            in_channels,
            fc_channels,
            num_classes,
            target_norm=target_norm,
            class_agnostic=class_agnostic,
            is_logit=_predicts_logits(loss_iou),
            loss_iou=build_loss(loss_iou),
        )
        if init_cfg is None:
            init_cfg = [
                {"type": "Xavier", "distribution": "uniform", "override": {"name": "shared_fcs"}},
                {"type": "Normal", "std": 0.01, "override": {"name": "fc_iou"}},
            ]
        self.init_cfg = init_cfg
        self.fp16_enabled = False

    def cast(self, fc_dtype: str) -> HiddenLayers | None:
        """The hidden layers in another precision, for one inference: a copy, which does not follow the weights.

        Args:
            fc_dtype: one of ``FC_DTYPES``.

        Returns:
            ``None`` for ``'float32'``: the head's own do.

        Raises:
            ValueError: for ``'float16'`` on a CPU without arithmetic for it.
        """
        dtype = FC_DTYPES[fc_dtype]
        if dtype is torch.float16 and self.fc_iou.weight.device.type == "cpu" and not _cpu_computes_float16():
            raise ValueError(
                "test_cfg.rcnn.iou.fc_dtype='float16' is not possible here: this CPU has no float16 arithmetic and "
                "would be many times slower than with float32; choose 'bfloat16' or 'float32', or use a GPU"
            )
        return None if dtype is None else HiddenLayers(self.shared_fcs, dtype)

    @force_fp32(apply_to=("raw",))
    def loss(self, raw: Tensor, target_ious: Tensor, labels: Tensor, count: Tensor | None = None) -> dict[str, Tensor]:
        """Loss of raw outputs, averaged over the RoIs of the batch: in distributed training, those of all ranks.

        Args:
            raw: what :meth:`forward` gave for K RoIs.
            target_ious: ``Tensor[K]``, each RoI's IoU with its assigned ground truth.
            labels: ``LongTensor[K]``, the class of that ground truth.
            count: what the sums are divided by; ``None``: the mean of K over the ranks.

        Returns:
            As :meth:`iounet.core.IoUPredictor.loss`. Over ranks, the mean of either is its value for one batch of all
            ranks' RoIs, and so is the gradient's.
        """
        # Ranks differ in their numbers of RoIs; one without any takes part in the mean too.
        count = reduce_mean(raw.new_tensor(float(len(raw)))) if count is None else count
        return super().loss(raw, target_ious, labels, count)

    @auto_fp16()
    def _hidden(self, features: Tensor) -> list[Tensor]:
        return super()._hidden(features)


def _cpu_computes_float16() -> bool:
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", None)
    return supported is not None and supported()


def _predicts_logits(loss_iou: Mapping[str, Any]) -> bool:
    """Whether a loss is on the logit of the IoU (else on the normalised IoU); refuses other losses."""
    kind = loss_iou.get("type")
    if kind == "SmoothL1Loss":
        return False
    if kind == "CrossEntropyLoss" and loss_iou.get("use_sigmoid", False):
        return True
    hint = ""
    if kind == "CrossEntropyLoss":
        hint = ": without use_sigmoid=True it compares classes, not IoUs"
    elif kind == "SimpleGFLLoss" and not loss_iou.get("beta", 0):
        hint = ": with beta=0 it is CrossEntropyLoss with use_sigmoid=True"
    raise ValueError(f"iou_head: loss_iou of type {kind!r} is not supported{hint}. Use {_LOSSES}")

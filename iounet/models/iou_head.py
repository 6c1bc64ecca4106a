"""The head that predicts a box's IoU with its object (IoU-Net, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from mmcv.runner import BaseModule, auto_fp16, force_fp32
from mmdet.core import reduce_mean
from mmdet.models import HEADS
from mmdet.models.builder import build_loss
from torch import Tensor, nn

# What the hidden layers may be computed in at inference; None: the precision of the weights.
FC_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LOSSES = "dict(type='SmoothL1Loss') or dict(type='CrossEntropyLoss', use_sigmoid=True)"


class Prediction(NamedTuple):
    """What an IoU head makes of K RoIs.

    Attributes:
        ious: ``Tensor[K, num_classes]``.
        hidden: ``Tensor[K, width]`` per hidden layer: from these, :meth:`LabelledIoU.gradient` needs no second pass.
        layers: that gave them, where they were not the head's own.
    """

    ious: Tensor
    hidden: list[Tensor]
    layers: HiddenLayers | None = None


@HEADS.register_module()
class IoUHead(BaseModule):
    """Pooled features → fully connected layers → one IoU per class.

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
        if init_cfg is None:
            init_cfg = [
                {"type": "Xavier", "distribution": "uniform", "override": {"name": "shared_fcs"}},
                {"type": "Normal", "std": 0.01, "override": {"name": "fc_iou"}},
            ]
        super().__init__(init_cfg)
        target_norm = {"mean": 0.5, "std": 0.5} if target_norm is None else dict(target_norm)
        if set(target_norm) != {"mean", "std"} or target_norm["std"] <= 0:
            raise ValueError(f"iou_head: target_norm={target_norm} must be dict(mean=…, std=…) with std > 0")
        if not fc_channels:
            raise ValueError("iou_head: fc_channels is empty; name the width of at least one hidden layer")
        loss_iou = {"type": "SmoothL1Loss", "loss_weight": 5.0} if loss_iou is None else dict(loss_iou)
        self._is_logit = _predicts_logits(loss_iou)
        self.mean, self.std = float(target_norm["mean"]), float(target_norm["std"])
        self.num_classes = num_classes
        self.class_agnostic = class_agnostic
        self.fp16_enabled = False
        self.loss_iou = build_loss(loss_iou)

        widths = [in_channels, *fc_channels]
        self.shared_fcs = nn.ModuleList([nn.Linear(*pair) for pair in pairwise(widths)])
        self.fc_iou = nn.Linear(widths[-1], 1 if class_agnostic else num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Raw outputs.

        Args:
            features: ``Tensor[K, C, h, w]`` pooled features.

        Returns:
            ``Tensor[K, num_classes]``, or ``Tensor[K, 1]`` if class-agnostic, in the precision of the weights: the
            refinement compares changes of 0.001, which half precision does not resolve.
        """
        return self._last(self._hidden(features))

    def decode(self, raw: Tensor) -> Tensor:
        """IoUs of raw outputs, of any shape. From ``SmoothL1Loss`` they may lie somewhat outside [0, 1]."""
        return raw.sigmoid() if self._is_logit else raw * self.std + self.mean

    def predict_iou(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predicted IoUs, differentiable in the features.

        Args:
            features: ``Tensor[K, C, h, w]`` pooled features.
            labels: ``LongTensor[K]``: the class to read for each RoI.

        Returns:
            ``Tensor[K]`` with ``labels``, else ``Tensor[K, num_classes]``; class-agnostic, the same for all classes.
        """
        raw = self(features)
        if labels is not None:
            return self.decode(self._read(raw, labels))
        return self.decode(raw).expand(-1, self.num_classes)

    def predict(self, features: Tensor, layers: HiddenLayers | None = None) -> Prediction:
        """:meth:`predict_iou` for every class, with the activations on the way; by layers of :meth:`cast` if given."""
        if layers is None:
            hidden = self._hidden(features)
        else:
            with torch.autocast(features.device.type, enabled=False):
                hidden = layers.forward(features)
        return Prediction(self.decode(self._last(hidden)).expand(-1, self.num_classes), hidden, layers)

    def of_labels(self, labels: Tensor, layers: HiddenLayers | None = None) -> LabelledIoU:
        """:meth:`predict_iou` of these labels, with its gradient in closed form; by layers of :meth:`cast` if given."""
        return LabelledIoU(self, labels, HiddenLayers(self.shared_fcs) if layers is None else layers)

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
    def loss(self, raw: Tensor, target_ious: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss of raw outputs, averaged over the RoIs of the batch: in distributed training, those of all ranks.

        Args:
            raw: what :meth:`forward` gave for K RoIs.
            target_ious: ``Tensor[K]``, each RoI's IoU with its assigned ground truth.
            labels: ``LongTensor[K]``, the class of that ground truth.

        Returns:
            ``loss_iou``, and ``iou_error``: the mean absolute error of the predicted IoU, without gradient. Both are 0
            for K = 0, and ``loss_iou`` still depends on the parameters (distributed training waits for each of them).
            Over ranks, the mean of either is its value for one batch of all ranks' RoIs, and so is the gradient's.
        """
        # Ranks differ in their numbers of RoIs; one without any takes part in the mean too.
        count = reduce_mean(raw.new_tensor(float(len(raw))))
        if len(raw) == 0:
            return {"loss_iou": raw.sum() * 0, "iou_error": raw.new_zeros(())}
        raw = self._read(raw, labels)
        target = target_ious if self._is_logit else (target_ious - self.mean) / self.std
        loss = self.loss_iou(raw, target, avg_factor=count)
        return {"loss_iou": loss, "iou_error": (self.decode(raw.detach()) - target_ious).abs().sum() / count}

    @auto_fp16()
    def _hidden(self, features: Tensor) -> list[Tensor]:
        hidden = [features.flatten(1)]
        for layer in self.shared_fcs:
            hidden.append(layer(hidden[-1]).relu())
        return hidden[1:]

    def _last(self, hidden: Sequence[Tensor]) -> Tensor:
        with torch.autocast(hidden[-1].device.type, enabled=False):
            return self.fc_iou(hidden[-1].to(self.fc_iou.weight.dtype))

    def _read(self, raw: Tensor, labels: Tensor) -> Tensor:
        """``Tensor[K]``: the output of each RoI's class."""
        return raw[:, 0] if self.class_agnostic else raw.gather(1, labels[:, None])[:, 0]


class HiddenLayers:
    """The fully connected layers between the pooled features and the last layer, and the way back through them.

    Nothing made here has an autograd graph, as long as the features have none. To be used outside ``torch.autocast``.

    Args:
        fcs: each is followed by a ReLU. Their weights are used, or cast, as they are now.
        dtype: of weights, activations and gradients; ``None``: that of the weights.

    Attributes:
        dtype: the same.
    """

    @torch.no_grad()
    def __init__(self, fcs: Any, dtype: torch.dtype | None = None) -> None:
        weights = [(layer.weight.detach().to(dtype), layer.bias.detach().to(dtype)) for layer in fcs]
        self.dtype = weights[0][0].dtype
        self._layers = [(weight, weight.t(), bias) for weight, bias in weights]

    def forward(self, features: Tensor) -> list[Tensor]:
        """``Tensor[K, width]`` per layer, its activations for ``Tensor[K, C, h, w]`` pooled features."""
        hidden = [features.flatten(1).to(self.dtype)]
        for _, transposed, bias in self._layers:
            hidden.append(torch.addmm(bias, hidden[-1], transposed).relu_())
        return hidden[1:]

    def backward(self, gradient: Tensor, hidden: Sequence[Tensor]) -> Tensor:
        """From the gradient to the last activations, ``Tensor[K, width]``, to that to the features."""
        gradient = gradient.to(self.dtype)
        for (weight, *_), activation in zip(reversed(self._layers), reversed(hidden), strict=True):
            gradient = torch.ops.aten.threshold_backward(gradient, activation, 0)  # where relu let it pass
            gradient = torch.mm(gradient, weight)
        return gradient


class LabelledIoU:
    """The predicted IoU of one label per RoI, and its gradient with respect to the pooled features.

    As :meth:`IoUHead.predict_iou`, in the precision of the weights, and of the hidden layers within these; only the
    labels' own rows of the last layer are computed.
    Nothing made here has an autograd graph, as long as the features have none. To be used outside ``torch.autocast``.

    Args:
        head: its weights are used as they are now.
        labels: ``LongTensor[K]``.
        layers: the head's hidden layers.

    Attributes:
        layers: the same.
    """

    @torch.no_grad()
    def __init__(self, head: IoUHead, labels: Tensor, layers: HiddenLayers) -> None:
        rows = torch.zeros_like(labels) if head.class_agnostic else labels
        weight: Tensor = head.fc_iou.weight
        bias: Tensor = head.fc_iou.bias
        self._is_logit = head._is_logit
        if not self._is_logit:  # the decoding is one with the last layer
            weight, bias = weight * head.std, bias * head.std + head.mean
        self._weight, self._bias = weight[rows], bias[rows]
        self.layers = layers

    def __call__(self, features: Tensor, rows: Tensor | None = None) -> Tensor:
        """Predicted IoUs.

        Args:
            features: ``Tensor[K', C, h, w]`` pooled features.
            rows: ``LongTensor[K']``: which of the labels they belong to; ``None``: to all of them, in order.

        Returns:
            ``Tensor[K']``.
        """
        return self._forward(features, rows)[0]

    def with_gradient(self, features: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predicted IoUs ``Tensor[K']``, and ``Tensor[K', C, h, w]``: the gradient of each to its own features."""
        ious, hidden = self._forward(features, rows)
        return ious, self.gradient(ious, hidden, rows).view(features.shape)

    def gradient(self, ious: Tensor, hidden: Sequence[Tensor], rows: Tensor | None = None) -> Tensor:
        """The gradient of predicted IoUs to the features that gave them.

        Args:
            ious: ``Tensor[K']``.
            hidden: ``Tensor[K', width]`` per hidden layer: its activations.
            rows: as above.

        Returns:
            ``Tensor[K', C · h · w]``.
        """
        gradient = _of_rows(self._weight, rows)
        if self._is_logit:
            gradient = gradient * (ious * (1 - ious))[:, None]
        return self.layers.backward(gradient, hidden).to(self._weight.dtype)

    def _forward(self, features: Tensor, rows: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        hidden = self.layers.forward(features)
        ious = (hidden[-1] * _of_rows(self._weight, rows)).sum(1) + _of_rows(self._bias, rows)
        return (ious.sigmoid() if self._is_logit else ious), hidden


def _of_rows(tensor: Tensor, rows: Tensor | None) -> Tensor:
    return tensor if rows is None else tensor[rows]


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

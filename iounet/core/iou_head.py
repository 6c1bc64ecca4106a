"""The layers that predict a box's IoU with its object (IoU-Net, section 3.1), and their gradient in closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOSSES = ("smooth_l1", "bce")


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


class IoULoss(nn.Module):
    """The loss of K raw outputs of an :class:`IoUPredictor`.

    Args:
        kind: ``'smooth_l1'`` of normalised IoUs, or ``'bce'``: binary cross-entropy of logits with the IoU itself.
        weight: factor.
        beta: of smooth L1, where it turns from quadratic to linear.

    Raises:
        ValueError: for another ``kind``.
    """

    def __init__(self, kind: str = "smooth_l1", weight: float = 5.0, beta: float = 1.0) -> None:
        super().__init__()
        if kind not in LOSSES:
            raise ValueError(f"loss={kind!r} is unknown: choose one of {', '.join(map(repr, LOSSES))}")
        self.kind, self.weight, self.beta = kind, float(weight), float(beta)

    def forward(self, raw: Tensor, target: Tensor, avg_factor: Tensor) -> Tensor:
        """The sum over ``Tensor[K]``, divided by ``avg_factor``."""
        if self.kind == "bce":
            loss = F.binary_cross_entropy_with_logits(raw, target, reduction="sum")
        else:
            loss = F.smooth_l1_loss(raw, target, reduction="sum", beta=self.beta)
        return self.weight * loss / avg_factor


class IoUPredictor(nn.Module):
    """Pooled features → fully connected layers → one IoU per class.

    The raw output is the normalised IoU, (IoU − mean) / std, or with ``is_logit`` the logit of the IoU. :meth:`forward`
    and :meth:`loss` deal in raw outputs, :meth:`predict_iou` in IoUs, in training and evaluation alike.

    Args:
        in_channels: number of pooled values per RoI, channels × height × width.
        fc_channels: widths of the hidden layers.
        num_classes: number of foreground classes.
        target_norm: ``mean`` and ``std`` of the IoU, for normalised IoUs; ``None``: 0.5 both.
        class_agnostic: predict one IoU for all classes.
        is_logit: see above.
        loss_iou: called as ``loss_iou(raw, target, avg_factor=count)`` with ``Tensor[K]`` both; what it gives is the
            loss. ``None``: :class:`IoULoss`, as ``is_logit`` calls for.

    Raises:
        ValueError: for arguments that make no sense; the message names the key.
    """

    def __init__(
        self,
        in_channels: int,
        fc_channels: Sequence[int] = (1024, 1024),
        num_classes: int = 80,
        *,
        target_norm: Mapping[str, float] | None = None,
        class_agnostic: bool = False,
        is_logit: bool = False,
        loss_iou: Callable[..., Tensor] | None = None,
    ) -> None:
        super().__init__()
        target_norm = {"mean": 0.5, "std": 0.5} if target_norm is None else dict(target_norm)
        if set(target_norm) != {"mean", "std"} or target_norm["std"] <= 0:
            raise ValueError(f"iou_head: target_norm={target_norm} must be dict(mean=…, std=…) with std > 0")
        if not fc_channels:
            raise ValueError("iou_head: fc_channels is empty; name the width of at least one hidden layer")
        self.mean, self.std = float(target_norm["mean"]), float(target_norm["std"])
        self.num_classes = num_classes
        self.class_agnostic = class_agnostic
        self._is_logit = is_logit
        self.loss_iou = IoULoss("bce" if is_logit else "smooth_l1") if loss_iou is None else loss_iou
        widths = [in_channels, *fc_channels]
        self.shared_fcs = nn.ModuleList([nn.Linear(*pair) for pair in pairwise(widths)])
        self.fc_iou = nn.Linear(widths[-1], 1 if class_agnostic else num_classes)

    def reset_parameters(self) -> None:
        """Draws the first weights: Xavier for the hidden layers, and N(0, 0.01²) for the last one."""
        layer: Any
        for layer in self.shared_fcs:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.fc_iou.weight, std=0.01)
        nn.init.zeros_(self.fc_iou.bias)

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

    def loss(self, raw: Tensor, target_ious: Tensor, labels: Tensor, count: Tensor | None = None) -> dict[str, Tensor]:
        """Loss of raw outputs, averaged over the RoIs.

        Args:
            raw: what :meth:`forward` gave for K RoIs.
            target_ious: ``Tensor[K]``, each RoI's IoU with its assigned ground truth.
            labels: ``LongTensor[K]``, the class of that ground truth.
            count: what the sums are divided by, in place of K.

        Returns:
            ``loss_iou``, and ``iou_error``: the mean absolute error of the predicted IoU, without gradient. Both are 0
            for K = 0, and ``loss_iou`` still depends on the parameters (distributed training waits for each of them).
        """
        if len(raw) == 0:
            return {"loss_iou": raw.sum() * 0, "iou_error": raw.new_zeros(())}
        count = raw.new_tensor(float(len(raw))) if count is None else count
        raw = self._read(raw, labels)
        target = target_ious if self._is_logit else (target_ious - self.mean) / self.std
        loss = self.loss_iou(raw, target, avg_factor=count)
        return {"loss_iou": loss, "iou_error": (self.decode(raw.detach()) - target_ious).abs().sum() / count}

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

    As :meth:`IoUPredictor.predict_iou`, in the precision of the weights, and of the hidden layers within these;
    only the labels' own rows of the last layer are computed.
    Nothing made here has an autograd graph, as long as the features have none. To be used outside ``torch.autocast``.

    Args:
        head: its weights are used as they are now.
        labels: ``LongTensor[K]``.
        layers: the head's hidden layers.

    Attributes:
        layers: the same.
    """

    @torch.no_grad()
    def __init__(self, head: IoUPredictor, labels: Tensor, layers: HiddenLayers) -> None:
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

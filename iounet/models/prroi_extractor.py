"""RoI features from a feature pyramid by Precise RoI Pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv import ops as mmcv_ops
from mmcv.runner import force_fp32
from mmdet.models import ROI_EXTRACTORS, SingleRoIExtractor
from torch import Tensor, nn

from iounet.core.pyramid import PyramidPool, level_areas
from iounet.core.refine import NO_GRADIENT
from iounet.ops import PrRoIPool

_OURS = ("PrRoIPool2D", "PrRoIPool")


@ROI_EXTRACTORS.register_module()
class PrRoIExtractor(SingleRoIExtractor):
    """mmdet's ``SingleRoIExtractor`` with Precise RoI Pooling: differentiable in the RoIs, all levels in one call.

    Args:
        roi_layer: ``dict(type='PrRoIPool2D', pooled_height=7, pooled_width=7)`` or
            ``dict(type='PrRoIPool', output_size=7)``; both names are :class:`iounet.ops.PrRoIPool`. Any other type is
            taken from ``mmcv.ops`` with its own arguments, e.g. ``RoIAlign``.
        out_channels: channels of the feature maps.
        featmap_strides: stride of each level.
        finest_scale: RoIs of less than twice this size (√area, in pixels) go to the first level.
        init_cfg: as in mmdet.

    Raises:
        ValueError: for a ``roi_layer`` of unknown type or arguments.
    """

    def __init__(
        self,
        roi_layer: Mapping[str, Any],
        out_channels: int,
        featmap_strides: Sequence[int],
        finest_scale: int = 56,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(roi_layer, out_channels, featmap_strides, finest_scale, init_cfg)
        self._level_areas = level_areas(len(featmap_strides), finest_scale)
        layer: Any = self.roi_layers[0]
        is_ours = isinstance(layer, PrRoIPool)
        self._pool = PyramidPool(featmap_strides, layer.output_size, finest_scale) if is_ours else None
        self._bounds: dict[Any, Tensor] = {}

    def build_roi_layers(self, layer_cfg: Mapping[str, Any], featmap_strides: Sequence[int]) -> nn.ModuleList:
        """One layer per level; see the class for ``layer_cfg``."""
        arguments = dict(layer_cfg)
        layer_type = arguments.pop("type", None)
        if layer_type in _OURS:
            output_size = _output_size(layer_type, arguments)
            return nn.ModuleList([PrRoIPool(output_size, 1 / stride) for stride in featmap_strides])
        if not isinstance(layer_type, str) or not hasattr(mmcv_ops, layer_type):
            raise ValueError(f"roi_layer: type={layer_type!r} is neither one of {_OURS} nor a name in mmcv.ops")
        layer = getattr(mmcv_ops, layer_type)
        return nn.ModuleList([layer(spatial_scale=1 / stride, **arguments) for stride in featmap_strides])

    @property
    def level_areas(self) -> list[float]:
        """The smallest area of a RoI, in square pixels, on each level but the first."""
        return list(self._level_areas)

    def map_roi_levels(self, rois: Tensor, num_levels: int) -> Tensor:
        """As in mmdet, with a box turned inside out on the first level: its √area is NaN, which indexes anything."""
        _, low, high = rois.detach().split([1, 2, 2], dim=1)
        area = torch.prod(high - low, dim=1)
        key = (num_levels, area.device, area.dtype)
        if key not in self._bounds:
            self._bounds[key] = torch.tensor(self._level_areas[: num_levels - 1], dtype=area.dtype, device=area.device)
        return torch.bucketize(area, self._bounds[key], right=True)

    @force_fp32(apply_to=("feats",), out_fp16=True)
    def forward(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """Pool every RoI from the level that fits its size.

        Args:
            feats: ``Tensor[N, C, H, W]`` per level.
            rois: ``Tensor[K, 5]`` of (image index, x1, y1, x2, y2), in pixels of the network's input.
            roi_scale_factor: scale the RoIs about their centres before pooling.

        Returns:
            ``Tensor[K, C, ph, pw]``.
        """
        if self._pool is None:
            if rois.device.type == "cpu":
                # mmcv's CPU kernels read channels_last memory as if it were contiguous.
                feats = [feat.contiguous() for feat in feats]
            return super().forward(feats, rois, roi_scale_factor)
        if roi_scale_factor is None:
            return self._pool(feats, rois)
        levels = self.map_roi_levels(rois, len(feats))  # the scaling does not change them
        return self._pool(feats, self.roi_rescale(rois, roi_scale_factor), levels)

    def coordinate_gradient(self, feats: Sequence[Tensor], rois: Tensor, grad_output: Tensor) -> Tensor:
        """The gradient of ``(forward(feats, rois) × grad_output).sum()`` to the RoIs, without a forward pass.

        Args:
            feats: ``Tensor[N, C, H, W]`` per level.
            rois: ``Tensor[K, 5]``.
            grad_output: of the shape of the output, or with its last three dimensions flattened.

        Returns:
            ``Tensor[K, 5]``; 0 for the image index.

        Raises:
            ValueError: if the RoI layer does not pass a gradient on to the RoIs.
        """
        if self._pool is None:
            raise ValueError(NO_GRADIENT)
        return self._pool.coordinate_gradient(feats, rois, grad_output)


def _output_size(layer_type: str, arguments: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) from ``output_size`` or from ``pooled_height`` and ``pooled_width``."""
    if set(arguments) == {"pooled_height", "pooled_width"}:
        size = (arguments["pooled_height"], arguments["pooled_width"])
    elif set(arguments) == {"output_size"}:
        given = arguments["output_size"]
        size = (given, given) if isinstance(given, int) else tuple(given)
    else:
        raise ValueError(
            f"roi_layer: {layer_type} takes either output_size, or pooled_height and pooled_width; "
            f"got {sorted(arguments)}"
        )
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"roi_layer: the output size of {layer_type} must be one or two positive integers, got {size}")
    return size

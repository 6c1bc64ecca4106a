"""RoI features by RoIAlign at the points of Precise RoI Pooling's coordinates, with a gradient to the RoIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.runner import force_fp32
from mmdet.models import ROI_EXTRACTORS
from torch import Tensor, nn

from experiments.pooling.sampled import kernel_pool, sampled_pool
from iounet.models import PrRoIExtractor


@ROI_EXTRACTORS.register_module()
class SampledRoIExtractor(PrRoIExtractor):
    """`PrRoIExtractor` whose every bin is the mean of bilinear samples: what takes its place in a trained detector.

    The values are torchvision's; the gradient to the RoIs, which boxes are refined by, is that of the same samples.

    Args:
        roi_layer: as for `PrRoIExtractor`, and `sampling_ratio`: samples of a bin along an axis, 0 = adaptive.
        arguments: see `PrRoIExtractor`.

    Raises:
        ValueError: for a `roi_layer` of other arguments.
    """

    def __init__(self, roi_layer: Mapping[str, Any], **arguments: Any) -> None:
        layer = dict(roi_layer)
        samples = layer.pop("sampling_ratio", None)
        if not isinstance(samples, int) or isinstance(samples, bool) or samples < 0:
            raise ValueError(f"roi_layer: sampling_ratio={samples!r} must be a whole number, 0 (adaptive) or more")
        super().__init__(layer, **arguments)
        self.samples = samples
        self._scales = [1 / stride for stride in self.featmap_strides]

    def build_roi_layers(self, layer_cfg: Mapping[str, Any], featmap_strides: Sequence[int]) -> nn.ModuleList:
        """Those of `PrRoIExtractor`, which say the output's size and are never called."""
        if layer_cfg.get("type") not in ("PrRoIPool", "PrRoIPool2D"):
            raise ValueError(
                f"roi_layer: type={layer_cfg.get('type')!r} must be 'PrRoIPool', with its arguments and sampling_ratio"
            )
        return super().build_roi_layers(layer_cfg, featmap_strides)

    @property
    def size(self) -> tuple[int, int]:
        """(ph, pw)."""
        size: Any = self.roi_layers[0].output_size
        return (size, size) if isinstance(size, int) else tuple(size)

    @force_fp32(apply_to=("feats",), out_fp16=True)
    def forward(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """See `PrRoIExtractor.forward`."""
        levels = self.map_roi_levels(rois, len(feats))
        if roi_scale_factor is not None:  # it does not change the level
            rois = self.roi_rescale(rois, roi_scale_factor)
        return kernel_pool(feats, rois, levels, self.size, self._scales[: len(feats)], self.samples)

    def coordinate_gradient(self, feats: Sequence[Tensor], rois: Tensor, grad_output: Tensor) -> Tensor:
        """See `PrRoIExtractor.coordinate_gradient`."""
        leaf, levels = rois.detach().requires_grad_(), self.map_roi_levels(rois, len(feats))
        with torch.enable_grad():
            feats = [feat.detach() for feat in feats]
            pooled = sampled_pool(feats, leaf, levels, self.size, self._scales[: len(feats)], self.samples)
        (gradient,) = torch.autograd.grad(pooled, leaf, grad_output.view(pooled.shape))
        return gradient

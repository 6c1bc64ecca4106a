"""The operators ``torch.ops.iounet``: schemas, shapes without values, derivatives, and the kernels of the CPU.

The CUDA library registers its own kernels under these schemas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from iounet.ops._cpu import Kernels

_library = torch.library.Library("iounet", "DEF")  # the operators are gone when this object is
_COMMON = "Tensor[] inputs, Tensor rois, Tensor? levels, "
_SCALES = "float[] spatial_scales, float[]? level_areas=None"
# The gradient operators return one gradient per input, in its layout, and the gradient to rois (0 for the batch index).
_SCHEMAS = (
    f"prroi_pool({_COMMON}int pooled_height, int pooled_width, {_SCALES}) -> Tensor",
    f"prroi_pool_feature_gradient(Tensor grad_output, {_COMMON}{_SCALES}) -> Tensor[]",
    f"prroi_pool_coordinate_gradient(Tensor grad_output, {_COMMON}{_SCALES}) -> Tensor",
    "ascent_step_(Tensor(a!) boxes, Tensor(b!) stopped, Tensor gradient, Tensor ious, Tensor? previous, "
    "float step_size, float omega_1, float omega_2) -> ()",
)


def define() -> None:
    """Make the operators known to torch; once in a process."""
    for schema in _SCHEMAS:
        _library.define(schema, tags=torch.Tag.pt2_compliant_tag)
    torch.library.register_fake("iounet::prroi_pool", _fake_forward, lib=_library)
    torch.library.register_fake("iounet::prroi_pool_feature_gradient", _fake_feature_gradient, lib=_library)
    torch.library.register_fake("iounet::prroi_pool_coordinate_gradient", _fake_coordinate_gradient, lib=_library)
    torch.library.register_fake("iounet::ascent_step_", _fake_ascent_step, lib=_library)
    _library.impl("prroi_pool", _forward, "Autograd")
    _library.impl("prroi_pool_feature_gradient", _feature_gradient, "Autograd")
    _library.impl("prroi_pool_coordinate_gradient", _coordinate_gradient, "Autograd")


def serve_cpu(kernels: Kernels) -> None:
    """Let a library's kernels compute the operators of CPU tensors; once in a process."""
    _library.impl("prroi_pool", kernels.forward, "CPU")
    _library.impl("prroi_pool_feature_gradient", kernels.feature_gradient, "CPU")
    _library.impl("prroi_pool_coordinate_gradient", kernels.coordinate_gradient, "CPU")
    _library.impl("ascent_step_", kernels.ascent_step, "CPU")


class _Forward(torch.autograd.Function):
    """The maps come last, one argument each: autograd sees no tensor inside a list."""

    @staticmethod
    def forward(ctx: Any, rois: Tensor, levels: Tensor | None, bins: Any, numbers: Any, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(rois, levels, *inputs)
        ctx.numbers = numbers
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.iounet.prroi_pool.default(inputs, rois, levels, *bins, *numbers)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        rois, levels, *inputs = ctx.saved_tensors
        arguments = (grad_output, inputs, rois, levels, *ctx.numbers)
        gradients = [None] * len(inputs)
        if any(ctx.needs_input_grad[4:]):
            gradients = torch.ops.iounet.prroi_pool_feature_gradient.default(*arguments)
        of_rois = None
        if ctx.needs_input_grad[0]:
            of_rois = torch.ops.iounet.prroi_pool_coordinate_gradient.default(*arguments)
        return of_rois, None, None, None, *gradients


class _Gradient(torch.autograd.Function):
    """A gradient operator, of which there is no derivative."""

    @staticmethod
    def forward(ctx: Any, operator: Any, rest: Any, *tensors: Tensor) -> Any:
        grad_output, rois, *inputs = tensors
        with torch._C._AutoDispatchBelowAutograd():
            gradient = operator(grad_output, inputs, rois, *rest)
        return gradient if isinstance(gradient, Tensor) else tuple(gradient)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        raise NotImplementedError("prroi_pool: second derivatives are not implemented")


def _forward(
    inputs: list[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    pooled_height: int,
    pooled_width: int,
    *numbers: Sequence[float] | None,
) -> Tensor:
    if torch.is_grad_enabled() and (rois.requires_grad or any(x.requires_grad for x in inputs)):
        return _Forward.apply(rois, levels, (pooled_height, pooled_width), numbers, *inputs)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.iounet.prroi_pool.default(inputs, rois, levels, pooled_height, pooled_width, *numbers)


def _gradient(operator: Any, grad_output: Tensor, inputs: list[Tensor], rois: Tensor, *rest: Any) -> Any:
    tensors = (grad_output, rois, *inputs)
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return _Gradient.apply(operator, rest, *tensors)
    with torch._C._AutoDispatchBelowAutograd():
        return operator(grad_output, inputs, rois, *rest)


def _feature_gradient(*arguments: Any) -> list[Tensor]:
    return list(_gradient(torch.ops.iounet.prroi_pool_feature_gradient.default, *arguments))


def _coordinate_gradient(*arguments: Any) -> Tensor:
    return _gradient(torch.ops.iounet.prroi_pool_coordinate_gradient.default, *arguments)


def _fake_forward(
    inputs: list[Tensor], rois: Tensor, levels: Tensor | None, pooled_height: int, pooled_width: int, *_: Any
) -> Tensor:
    return inputs[0].new_empty(rois.shape[0], inputs[0].shape[1], pooled_height, pooled_width)


def _fake_feature_gradient(grad_output: Tensor, inputs: list[Tensor], *_: Any) -> list[Tensor]:
    def layout(x: Tensor) -> torch.memory_format:
        return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format

    return [torch.empty_like(x, memory_format=layout(x)) for x in inputs]


def _fake_coordinate_gradient(grad_output: Tensor, inputs: list[Tensor], rois: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(rois, memory_format=torch.contiguous_format)


def _fake_ascent_step(*_: Any) -> None:
    """Writes to its arguments only."""

"""The operators ``torch.ops.iounet``: schemas, shapes without values, derivatives, and the kernels of the CPU.

The CUDA library registers its own kernels under these schemas. The public functions come in by `pool` and
`coordinate_gradient`, which pass by torch's dispatcher where it would do nothing but find the CPU's kernel: for a
tracker's few RoIs it takes as long as the pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from iounet.ops._arguments import ascent_arguments, check_count, check_grad_output, pool_arguments
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


_PLAIN_TYPES = (Tensor, torch.nn.Parameter)
_kernels: Any = None  # `Kernels` of the CPU, once there are


def define() -> None:
    """Make the operators known to torch; once in a process."""
    for schema in _SCHEMAS:
        _library.define(schema, tags=torch.Tag.pt2_compliant_tag)
    torch.library.register_fake("iounet::prroi_pool", _fake_forward, lib=_library)
    torch.library.register_fake("iounet::prroi_pool_feature_gradient", _fake_feature_gradient, lib=_library)
    torch.library.register_fake("iounet::prroi_pool_coordinate_gradient", _fake_coordinate_gradient, lib=_library)
    torch.library.register_fake("iounet::ascent_step_", _fake_ascent_step, lib=_library)
    _library.impl("prroi_pool", _autograd_pool, "Autograd")
    _library.impl("prroi_pool_feature_gradient", _autograd_feature_gradient, "Autograd")
    _library.impl("prroi_pool_coordinate_gradient", _autograd_coordinate_gradient, "Autograd")


def serve_cpu(kernels: Kernels) -> None:
    """Let a library's kernels compute the operators of CPU tensors; once in a process."""
    global _kernels
    _kernels = kernels
    _library.impl("prroi_pool", _cpu_pool, "CPU")
    _library.impl("prroi_pool_feature_gradient", _cpu_gradient(kernels.feature_gradient), "CPU")
    _library.impl("prroi_pool_coordinate_gradient", _cpu_gradient(kernels.coordinate_gradient), "CPU")
    _library.impl("ascent_step_", _cpu_ascent_step, "CPU")


def pool(inputs: list[Tensor], rois: Tensor, levels: Tensor | None, *numbers: Any) -> Tensor:
    """``iounet::prroi_pool`` of checked arguments."""
    if _is_plain(rois, levels, *inputs):
        return _differentiable_pool(_kernels.forward, inputs, rois, levels, *numbers)
    return torch.ops.iounet.prroi_pool(inputs, rois, levels, *numbers)


def coordinate_gradient(
    grad_output: Tensor, inputs: list[Tensor], rois: Tensor, levels: Tensor | None, *numbers: Any
) -> Tensor:
    """``iounet::prroi_pool_coordinate_gradient`` of checked arguments."""
    if _is_plain(grad_output, rois, levels, *inputs):
        return _gradient(_kernels.coordinate_gradient, grad_output, inputs, rois, levels, *numbers)
    return torch.ops.iounet.prroi_pool_coordinate_gradient(grad_output, inputs, rois, levels, *numbers)


def _is_plain(*tensors: Tensor | None) -> bool:
    """Whether all are CPU tensors of an eager call, with nothing on that torch's dispatcher would have to serve."""
    if torch.compiler.is_compiling() or _kernels is None or not _PLAIN_KEYS:
        return False
    c = torch._C
    if c._len_torch_dispatch_stack() or c._len_torch_function_stack() or c._get_tracing_state() is not None:
        return False
    if c._are_functorch_transforms_active() or torch.autograd._profiler_enabled():
        return False
    keys = c._dispatch_keys
    return all(x is None or (type(x) in _PLAIN_TYPES and keys(x).raw_repr() in _PLAIN_KEYS) for x in tensors)


def _keys_of_plain_tensors() -> frozenset[int]:
    """What the dispatcher goes by, of a CPU tensor made as usual and in inference mode; none where torch hides it.

    Others have more: a tensor of another device, of a mode or a transform, or with a pending negation.
    """
    try:
        with torch.inference_mode():
            inference = torch.empty(0, device="cpu")
        return frozenset(torch._C._dispatch_keys(x).raw_repr() for x in (torch.empty(0, device="cpu"), inference))
    except AttributeError:  # torch 2.4
        return frozenset()


_PLAIN_KEYS = _keys_of_plain_tensors()


class _Pool(torch.autograd.Function):
    """The maps come last, one argument each: autograd sees no tensor inside a list."""

    @staticmethod
    def forward(ctx: Any, pool: Any, rois: Tensor, levels: Tensor | None, numbers: Any, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(rois, levels, *inputs)
        ctx.numbers = numbers
        return pool(inputs, rois, levels, *numbers)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        rois, levels, *inputs = ctx.saved_tensors
        operators: Any = torch.ops.iounet
        of_features, of_rois = operators.prroi_pool_feature_gradient, operators.prroi_pool_coordinate_gradient
        if not torch.is_grad_enabled() and _is_plain(grad_output, rois, levels, *inputs):
            of_features, of_rois = _kernels.feature_gradient, _kernels.coordinate_gradient
        arguments = (grad_output, inputs, rois, levels, *ctx.numbers[2:])
        gradients = of_features(*arguments) if any(ctx.needs_input_grad[4:]) else [None] * len(inputs)
        return None, of_rois(*arguments) if ctx.needs_input_grad[1] else None, None, None, *gradients


class _Gradient(torch.autograd.Function):
    """A gradient operator, of which there is no derivative."""

    @staticmethod
    def forward(ctx: Any, operator: Any, rest: Any, *tensors: Tensor) -> Any:
        grad_output, rois, *inputs = tensors
        gradient = operator(grad_output, inputs, rois, *rest)
        return gradient if isinstance(gradient, Tensor) else tuple(gradient)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        raise NotImplementedError("prroi_pool: second derivatives are not implemented")


def _differentiable_pool(
    pool: Callable[..., Tensor], inputs: list[Tensor], rois: Tensor, levels: Tensor | None, *numbers: Any
) -> Tensor:
    if torch.is_grad_enabled() and (rois.requires_grad or any(x.requires_grad for x in inputs)):
        return _Pool.apply(pool, rois, levels, numbers, *inputs)
    return pool(inputs, rois, levels, *numbers)


def _gradient(operator: Any, grad_output: Tensor, inputs: list[Tensor], rois: Tensor, *rest: Any) -> Any:
    tensors = (grad_output, rois, *inputs)
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return _Gradient.apply(operator, rest, *tensors)
    return operator(grad_output, inputs, rois, *rest)


def _below_autograd(name: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return getattr(torch.ops.iounet, name).default(*arguments)

    return call


def _autograd_pool(*arguments: Any) -> Tensor:
    return _differentiable_pool(_below_autograd("prroi_pool"), *arguments)


def _autograd_feature_gradient(*arguments: Any) -> list[Tensor]:
    return list(_gradient(_below_autograd("prroi_pool_feature_gradient"), *arguments))


def _autograd_coordinate_gradient(*arguments: Any) -> Tensor:
    return _gradient(_below_autograd("prroi_pool_coordinate_gradient"), *arguments)


def _cpu_pool(
    inputs: list[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    pooled_height: int,
    pooled_width: int,
    spatial_scales: Sequence[float],
    level_areas: Sequence[float] | None = None,
) -> Tensor:
    maps, scales, areas = pool_arguments(inputs, rois, levels, spatial_scales, level_areas)
    if pooled_height <= 0 or pooled_width <= 0:
        raise ValueError("prroi_pool: output_size must be positive")
    check_count(pooled_height, pooled_width)
    return _kernels.forward(maps, rois, levels, pooled_height, pooled_width, scales, areas)


def _cpu_gradient(kernel: Callable[..., Any]) -> Callable[..., Any]:
    def gradient(
        grad_output: Tensor,
        inputs: list[Tensor],
        rois: Tensor,
        levels: Tensor | None,
        spatial_scales: Sequence[float],
        level_areas: Sequence[float] | None = None,
    ) -> Any:
        maps, scales, areas = pool_arguments(inputs, rois, levels, spatial_scales, level_areas)
        check_grad_output(grad_output, maps[0], rois)
        return kernel(grad_output, maps, rois, levels, scales, areas)

    return gradient


def _cpu_ascent_step(*arguments: Any) -> None:
    ascent_arguments(*arguments)
    _kernels.ascent_step(*arguments)


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

"""The arguments of the public functions, checked in one place: all that can be seen without reading a tensor's values.

A wrong type is a TypeError, a wrong value a ValueError. A number may be of any type that counts as one, numpy's too,
but a bool is none; where an integer is asked for, a float is none either.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)
_DTYPES = (torch.float32, torch.float64, *_HALF)
# Of the bins of a RoI, and of the channels and the cells of a map along an axis: see csrc/cuda/prroi_pool_arguments.h.
_MAX_COUNT = 2**29 - 1


def autocast_enabled(device_type: str) -> bool:
    """Whether autocast is on; never for "meta", which torch has none for."""
    return device_type != "meta" and torch.is_autocast_enabled(device_type)


def number(name: str, value: Any) -> float:
    """A real number as a float; may be NaN or infinite."""
    if isinstance(value, bool) or not isinstance(value, (Real, torch.SymInt, torch.SymFloat)):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be a number that a float can hold, got {value!r}") from None


def numbers(name: str, values: Iterable[Any]) -> list[float]:
    """Several of them."""
    if isinstance(values, (str, Tensor)) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence of real numbers, got {values!r}")
    return [value if type(value) is float else number(name, value) for value in values]


def bins_of(output_size: Any) -> tuple[int, int]:
    """(ph, pw) of an ``output_size``, which is one positive integer or two."""
    pair = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(pair) != 2:
        raise _wrong_size(ValueError, output_size)
    height, width = pair
    if type(height) is not int or type(width) is not int:
        if any(isinstance(size, (bool, Tensor)) for size in pair):
            raise _wrong_size(TypeError, output_size)
        try:
            height, width = operator.index(height), operator.index(width)
        except TypeError:
            raise _wrong_size(TypeError, output_size) from None
    if height <= 0 or width <= 0:
        raise _wrong_size(ValueError, output_size)
    check_count(height, width)
    return height, width


def _wrong_size(error: type[Exception], output_size: Any) -> Exception:
    return error(f"prroi_pool: output_size must be one or two positive integers, got {output_size!r}")


def check_count(height: int, width: int) -> None:
    """Refuse more bins of a RoI than the kernels can count.

    Raises:
        ValueError: there are too many.
    """
    if height * width > _MAX_COUNT:
        raise ValueError(f"prroi_pool: output_size must be of at most {_MAX_COUNT} bins, got {height} x {width}")


def scales_of(spatial_scales: Iterable[Any], count: int) -> list[float]:
    """``spatial_scales`` for so many maps."""
    scales = numbers("prroi_pool: spatial_scale", spatial_scales)
    if len(scales) != count:
        raise ValueError(f"prroi_pool: got {len(scales)} spatial_scales for {count} feature maps")
    for scale in scales:
        if not 0 < scale < float("inf"):
            raise ValueError(f"prroi_pool: spatial_scale must be positive and finite, got {scale}")
    return scales


def check_non_finite(non_finite: Any) -> None:
    """Refuse what is no answer to a RoI that is not finite.

    Raises:
        ValueError: it is neither "error" nor "zero".
    """
    if non_finite not in ("error", "zero"):
        raise ValueError(f'prroi_pool: non_finite must be "error" or "zero", got {non_finite!r}')


def pool_arguments(
    inputs: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor | None,
    spatial_scales: Sequence[float],
    level_areas: Sequence[float] | None,
) -> tuple[list[Tensor], list[float], list[float] | None]:
    """Checks all but the output's size; ``inputs``, ``spatial_scales`` and ``level_areas`` as the operators take them.

    Under autocast, maps of half precision are cast to float32.

    Raises:
        TypeError: as :func:`iounet.ops.prroi_pool_multilevel`.
        ValueError: likewise.
    """
    if isinstance(inputs, Tensor) or not isinstance(inputs, Iterable):
        raise TypeError(f"prroi_pool: inputs must be a sequence of tensors, one per level, got a {_kind(inputs)}")
    maps = list(inputs)
    if not maps:
        raise ValueError("prroi_pool: there must be at least one feature map")
    scales = scales_of(spatial_scales, len(maps))
    if not isinstance(rois, Tensor):
        raise TypeError(f"prroi_pool: rois must be a tensor, got a {_kind(rois)}")
    autocast = autocast_enabled(rois.device.type)
    device = rois.device
    for index, feature in enumerate(maps):
        if not isinstance(feature, Tensor):
            raise TypeError(f"prroi_pool: input must be a tensor, got a {_kind(feature)}")
        if autocast and feature.dtype in _HALF:
            maps[index] = feature = feature.float()
        if feature.dim() != 4:
            raise ValueError(f"prroi_pool: input must have 4 dimensions (N, C, H, W), got shape {list(feature.shape)}")
        images, channels, height, width = feature.shape
        if index == 0:
            first, agreed = feature, (images, channels, feature.dtype)
        if images != agreed[0] or channels != agreed[1]:
            raise ValueError(
                f"prroi_pool: all levels must agree in N and C, got {list(first.shape)} and {list(feature.shape)}"
            )
        if channels > _MAX_COUNT or height > _MAX_COUNT or width > _MAX_COUNT:
            raise ValueError(
                f"prroi_pool: C, H and W of input must be at most {_MAX_COUNT}, got shape {list(feature.shape)}"
            )
        dtype = feature.dtype
        if dtype not in _DTYPES:
            raise TypeError(f"prroi_pool: input must be of a floating point dtype, got {dtype}")
        if dtype != agreed[2]:
            raise TypeError(f"prroi_pool: all levels must have one dtype, got {first.dtype} and {dtype}")
        if feature.device != device:
            raise ValueError(f"prroi_pool: input and rois must be on one device, got {feature.device} and {device}")
    if not rois.is_floating_point():
        raise TypeError(f"prroi_pool: rois must be of a floating point dtype, got {rois.dtype}")
    if rois.dtype != first.dtype and not autocast and not (rois.dtype == torch.float32 and first.dtype in _HALF):
        raise TypeError(f"prroi_pool: rois must be {first.dtype} like input (or float32 for half), got {rois.dtype}")
    if rois.dim() != 2 or rois.shape[1] != 5:
        raise ValueError(
            f"prroi_pool: rois must have shape (K, 5): batch index, x1, y1, x2, y2; got {list(rois.shape)}"
        )
    if level_areas is None:
        _check_levels(levels, rois, len(maps))
        return maps, scales, None
    if levels is not None:
        raise ValueError("prroi_pool: levels and level_areas exclude each other")
    areas = numbers("prroi_pool: level_areas", level_areas)
    if len(areas) != len(maps) - 1:
        raise ValueError(
            f"prroi_pool: got {len(areas)} level_areas for {len(maps)} feature maps; there must be one less"
        )
    last = 0.0
    for area in areas:
        if not last <= area:  # true of NaN too
            raise ValueError(f"prroi_pool: level_areas must be ascending and not negative, got {areas}")
        last = area
    return maps, scales, areas


def _check_levels(levels: Tensor | None, rois: Tensor, count: int) -> None:
    if levels is None:
        if count > 1:
            raise ValueError(f"prroi_pool: levels or level_areas must be given for {count} feature maps")
        return
    if not isinstance(levels, Tensor):
        raise TypeError(f"prroi_pool: levels must be a tensor, got a {_kind(levels)}")
    if levels.dtype != torch.int64:
        raise TypeError(f"prroi_pool: levels must be torch.int64, got {levels.dtype}")
    if levels.shape != rois.shape[:1]:
        raise ValueError(
            f"prroi_pool: levels must have shape ({rois.shape[0]},), one per RoI; got {list(levels.shape)}"
        )
    if levels.device != rois.device:
        raise ValueError(f"prroi_pool: levels and rois must be on one device, got {levels.device} and {rois.device}")


def check_grad_output(grad_output: Tensor, input: Tensor, rois: Tensor) -> None:
    """``input`` and ``rois`` have been checked.

    Raises:
        TypeError: if it is no tensor of a floating point dtype.
        ValueError: if it is not of the shape Tensor[K, C, ph, pw], or on another device.
    """
    if not isinstance(grad_output, Tensor):
        raise TypeError(f"prroi_pool: grad_output must be a tensor, got a {_kind(grad_output)}")
    if not grad_output.is_floating_point():
        raise TypeError(f"prroi_pool: grad_output must be of a floating point dtype, got {grad_output.dtype}")
    count, channels = rois.shape[0], input.shape[1]
    shape = grad_output.shape
    if len(shape) != 4 or shape[0] != count or shape[1] != channels or shape[2] == 0 or shape[3] == 0:
        raise ValueError(
            f"prroi_pool: grad_output must have shape ({count}, {channels}, ph, pw) with one bin or more, "
            f"got {list(shape)}"
        )
    check_count(shape[2], shape[3])
    if grad_output.device != rois.device:
        raise ValueError(
            f"prroi_pool: grad_output and rois must be on one device, got {grad_output.device} and {rois.device}"
        )


def ascent_arguments(
    boxes: Tensor,
    stopped: Tensor,
    gradient: Tensor,
    ious: Tensor,
    previous: Tensor | None,
    step_size: float,
    omega_1: float,
    omega_2: float,
) -> tuple[float, float, float]:
    """``step_size``, ``omega_1`` and ``omega_2`` as floats.

    Raises:
        TypeError: as :func:`iounet.ops.ascent_step_`.
        ValueError: likewise.
    """
    tensors = {"boxes": boxes, "stopped": stopped, "gradient": gradient, "ious": ious}
    if previous is not None:
        tensors["previous"] = previous
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"ascent_step_: {name} must be a tensor, got a {_kind(tensor)}")
        if name == "boxes":
            if tensor.dtype not in (torch.float32, torch.float64):
                raise TypeError(f"ascent_step_: boxes must be float32 or float64, got {tensor.dtype}")
            if tensor.dim() != 2 or tensor.shape[1] < 4:
                raise ValueError(f"ascent_step_: boxes must have shape (K, 4 or more), got {list(tensor.shape)}")
            continue
        dtype = torch.bool if name == "stopped" else boxes.dtype
        if tensor.dtype != dtype:
            raise TypeError(f"ascent_step_: {name} must be {dtype} for boxes of {boxes.dtype}, got {tensor.dtype}")
        shape = boxes.shape if name == "gradient" else boxes.shape[:1]
        if tensor.shape != shape:
            raise ValueError(
                f"ascent_step_: {name} must have shape {list(shape)} for boxes of shape {list(boxes.shape)}, "
                f"got {list(tensor.shape)}"
            )
        if tensor.device != boxes.device:
            raise ValueError(f"ascent_step_: {name} must be on {boxes.device} like boxes, got {tensor.device}")
    for name in ("boxes", "stopped"):
        if not tensors[name].is_contiguous():
            raise ValueError(f"ascent_step_: {name} must be contiguous, as it is written to")
    step_size = number("ascent_step_: step_size", step_size)
    if not abs(step_size) < float("inf"):
        raise ValueError(f"ascent_step_: step_size must be finite, got {step_size}")
    omega_1, omega_2 = number("ascent_step_: omega_1", omega_1), number("ascent_step_: omega_2", omega_2)
    for name, omega in (("omega_1", omega_1), ("omega_2", omega_2)):
        if omega != omega:
            raise ValueError(f"ascent_step_: {name} must not be NaN")
    return step_size, omega_1, omega_2


def _kind(value: Any) -> str:
    return type(value).__name__

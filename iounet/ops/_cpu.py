"""The CPU kernels on tensors: a compiled library of plain C functions (``csrc/cpu/interface.cpp``), called by ctypes.

The library needs neither torch's headers nor Python's, so one build serves every version of both. Only the values of
RoIs and levels are checked here; the rest was checked before (``_arguments.py``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_bool, c_double, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iounet.ops._reference import check_values

_LARGE_BYTES = 4 << 20  # of a tensor that is worth asking large pages for
# The runtime's functions that csrc/cpu/threads.h wants.
_THREAD_FUNCTIONS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
_OF_KERNELS = [c_int, c_void_p, c_void_p, c_int64, c_int64, c_int, c_int, c_void_p, c_void_p, c_void_p, c_int, c_int]
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "use_threads_of": (None, [c_void_p] * 3),
    "check_rois": (
        c_int64,
        [c_void_p, c_int64, c_int64, c_void_p, c_int, c_void_p, c_int, POINTER(c_bool)],
    ),
    "ask_for_large_pages": (None, [c_void_p, c_size_t]),
    "transpose": (c_int, [c_int, c_void_p, c_int64, c_int64, c_int64, c_void_p, c_int]),
    "forward": (c_int, [*_OF_KERNELS, c_void_p]),
    "feature_gradient": (c_int, [*_OF_KERNELS, c_void_p, c_int64]),
    "coordinate_gradient": (c_int, [*_OF_KERNELS, c_void_p, c_void_p]),
    "ascent_step": (None, [c_int, *[c_void_p] * 5, c_int64, c_int64, c_double, c_double, c_double]),
}


class Kernels:
    """The operators of a compiled library. Their arguments are those of the schemas in ``_operators.py``.

    Attributes:
        threaded: whether they run on torch's threads; else on one.
    """

    def __init__(self, path: Path) -> None:
        """Load a library.

        Raises:
            OSError: it cannot be loaded, or lacks a function.
        """
        library = ctypes.CDLL(str(path))
        self._call: dict[str, Callable[..., Any]] = {}
        for name, (result, arguments) in _SIGNATURES.items():
            try:
                function = library[f"iounet_{name}"]
            except AttributeError as error:
                raise OSError(f"{path}: {error}") from None
            function.restype, function.argtypes = result, arguments
            self._call[name] = function
        threads = _torch_threads()
        self.threaded = threads is not None
        if threads is not None:
            self._call["use_threads_of"](*threads)

    def forward(
        self,
        inputs: Sequence[Tensor],
        rois: Tensor,
        levels: Tensor | None,
        pooled_height: int,
        pooled_width: int,
        spatial_scales: Sequence[float],
        level_areas: Sequence[float] | None = None,
    ) -> Tensor:
        """``iounet::prroi_pool``."""
        first, size = inputs[0], (rois.shape[0], inputs[0].shape[1], pooled_height, pooled_width)
        places = _Rois(self, inputs, rois, levels, level_areas)
        output = self._empty(size, first, torch.contiguous_format)
        self._run("forward", self._read(inputs, places), places, size, spatial_scales, output.data_ptr())
        return output if output.dtype == first.dtype else output.to(first.dtype)

    def feature_gradient(
        self,
        grad_output: Tensor,
        inputs: Sequence[Tensor],
        rois: Tensor,
        levels: Tensor | None,
        spatial_scales: Sequence[float],
        level_areas: Sequence[float] | None = None,
    ) -> list[Tensor]:
        """``iounet::prroi_pool_feature_gradient``."""
        grad = self._computed(grad_output, inputs[0])
        places = _Rois(self, inputs, rois, levels, level_areas)
        # Added to by the kernel, which reads and writes maps with the channels innermost.
        gradients = [self._empty(x.shape, x, torch.channels_last).zero_() for x in inputs]
        images = inputs[0].shape[0]
        self._run("feature_gradient", gradients, places, grad.shape, spatial_scales, grad.data_ptr(), images)
        return [self._like(gradient, x) for gradient, x in zip(gradients, inputs, strict=True)]

    def coordinate_gradient(
        self,
        grad_output: Tensor,
        inputs: Sequence[Tensor],
        rois: Tensor,
        levels: Tensor | None,
        spatial_scales: Sequence[float],
        level_areas: Sequence[float] | None = None,
    ) -> Tensor:
        """``iounet::prroi_pool_coordinate_gradient``."""
        grad = self._computed(grad_output, inputs[0])
        places = _Rois(self, inputs, rois, levels, level_areas)
        gradient = torch.empty(rois.shape[0], 5, dtype=torch.float64)
        pointers = grad.data_ptr(), gradient.data_ptr()
        self._run("coordinate_gradient", self._read(inputs, places), places, grad.shape, spatial_scales, *pointers)
        return gradient.to(rois.dtype)

    def ascent_step(
        self,
        boxes: Tensor,
        stopped: Tensor,
        gradient: Tensor,
        ious: Tensor,
        previous: Tensor | None,
        step_size: float,
        omega_1: float,
        omega_2: float,
    ) -> None:
        """``iounet::ascent_step_``."""
        gradient, ious = gradient.contiguous(), ious.contiguous()
        previous = None if previous is None else previous.contiguous()
        self._call["ascent_step"](
            boxes.dtype == torch.float64,
            boxes.data_ptr(),
            stopped.data_ptr(),
            gradient.data_ptr(),
            ious.data_ptr(),
            None if previous is None else previous.data_ptr(),
            *boxes.shape,
            step_size,
            omega_1,
            omega_2,
        )

    def _read(self, inputs: Sequence[Tensor], rois: _Rois) -> list[Tensor | None]:
        """The maps as the kernels read them; None where no RoI is."""
        return [self._channels_last(x) if used else None for x, used in zip(inputs, rois.used, strict=True)]

    @staticmethod
    def _computed(grad_output: Tensor, like: Tensor) -> Tensor:
        return grad_output.to(_computed_in(like)).contiguous()

    def check_rois(self, *arguments: Any) -> int:
        """``iounet_check_rois``."""
        return self._call["check_rois"](*arguments)

    def _run(
        self,
        kernel: str,
        maps: Sequence[Tensor | None],
        rois: _Rois,
        size: Sequence[int],
        scales: Sequence[float],
        *rest: int,
    ) -> None:
        count = len(maps)
        pointers = (c_void_p * count)(*[None if x is None else x.data_ptr() for x in maps])
        sizes = (c_int * (2 * count))(*[n for x in maps for n in ((0, 0) if x is None else x.shape[2:])])
        is_double = any(x is not None and x.dtype == torch.float64 for x in maps)
        common = (is_double, rois.rows.data_ptr(), rois.levels_ptr, *size, pointers, sizes, (c_double * count)(*scales))
        if not self._call[kernel](*common, count, torch.get_num_threads(), *rest):
            raise MemoryError("prroi_pool: can't allocate memory for the kernel")

    def _empty(self, size: Sequence[int], like: Tensor, layout: torch.memory_format) -> Tensor:
        """A new tensor, of the type that is computed in; in large pages where that pays."""
        tensor = torch.empty(size, dtype=_computed_in(like), memory_format=layout)
        if tensor.nbytes >= _LARGE_BYTES:
            self._call["ask_for_large_pages"](tensor.data_ptr(), tensor.nbytes)
        return tensor

    def _channels_last(self, x: Tensor) -> Tensor:
        """A map with its channels innermost, of the type that is computed in; itself, if it is so already."""
        x = x.to(_computed_in(x))
        if x.is_contiguous(memory_format=torch.channels_last) or not x.is_contiguous():
            return x.contiguous(memory_format=torch.channels_last)
        images, channels, height, width = x.shape
        return self._transposed(x, torch.channels_last, images, channels, height * width)

    def _like(self, gradient: Tensor, x: Tensor) -> Tensor:
        """A gradient to a map, which has its channels innermost, in the type and layout of the map."""
        if not x.is_contiguous(memory_format=torch.channels_last):
            images, channels, height, width = gradient.shape
            gradient = self._transposed(gradient, torch.contiguous_format, images, height * width, channels)
        return gradient.to(x.dtype)

    def _transposed(self, x: Tensor, layout: torch.memory_format, count: int, height: int, width: int) -> Tensor:
        result = self._empty(x.shape, x, layout)
        is_double = x.dtype == torch.float64
        pointers = x.data_ptr(), result.data_ptr()
        if not self._call["transpose"](
            is_double, pointers[0], count, height, width, pointers[1], torch.get_num_threads()
        ):
            raise MemoryError("prroi_pool: can't allocate memory for the kernel")
        return result


class _Rois:
    """RoIs as the kernels take them, their values checked.

    Attributes:
        rows: contiguous Tensor[K, 5] of float64.
        levels: contiguous LongTensor[K]; None if all are of level 0.
        used: which levels have a RoI.
    """

    def __init__(
        self,
        kernels: Kernels,
        inputs: Sequence[Tensor],
        rois: Tensor,
        levels: Tensor | None,
        areas: Sequence[float] | None,
    ) -> None:
        self.rows = rois.to(torch.float64).contiguous()
        self.levels = None if levels is None else levels.contiguous()
        if areas:
            self.levels = torch.empty(rois.shape[0], dtype=torch.int64)
        self.levels_ptr = None if self.levels is None else self.levels.data_ptr()
        count, images = len(inputs), inputs[0].shape[0]
        used = (c_bool * count)()
        row = kernels.check_rois(
            self.rows.data_ptr(),
            rois.shape[0],
            images,
            self.levels_ptr,
            count,
            (c_double * len(areas))(*areas) if areas else None,
            rois.dtype == torch.float64,
            used,
        )
        if row >= 0:
            check_values(self.rows, images, self.levels, count)  # raises, with the oracle's message
        self.used = list(used)


def _computed_in(x: Tensor) -> torch.dtype:
    """Sums are in float32 for half precision."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _torch_threads() -> list[c_void_p] | None:
    """The functions of the OpenMP runtime that torch has loaded; None if there is none."""
    # The handle of a library finds the functions of those, too, that it was linked to; None is the whole process.
    names = [*(Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"), None]
    for name in names:
        try:
            library = ctypes.CDLL(None if name is None else str(name))
            return [ctypes.cast(library[function], c_void_p) for function in _THREAD_FUNCTIONS]
        except (AttributeError, OSError):
            continue
    return None

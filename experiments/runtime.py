"""How a process computes: threads, memory allocator, determinism; and on what."""

import ctypes
import os
import platform
import warnings
from pathlib import Path
from typing import Any

import torch

from iounet.ops import _extension
from suite.errors import SuiteError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def require_operators(device: str | None = None) -> bool:
    """Refuses a GPU that mmcv-full has no operators for, before anything is computed.

    Args:
        device: "cpu" or "cuda"; None = the GPU if there is one.

    Returns:
        Whether it is the GPU.

    Raises:
        SuiteError: mmcv-full is built without its CUDA operators.
    """
    if device == "cpu" or not torch.cuda.is_available():
        return False
    if _cuda_of_mmcv() is None:
        raise SuiteError(
            "there is a GPU, and mmcv-full is built without its CUDA operators: nothing can train or detect on it. "
            "`make env` builds them. To compute on the CPU all the same, set CUDA_VISIBLE_DEVICES= (to nothing)"
        )
    return True


def slow_pooling() -> str | None:
    """What to warn of on a GPU whose Precise RoI Pooling cannot be compiled; None if it can."""
    if _extension.cuda_compiler_version() is not None:
        return None
    return (
        f"there is no nvcc of CUDA {torch.version.cuda}: Precise RoI Pooling will run in plain torch, many times "
        f"slower ({_extension.NVCC_REMEDY})"
    )


def _cuda_of_mmcv() -> str | None:
    """The CUDA version that mmcv-full's operators are compiled for; None if they are for the CPU alone, or lacking."""
    try:
        from mmcv.ops import get_compiling_cuda_version

        version = get_compiling_cuda_version()
    except ImportError:
        return None
    return None if version == "not available" else version


def prepare_process(threads: int, device: str | None = None, *, needs_mmcv: bool = True) -> None:
    """What every command that computes begins with, before it opens data or weights.

    Checks that the operators for the device are there, and builds the RoI pooling for a GPU, or says that it will be
    slow. Fixes torch's threads, keeps freed memory in the process, and turns off what makes two runs differ.

    glibc hands large freed blocks back to the kernel and fetches them again page by page: on a CPU a training step
    spends a fifth of its time there.

    Args:
        threads: of torch.
        device: "cpu" or "cuda"; None = the GPU if there is one.
        needs_mmcv: whether mmcv-full's operators are used.

    Raises:
        SuiteError: mmcv-full has no operators for the GPU.
    """
    on_gpu = require_operators(device) if needs_mmcv else device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        _extension.available("cuda")
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)
    except (OSError, AttributeError):
        pass  # not glibc
    warnings.filterwarnings("ignore", message=".*__floordiv__.*")
    warnings.filterwarnings("ignore", message=".*torch.meshgrid.*")


def hardware() -> dict[str, Any]:
    """Processor, cores this process may use, threads torch uses, GPU, memory in GiB."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())

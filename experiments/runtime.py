"""How a process computes: threads, memory allocator, determinism; and on what."""

import ctypes
import os
import platform
import warnings
from pathlib import Path
from typing import Any

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def prepare_process(threads: int) -> None:
    """Fixes torch's threads, keeps freed memory in the process, and turns off what makes two runs differ.

    glibc hands large freed blocks back to the kernel and fetches them again page by page: on a CPU a training step
    spends a fifth of its time there.
    """
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

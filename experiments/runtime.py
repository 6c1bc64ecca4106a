"""How a process computes: threads, memory allocator, determinism."""

import ctypes
import warnings

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

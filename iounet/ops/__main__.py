"""Builds the kernels ahead of time and says what there is: ``python -m iounet.ops``."""

from __future__ import annotations

import os

import torch

from iounet.ops import _extension


def _cpu() -> str:
    if not _extension.available("cpu"):
        return "plain-torch fallback"
    prebuilt = _extension.prebuilt()
    if prebuilt is not None:
        origin = f"compiled kernel of the wheel, {prebuilt.name}"
    else:
        origin = f"compiled kernel, {_extension.library_path('cpu').name} ({_extension.compiler_version()})"
    return origin if _extension.threaded() else f"{origin}; on one thread: torch's OpenMP runtime was not found"


def _cuda() -> str:
    if torch.version.cuda is None:
        return "none: this torch is built without CUDA"
    if not torch.cuda.is_available() and os.environ.get("IOUNET_FORCE_CUDA") != "1":
        return "not built: no GPU here (IOUNET_FORCE_CUDA=1 builds it all the same)"
    if _extension.available("cuda"):
        return f"compiled kernel, {_extension.library_path('cuda').name} (nvcc {_extension.cuda_compiler_version()})"
    return "plain-torch fallback"


def main() -> None:
    """Prints one line for each device. A fallback is no failure: it computes the same."""
    print(f"torch  {torch.__version__} (CUDA {torch.version.cuda})")
    print(f"cache  {_extension.cache_dir()}")
    print(f"CPU    {_cpu()}")
    print(f"CUDA   {_cuda()}")


if __name__ == "__main__":
    main()

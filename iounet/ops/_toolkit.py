"""Finds the CUDA toolkit that compiles for torch: for the kernels here, and for mmcv's in `make env`.

Imports nothing but the standard library, and runs as a script, too (environment/setup.sh): there `iounet` cannot be
imported yet.

A machine with no more than a driver needs no toolkit of its own: pip's packages nvidia-cuda-nvcc, nvidia-nvvm,
nvidia-cuda-crt and nvidia-cuda-cccl complete the folder that torch's own CUDA libraries are in, `nvidia/cu13`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SYSTEM = Path("/usr/local/cuda")
# GPUs to compile for where there is none to ask; newer ones take the PTX of the last.
ARCHITECTURES = ("7.5", "8.0", "9.0")


class Toolkit(NamedTuple):
    """A folder with `bin/nvcc` and headers, and nvcc's version, as "13.0"."""

    home: Path
    version: str


def find(cuda: str) -> Toolkit | None:
    """The first toolkit of a CUDA version, such as torch's "13.0": the major one decides, as in torch's own build."""
    for home in _candidates(cuda):
        # The nvcc on the PATH may be a wrapper outside its toolkit: hence the look for a header.
        if (home / "include" / "cuda_runtime_api.h").exists():
            version = _nvcc_version(home)
            if version is not None and _major(version) == _major(cuda):
                return Toolkit(home, version)
    return None


def linked(home: Path, folder: Path) -> Path:
    """A toolkit with the names that a linker looks for: `home`, or if it is pip's, `folder`, filled with links to it.

    pip's has `lib` and `libcudart.so.13`, but no `lib64` and no `libcudart.so`. It may not be ours to write into.
    """
    libraries = sorted((home / "lib").glob("lib*.so.*"))
    if not any(library.name.startswith("libcudart.") for library in libraries):
        return home
    if any((home / name / "libcudart.so").exists() for name in ("lib64", "lib")):
        return home
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "lib64").mkdir(parents=True)
    for part in home.iterdir():
        if part.name != "lib64":
            (folder / part.name).symlink_to(part)
    for library in (home / "lib").iterdir():
        (folder / "lib64" / library.name).symlink_to(library)
    for library in libraries:
        plain = folder / "lib64" / f"{library.name.partition('.so.')[0]}.so"
        if not plain.is_symlink():
            plain.symlink_to(library)
    return folder


def wanted(devices: Path = Path("/dev")) -> bool:
    """Whether `make env` is to build for a GPU: there is one, or IOUNET_FORCE_CUDA=1; never with IOUNET_CPU_ONLY=1."""
    if os.environ.get("IOUNET_CPU_ONLY") == "1":
        return False
    if os.environ.get("IOUNET_FORCE_CUDA") == "1":
        return True
    return any(devices.glob("nvidia[0-9]*")) or (devices / "dxg").exists()  # dxg: Windows' GPU under WSL


def architectures() -> str:
    """What to compile for, as torch reads it: TORCH_CUDA_ARCH_LIST, else the machine's GPUs, else a range."""
    named = os.environ.get("TORCH_CUDA_ARCH_LIST")
    if named:
        return named
    asked = _output_of("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader") or ""
    found = sorted(set(re.findall(r"^\s*(\d+\.\d+)\s*$", asked, re.MULTILINE)), key=float)
    return ";".join(found or ARCHITECTURES) + "+PTX"


def _candidates(cuda: str) -> Iterator[Path]:
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name])
    nvcc = shutil.which("nvcc")
    if nvcc:
        yield Path(nvcc).resolve().parents[1]
    yield SYSTEM
    nvidia = importlib.util.find_spec("nvidia")  # which has no code, and may lie in several folders
    for folder in (nvidia and nvidia.submodule_search_locations) or ():
        yield Path(folder) / f"cu{_major(cuda)}"


def _nvcc_version(home: Path) -> str | None:
    release = re.search(r"release (\d+\.\d+)", _output_of(str(home / "bin" / "nvcc"), "--version") or "")
    return release and release[1]


def _major(version: str) -> str:
    return version.partition(".")[0]


def _output_of(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def _cuda_of_torch() -> str | None:
    """torch.version.cuda, without the seconds that the import of torch takes."""
    torch = importlib.util.find_spec("torch")
    (folder,) = (torch and torch.submodule_search_locations) or (None,)
    return None if folder is None else runpy.run_path(str(Path(folder) / "version.py"))["cuda"]


def main(arguments: list[str]) -> None:
    """What setup.sh asks: `wanted`; `architectures`; `find` the toolkit; `link FOLDER`: a toolkit to link with."""
    if arguments[0] == "wanted":
        print("cuda" if wanted() else "cpu")
    elif arguments[0] == "architectures":
        print(architectures())
    else:
        cuda = _cuda_of_torch()
        toolkit = None if cuda is None else find(cuda)
        if toolkit is None:
            sys.exit(f"there is no nvcc of CUDA {cuda} here")
        print(linked(toolkit.home, Path(arguments[1])) if arguments[0] == "link" else toolkit.home)


if __name__ == "__main__":
    main(sys.argv[1:])

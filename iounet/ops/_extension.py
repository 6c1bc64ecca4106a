"""Builds and loads the compiled kernels: the one place that knows how.

A wheel brings the CPU's. Elsewhere a library is compiled at first use, once for a machine, into a cache folder:
``IOUNET_CACHE_DIR``, or ``iounet`` under ``XDG_CACHE_HOME`` (``~/.cache``). Its name holds a hash of everything that it
depends on. Beside it lies its checksum: one that does not fit it, as a full disk or a power cut leaves it, is built
again and never loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock  # which torch depends on

from iounet.ops import _operators, _toolkit
from iounet.ops._compiler import FLAGS, NATIVE, SOURCE_DIR, compile_kernels, compiler, compiler_version
from iounet.ops._compiler import prebuilt as prebuilt_for
from iounet.ops._cpu import Kernels

# No two may have one name: torch's build calls their objects by it, without the folder.
_CUDA_SOURCES = (
    "cuda/prroi_pool_binding.cpp",
    "cuda/prroi_pool_kernel.cu",
    "cuda/ascent_binding.cpp",
    "cuda/ascent_kernel.cu",
)
_BUILD_SECONDS = {"cpu": 10, "cuda": 40}
# torch's own flags forbid the conversions between half precision and float that the kernels use.
_NVCC_FLAGS = ["-O3", "-U__CUDA_NO_HALF_CONVERSIONS__", "-U__CUDA_NO_BFLOAT16_CONVERSIONS__"]
# pip takes the version that torch asks for: its CUDA libraries are packages of the same list.
NVCC_REMEDY = "`make env` installs it, elsewhere pip install 'cuda-toolkit[nvcc,nvvm,crt,cccl]'"

_lock = threading.RLock()
_available: dict[str, bool] = {}
_defined = False  # whether torch knows the operators
_kernels: Kernels | None = None  # of the CPU


@torch.compiler.assume_constant_result
def available(device_type: str) -> bool:
    """Whether a compiled kernel serves a type of device ("cpu", "cuda"); builds and loads it at the first call."""
    if device_type not in _available:
        with _lock:
            if device_type not in _available:
                _available[device_type] = _load(device_type)
    return _available[device_type]


def cache_dir() -> Path:
    """The folder that compiled libraries are kept in."""
    if os.environ.get("IOUNET_CACHE_DIR"):
        return Path(os.environ["IOUNET_CACHE_DIR"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iounet"


def prebuilt() -> Path | None:
    """The CPU's library of a wheel; None in an installation from the sources."""
    return prebuilt_for(torch.backends.cpu.get_cpu_capability())


def threaded() -> bool:
    """Whether the CPU's kernels run on torch's threads, and not on one."""
    return _kernels is not None and _kernels.threaded


def cuda_toolkit() -> _toolkit.Toolkit | None:
    """What compiles for the GPU; None if there is no nvcc of torch's CUDA version."""
    return None if torch.version.cuda is None else _toolkit.find(torch.version.cuda)


def cuda_compiler_version() -> str | None:
    """nvcc's version; None if there is no nvcc of torch's CUDA version, or neither a GPU nor IOUNET_FORCE_CUDA=1."""
    if not torch.cuda.is_available() and os.environ.get("IOUNET_FORCE_CUDA") != "1":
        return None
    toolkit = cuda_toolkit()
    return toolkit and toolkit.version


def library_path(device_type: str) -> Path:
    """Where the compiled library for a type of device is, or would be."""
    key = hashlib.sha256()
    for path in sorted(SOURCE_DIR.rglob("*")):
        relative = path.relative_to(SOURCE_DIR)
        if path.is_file() and (relative.parts[0] != "cuda" or device_type == "cuda"):
            key.update(f"{relative}\0".encode() + path.read_bytes())
    parts = [*compiler(), str(compiler_version())]
    if device_type == "cpu":
        parts += [_cpu_features(), *FLAGS, *NATIVE]
    else:
        parts += [
            torch.__version__,
            str(torch.version.cuda),
            str(torch.compiled_with_cxx11_abi()),
            sys.implementation.cache_tag,
            str(cuda_compiler_version()),
            os.environ.get("TORCH_CUDA_ARCH_LIST", ""),
            *_NVCC_FLAGS,
            *_architecture_flags(),
        ]
    key.update("\0".join(parts).encode())
    return cache_dir() / f"prroi_pool_{device_type}-{key.hexdigest()[:16]}.so"


def _cpu_features() -> str:
    """What ``-march=native`` depends on: a cache folder may be shared by machines of different kinds."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"


def _architecture_flags() -> list[str]:
    """The GPUs to compile for: those that TORCH_CUDA_ARCH_LIST names, else those in the machine, else a range."""
    if os.environ.get("TORCH_CUDA_ARCH_LIST"):
        return []  # torch's own build adds the flags
    devices = range(torch.cuda.device_count())
    found = sorted({"{}{}".format(*torch.cuda.get_device_capability(i)) for i in devices}, key=int)
    architectures = found or [name.replace(".", "") for name in _toolkit.ARCHITECTURES]
    flags = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in architectures]
    return [*flags, f"-gencode=arch=compute_{architectures[-1]},code=compute_{architectures[-1]}"]


def _load(device_type: str) -> bool:
    """Returns False, having warned, where the plain-torch fallback must serve."""
    if device_type == "meta":
        return available("cpu")  # which brings the operators, whose shapes are known without a kernel
    if device_type not in _BUILD_SECONDS:
        return False
    try:
        if device_type == "cpu":
            return _load_cpu()
        return _load_cuda()
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        hint = ". IOUNET_CACHE_DIR names another folder for it" if isinstance(error, OSError) else ""
        _warn(f"the {device_type} kernel could not be built or loaded: {error}{hint}")
        return False


def _load_cpu() -> bool:
    global _kernels
    path = prebuilt()
    if path is None:
        if compiler_version() is None:
            _warn("there is no C++ compiler (CXX, or c++)")
            return False
        path = library_path("cpu")
        _build_once("cpu", path)
    _kernels = Kernels(path)
    _define_operators()
    _operators.serve_cpu(_kernels)
    return True


def _load_cuda() -> bool:
    if cuda_compiler_version() is None:
        _warn(f"there is no nvcc of CUDA {torch.version.cuda} for the GPU ({NVCC_REMEDY})")
        return False
    _define_operators()
    path = library_path("cuda")
    if not _build_once("cuda", path):
        torch.ops.load_library(str(path))
    return True


def _define_operators() -> None:
    global _defined
    if not _defined:
        _operators.define()
        _defined = True


def _warn(reason: str) -> None:
    warnings.warn(f"iounet.ops: {reason}. Precise RoI Pooling runs in plain torch, many times slower.", stacklevel=2)


def _checksum_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _checksum(path: Path) -> str:
    """A line as ``sha256sum`` writes it."""
    return f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"


def _is_whole(path: Path) -> bool:
    """Whether a library is what was built: a process that loads one cut short is killed by SIGBUS."""
    try:
        return _checksum_path(path).read_text(encoding="utf-8") == _checksum(path)
    except (OSError, UnicodeDecodeError):
        return False


def _build_once(device_type: str, path: Path) -> bool:
    """Builds in a folder of its own and renames the result, while other processes wait.

    Returns whether this process did so.
    """
    if _is_whole(path):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_suffix(".lock")) as locked:
        if _is_whole(path):
            return False
        if path.exists():
            _say(f"{path} is damaged: it does not fit its checksum, and is built again")
        if locked:
            for leftover in path.parent.glob(f"{path.stem}.build-*"):
                shutil.rmtree(leftover, ignore_errors=True)
        build_dir = tempfile.mkdtemp(prefix=f"{path.stem}.build-", dir=path.parent)
        try:
            _build(device_type, path, Path(build_dir))
        finally:
            shutil.rmtree(build_dir, ignore_errors=True)
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Waits for the lock; False where the file system has none. It is the system's: it goes when its holder is killed.

    Without it each process builds for itself, and the last rename counts.
    """
    lock = FileLock(path)
    try:
        lock.acquire()
    except (NotImplementedError, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _build(device_type: str, path: Path, build_dir: Path) -> None:
    _say(
        f"building the Precise RoI Pooling {device_type.upper()} kernel, once"
        f" (about {_BUILD_SECONDS[device_type]} s), in {path.parent} ..."
    )
    start = time.monotonic()
    library = _compile(device_type, build_dir).rename(build_dir / path.name)
    checksum = _checksum_path(library)
    checksum.write_text(_checksum(library), encoding="utf-8")
    # Written to the disk first: after a power cut, a file that was only renamed may have its name and no content.
    for written, kept in ((library, path), (checksum, _checksum_path(path))):
        with open(written, "rb") as file:
            os.fsync(file.fileno())
        written.replace(kept)
    _say(f"built in {time.monotonic() - start:.0f} s")


def _say(message: str) -> None:
    print(f"iounet: {message}", file=sys.stderr, flush=True)


def _compile(device_type: str, build_dir: Path) -> Path:
    library = build_dir / f"prroi_pool_{device_type}.so"
    if device_type == "cpu":
        compile_kernels(library, NATIVE)
        return library
    from torch.utils import cpp_extension  # slow to import, and only needed here

    toolkit = cuda_toolkit()
    assert toolkit is not None, "_load_cuda has found it"
    cpp_extension.CUDA_HOME = str(_toolkit.linked(toolkit.home, build_dir / "cuda"))
    with _ninja_on_path():
        # Also loads the library.
        cpp_extension.load(
            library.stem,
            [str(SOURCE_DIR / source) for source in _CUDA_SOURCES],
            extra_cflags=["-O3"],
            extra_cuda_cflags=[*_NVCC_FLAGS, *_architecture_flags()],
            build_directory=str(build_dir),
            is_python_module=False,
        )
    return library


@contextlib.contextmanager
def _ninja_on_path() -> Iterator[None]:
    """Finds the ninja that pip put beside the interpreter, also where the environment is not activated."""
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), path])
    try:
        yield
    finally:
        os.environ["PATH"] = path

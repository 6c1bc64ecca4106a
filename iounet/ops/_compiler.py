"""Compiles the CPU kernels, at their first use or into a wheel (``setup.py``). Needs a C++ compiler and nothing else.

Imports nothing but the standard library: a wheel is built where there is no torch.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

SOURCE_DIR = Path(__file__).parent / "csrc"
SOURCES = ("cpu/interface.cpp", "cpu/prroi_pool_kernel.cpp")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-Wno-psabi")
# For the machine at hand: its widest vectors.
NATIVE = ("-march=native",)
# For a wheel, the fastest first: what torch calls a CPU's capability, and the instructions that it stands for.
_X86 = {"AVX512": ("-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma"), "AVX2": ("-mavx2", "-mfma")}
BASELINE = "DEFAULT"
# Where a wheel has its libraries.
PREBUILT_DIR = Path(__file__).resolve().parent / "lib"


def instruction_sets(machine: str) -> dict[str, tuple[str, ...]]:
    """The libraries of a wheel for a machine (``platform.machine()``): a CPU's capability, and the compiler's flags."""
    return {**(_X86 if machine.lower() in ("x86_64", "amd64") else {}), BASELINE: ()}


def prebuilt(capability: str) -> Path | None:
    """A wheel's library for a CPU of this capability; the baseline's for one that it does not know."""
    for name in (capability, BASELINE):
        path = PREBUILT_DIR / library_name(name)
        if path.exists():
            return path
    return None


def library_name(capability: str) -> str:
    """File name of a wheel's library."""
    return f"prroi_pool_cpu-{capability.lower()}.so"


def compiler() -> list[str]:
    """The C++ compiler's command: CXX, or c++."""
    return shlex.split(os.environ.get("CXX") or "c++")


def compiler_version() -> str | None:
    """First line of the C++ compiler's ``--version``; None if there is no compiler."""
    output = output_of([*compiler(), "--version"])
    return output and output.partition("\n")[0]


def output_of(command: list[str]) -> str | None:
    """What a command prints; None if there is no such command or it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def compile_kernels(library: Path, flags: Sequence[str]) -> None:
    """Compile them into a shared library.

    Raises:
        OSError: there is no compiler, or it cannot be run.
        RuntimeError: it failed; with what it said.
    """
    sources = [str(SOURCE_DIR / source) for source in SOURCES]
    done = subprocess.run(
        [*compiler(), *FLAGS, *flags, *sources, "-o", str(library)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(compiler())} failed (exit code {done.returncode}): {done.stderr.strip()}")

"""Compiles the CPU kernels into a wheel if IOUNET_PREBUILD=1 asks for it (`make wheel`). The rest is in pyproject.toml.

Such a wheel runs on any machine of its kind, with any Python and any torch: the libraries are plain C functions, one
for each set of vector instructions, and need neither. Without IOUNET_PREBUILD the wheel is pure Python, and the kernels
are compiled where it is installed, at their first use.
"""

import os
import platform
import runpy
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

PREBUILD = os.environ.get("IOUNET_PREBUILD") == "1"
# Not imported: that would import iounet, and torch.
COMPILER = runpy.run_path(str(Path(__file__).parent / "iounet/ops/_compiler.py"))


class BuildWithKernels(build_py):
    """Adds the libraries to the package's files."""

    def run(self):  # noqa: D102
        super().run()
        if not PREBUILD or self.editable_mode:
            return
        folder = Path(self.build_lib) / COMPILER["PREBUILT_DIR"].relative_to(Path(__file__).parent.resolve())
        folder.mkdir(parents=True, exist_ok=True)
        for capability, flags in COMPILER["instruction_sets"](platform.machine()).items():
            library = folder / COMPILER["library_name"](capability)
            self.announce(f"compiling {library.name}", level=2)
            COMPILER["compile_kernels"](library, [*flags, "-s"])


class WheelOfAMachine(bdist_wheel):
    """For one kind of machine, but any Python: nothing in it is linked to one."""

    def get_tag(self):  # noqa: D102
        python, abi, machine = super().get_tag()
        return ("py3", "none", machine) if PREBUILD else (python, abi, machine)


class WithLibraries(Distribution):
    """Of a machine's kind, if libraries are compiled."""

    def has_ext_modules(self):  # noqa: D102
        return PREBUILD


setup(cmdclass={"build_py": BuildWithKernels, "bdist_wheel": WheelOfAMachine}, distclass=WithLibraries)

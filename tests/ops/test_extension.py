"""Building, caching, loading and falling back, each in processes of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from iounet.ops import _extension

ROOT = Path(__file__).parents[2]
needs_compiler = pytest.mark.skipif(_extension.compiler_version() is None, reason="there is no C++ compiler")

POOL = """
import sys
import torch
sys.modules["mmdet"] = None  # import iounet.ops alone, quickly
from iounet.ops import prroi_pool
output = prroi_pool(torch.ones(1, 3, 8, 8), torch.tensor([[0, 1, 1, 5, 5.0]]), 7)
assert (output == 1).all() and output.shape == (1, 3, 7, 7)
print("kernel" if hasattr(torch.ops.iounet, "prroi_pool") else "fallback")
"""


def start(code, **environment):
    """A Python process at work on ``code``, from a folder that is not the repository."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        start_new_session=True,
    )


def finish(process):
    """Its output, and what it said; it must have succeeded."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output.strip(), errors


@needs_compiler
@pytest.mark.slow
def test_processes_build_once_and_a_killed_one_blocks_nobody(tmp_path):
    environment = {"IOUNET_CACHE_DIR": str(tmp_path / "cache")}
    victim = start(POOL, **environment)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("cache/*.build-*/build.ninja")):
        assert victim.poll() is None, victim.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert list(tmp_path.glob("cache/*.build-*"))
    assert not list(tmp_path.glob("cache/*.so"))

    results = [finish(process) for process in [start(POOL, **environment) for _ in range(3)]]
    assert [output for output, _ in results] == ["kernel"] * 3
    assert sum("building the Precise RoI Pooling CPU kernel, once (about" in errors for _, errors in results) == 1
    assert len(list(tmp_path.glob("cache/*.so"))) == 1
    assert not list(tmp_path.glob("cache/*.build-*"))

    output, errors = finish(start(POOL, **environment))
    assert output == "kernel"
    assert "building" not in errors


@pytest.mark.parametrize("failure", ["no compiler", "broken compiler", "cache not writable"])
def test_falls_back_to_plain_torch_with_one_warning(tmp_path, failure):
    environment = {"IOUNET_CACHE_DIR": str(tmp_path / "cache"), "CXX": "/nonexistent/c++"}
    reason = "there is no C++ compiler"
    if failure == "broken compiler":
        compiler = tmp_path / "c++"
        compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "broken 1.0" && exit 0\nexit 1\n')
        compiler.chmod(0o755)
        environment["CXX"] = str(compiler)
        reason = "the cpu kernel could not be built or loaded"
    elif failure == "cache not writable":
        (tmp_path / "cache").write_text("a file where the folder should be")
        shutil.copy("/bin/true", tmp_path / "c++")
        environment["CXX"] = str(tmp_path / "c++")
        reason = "the cpu kernel could not be built or loaded"
    twice = POOL + "prroi_pool(torch.ones(1, 3, 8, 8), torch.tensor([[0, 1, 1, 5, 5.0]]), 7)\n"
    output, errors = finish(start(twice, **environment))
    assert output == "fallback"
    assert reason in errors
    assert errors.count("runs in plain torch, many times slower") == 1


def test_command_reports_a_fallback_and_succeeds(tmp_path):
    code = "import runpy, sys; sys.modules['mmdet'] = None; runpy.run_module('iounet.ops', run_name='__main__')"
    output, _ = finish(start(code, IOUNET_CACHE_DIR=str(tmp_path), CXX="/nonexistent/c++"))
    lines = dict(line.split(maxsplit=1) for line in output.splitlines())
    assert lines["torch"].startswith(torch.__version__)
    assert lines["cache"] == str(tmp_path)
    assert lines["CPU"] == "plain-torch fallback"
    assert lines["CUDA"]


@needs_compiler
def test_command_reports_the_kernel():
    code = "import runpy, sys; sys.modules['mmdet'] = None; runpy.run_module('iounet.ops', run_name='__main__')"
    output, _ = finish(start(code))
    assert f"CPU    compiled kernel, {_extension.library_path('cpu').name}" in output


def test_cache_folder(monkeypatch):
    monkeypatch.delenv("IOUNET_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert _extension.cache_dir() == Path("/x/iounet")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert _extension.cache_dir() == Path.home() / ".cache" / "iounet"
    monkeypatch.setenv("IOUNET_CACHE_DIR", "/y")
    assert _extension.cache_dir() == Path("/y")


@pytest.mark.parametrize("change", ["source", "torch", "compiler", "flags", "processor"])
def test_library_name_changes_with_what_it_depends_on(monkeypatch, tmp_path, change):
    before = _extension.library_path("cpu")
    assert _extension.library_path("cpu") == before
    if change == "source":
        shutil.copytree(_extension._SOURCE_DIR, tmp_path / "csrc")
        monkeypatch.setattr(_extension, "_SOURCE_DIR", tmp_path / "csrc")
        assert _extension.library_path("cpu") == before
        with open(tmp_path / "csrc/cpu/prroi_pool_kernel.cpp", "a") as source:
            source.write("\n")
    elif change == "torch":
        monkeypatch.setattr(torch, "__version__", "0.0.1")
    elif change == "compiler":
        monkeypatch.setattr(_extension, "compiler_version", lambda: "another")
    elif change == "flags":
        monkeypatch.setattr(_extension, "_CXX_FLAGS", ["-O0"])
    else:
        monkeypatch.setattr(_extension, "_cpu_features", lambda: "another")
    assert _extension.library_path("cpu") != before


def _has_cuda_toolkit():
    home = _extension.cuda_home()
    return torch.version.cuda is not None and home is not None and (home / "bin" / "nvcc").exists()


@needs_compiler
@pytest.mark.skipif(not _has_cuda_toolkit(), reason="there is no nvcc, or torch is built without CUDA")
def test_cuda_kernels_compile_and_register():
    code = POOL + (
        "from iounet.ops import _extension\n"
        "assert _extension.available('cuda')\n"
        "for name in ('', '_feature_gradient', '_coordinate_gradient'):\n"
        "    assert torch._C._dispatch_has_kernel_for_dispatch_key('iounet::prroi_pool' + name, 'CUDA')\n"
        "assert torch._C._dispatch_has_kernel_for_dispatch_key('iounet::ascent_step_', 'CUDA')\n"
    )
    # One architecture is enough here; the library stays in the user's cache for the next time.
    finish(start(code, IOUNET_FORCE_CUDA="1", TORCH_CUDA_ARCH_LIST="9.0"))


def test_kernel_sources_are_package_data():
    # What pyproject.toml's pattern "csrc/**/*" takes along in a wheel is all that the builds name.
    packaged = {path.relative_to(_extension._SOURCE_DIR) for path in _extension._SOURCE_DIR.glob("**/*")}
    for sources in _extension._SOURCES.values():
        assert {Path(source) for source in sources} <= packaged

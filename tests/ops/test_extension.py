"""Building, caching, loading and falling back, each in processes of its own."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import timeit
from pathlib import Path

import pytest
import torch

from iounet.ops import _compiler, _extension
from iounet.ops._compiler import SOURCE_DIR

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


# Takes the library that this user's cache holds for what a build makes: at once, and with no compiler at work.
COPY_INSTEAD_OF_BUILDING = """
import shutil, sys
import torch
sys.modules["mmdet"] = None
from iounet.ops import _extension
def compile(device_type, build_dir):
    return shutil.copy({library!r}, build_dir / "built.so")
_extension._compile = compile
"""


def start(code, *, command=(), **environment):
    """A Python process at work on ``code``, from a folder that is not the repository."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [*command, sys.executable, "-c", code],
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
    while not list(tmp_path.glob("cache/*.build-*")):
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
    assert len(list(tmp_path.glob("cache/*.so"))) == len(list(tmp_path.glob("cache/*.so.sha256"))) == 1
    assert not list(tmp_path.glob("cache/*.build-*"))

    output, errors = finish(start(POOL, **environment))
    assert output == "kernel"
    assert "building" not in errors


@pytest.fixture
def copying():
    """Code of a process in which a build is a copy of the library that is there."""
    if not _extension.available("cpu"):
        pytest.skip("there is no compiled kernel")
    return COPY_INSTEAD_OF_BUILDING.format(library=str(_extension.library_path("cpu"))) + POOL


def fill(cache):
    """A cache that holds the library and its checksum; returns the paths of both."""
    library = _extension.library_path("cpu")
    cache.mkdir()
    return [Path(shutil.copy(path, cache)) for path in (library, library.with_name(library.name + ".sha256"))]


@pytest.mark.parametrize("damage", ["cut short", "emptied", "one byte changed", "no checksum", "half a checksum"])
def test_a_damaged_library_is_built_again_and_never_loaded(tmp_path, copying, damage):
    library, checksum = fill(tmp_path / "cache")
    whole = library.read_bytes()
    if damage == "cut short":
        library.write_bytes(whole[: len(whole) // 2])
    elif damage == "emptied":
        library.write_bytes(b"")
    elif damage == "one byte changed":
        library.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "no checksum":
        checksum.unlink()
    else:
        checksum.write_bytes(checksum.read_bytes()[:20])
    environment = {"IOUNET_CACHE_DIR": str(tmp_path / "cache")}
    output, errors = finish(start(copying, **environment))
    assert output == "kernel"
    assert errors.count(f"iounet: {library} is damaged: it does not fit its checksum, and is built again") == 1
    assert library.read_bytes() == whole
    subprocess.run(["sha256sum", "--check", "--quiet", checksum.name], cwd=checksum.parent, check=True)

    output, errors = finish(start(copying, **environment))
    assert output == "kernel"
    assert "iounet:" not in errors


def test_processes_that_start_at_once_build_once(tmp_path, copying):
    environment = {"IOUNET_CACHE_DIR": str(tmp_path / "cache")}
    results = [finish(process) for process in [start(copying, **environment) for _ in range(3)]]
    assert [output for output, _ in results] == ["kernel"] * 3
    assert sum("building the Precise RoI Pooling CPU kernel, once (about" in errors for _, errors in results) == 1
    (library,) = (tmp_path / "cache").glob("*.so")
    files = {path.name for path in (tmp_path / "cache").iterdir()}
    assert files == {library.name, f"{library.name}.sha256", f"{library.stem}.lock"}


def as_a_user_who_is_held_to_permissions():
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv")
    return ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")


@pytest.mark.parametrize("state", ["whole", "cut short", "empty", "missing"])
def test_a_cache_that_cannot_be_written_serves_what_it_holds(tmp_path, copying, state):
    command = as_a_user_who_is_held_to_permissions()
    cache = tmp_path / "folder" / "cache"
    cache.parent.mkdir()
    if state == "empty":
        cache.mkdir()
    elif state != "missing":
        library, _ = fill(cache)
    if state == "cut short":
        library.write_bytes(library.read_bytes()[:1000])
    folders = [folder for folder in (cache, cache.parent) if folder.exists()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        output, errors = finish(start(copying, command=command, IOUNET_CACHE_DIR=str(cache)))
    finally:
        for folder in reversed(folders):
            folder.chmod(0o755)
    if state == "whole":
        assert (output, "iounet" in errors) == ("kernel", False)
        return
    assert output == "fallback"
    (line,) = [line for line in errors.splitlines() if "iounet.ops:" in line]
    assert "Permission denied" in line and str(cache) in line
    assert "IOUNET_CACHE_DIR names another folder for it. Precise RoI Pooling runs in plain torch" in line


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Builds a file that is no library, in this process; returns where it is kept."""

    def compile(device_type, build_dir):
        (build_dir / "built.so").write_bytes(b"content")
        return build_dir / "built.so"

    monkeypatch.setattr(_extension, "_compile", compile)
    return tmp_path / "cache" / "library.so"


def test_a_dead_process_leaves_nothing_that_blocks(built, capfd):
    leftover = built.with_name("library.build-dead")
    leftover.mkdir(parents=True)
    (leftover / "built.so").write_bytes(b"half a li")
    built.with_suffix(".lock").touch()
    assert _extension._build_once("cpu", built)
    assert _extension._is_whole(built) and not leftover.exists()
    assert "damaged" not in capfd.readouterr().err
    assert not _extension._build_once("cpu", built), "another process has built it"


def test_without_locks_a_build_leaves_those_of_others_alone(built, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "there are no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    other = built.with_name("library.build-other")
    other.mkdir(parents=True)
    assert _extension._build_once("cpu", built)
    assert _extension._is_whole(built) and other.exists()


def test_files_are_on_the_disk_before_they_have_their_names(built, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(os.fstat(number).st_ino), fsync(number)))
    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda path, to: (renamed.append(path.stat().st_ino in synced), replace(path, to))
    )
    renamed = []
    assert _extension._build_once("cpu", built)
    assert renamed == [True, True]


def test_a_full_disk_leaves_no_library(built, monkeypatch):
    def fail(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        _extension._build_once("cpu", built)
    assert [path.name for path in built.parent.iterdir()] == ["library.lock"]


def test_the_check_of_a_library_takes_no_time_to_speak_of():
    if not _extension.available("cpu"):
        pytest.skip("there is no compiled kernel")
    path = _extension.library_path("cpu")
    # Beside the import of torch, which takes seconds.
    assert min(timeit.repeat(lambda: _extension._is_whole(path), number=1, repeat=5)) < 0.05


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
        reason = "File exists"
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
    monkeypatch.setenv("IOUNET_CACHE_DIR", "")
    assert _extension.cache_dir() == Path.home() / ".cache" / "iounet"
    monkeypatch.setenv("IOUNET_CACHE_DIR", "/y")
    assert _extension.cache_dir() == Path("/y")


@pytest.mark.parametrize("change", ["source", "compiler", "flags", "processor"])
def test_library_name_changes_with_what_it_depends_on(monkeypatch, tmp_path, change):
    before = _extension.library_path("cpu")
    assert _extension.library_path("cpu") == before
    if change == "source":
        shutil.copytree(SOURCE_DIR, tmp_path / "csrc")
        monkeypatch.setattr(_extension, "SOURCE_DIR", tmp_path / "csrc")
        assert _extension.library_path("cpu") == before
        with open(tmp_path / "csrc/cpu/prroi_pool_kernel.cpp", "a") as source:
            source.write("\n")
    elif change == "compiler":
        monkeypatch.setattr(_extension, "compiler_version", lambda: "another")
    elif change == "flags":
        monkeypatch.setattr(_extension, "FLAGS", ["-O0"])
    else:
        monkeypatch.setattr(_extension, "_cpu_features", lambda: "another")
    assert _extension.library_path("cpu") != before


@needs_compiler
def test_the_library_of_the_cpu_serves_every_torch(monkeypatch):
    before = {device: _extension.library_path(device) for device in ("cpu", "cuda")}
    monkeypatch.setattr(torch, "__version__", "0.0.1")
    assert _extension.library_path("cpu") == before["cpu"]
    assert _extension.library_path("cuda") != before["cuda"]
    needed = subprocess.run(["readelf", "-d", before["cpu"]], capture_output=True, text=True, check=False).stdout
    assert "libtorch" not in needed and "libpython" not in needed and "libgomp" not in needed


def _has_cuda_toolkit():
    return _extension.cuda_toolkit() is not None


@needs_compiler
@pytest.mark.skipif(not _has_cuda_toolkit(), reason="there is no nvcc of torch's CUDA version")
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
    packaged = {path.relative_to(SOURCE_DIR) for path in SOURCE_DIR.glob("**/*")}
    for sources in (_compiler.SOURCES, _extension._CUDA_SOURCES):
        assert {Path(source) for source in sources} <= packaged

"""Which CUDA toolkit compiles: found in folders made up here; and pip's, if it is there, compiles the kernels."""

import importlib.machinery
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from iounet.ops import _extension, _toolkit

ROOT = Path(__file__).parents[2]


def toolkit(home, release="13.0", *, headers=True):
    """A folder with an nvcc that says its version and compiles nothing."""
    (home / "bin").mkdir(parents=True)
    nvcc = home / "bin/nvcc"
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.88'\n")
    nvcc.chmod(0o755)
    if headers:
        (home / "include").mkdir()
        (home / "include/cuda_runtime_api.h").touch()
    return home


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Where a toolkit is looked for, in that order; all of them without one."""
    found = {
        "CUDA_HOME": tmp_path / "home",
        "CUDA_PATH": tmp_path / "path",
        "nvcc": tmp_path / "tools",
        "system": tmp_path / "system",
        "pip": tmp_path / "site-packages/nvidia/cu13",
    }
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.setenv(name, str(found[name]))
    monkeypatch.setenv("PATH", str(found["nvcc"] / "bin"))
    monkeypatch.setattr(_toolkit, "SYSTEM", found["system"])
    spec = importlib.machinery.ModuleSpec("nvidia", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "elsewhere/nvidia"), str(found["pip"].parent)]
    monkeypatch.setattr(importlib.util, "find_spec", {"nvidia": spec}.get)
    # the stand-ins for nvcc are scripts of the shell
    for name in ("sh", "nvidia-smi"):
        assert shutil.which(name) is None
    return found


def test_none_anywhere(places):
    assert _toolkit.find("13.0") is None


def test_no_package_of_nvidias(places, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert _toolkit.find("13.0") is None


def test_the_order(places):
    """From the last place to the first: each one, once it is there, goes before those behind it."""
    for name in reversed(places):
        assert _toolkit.find("13.0") != (places[name], "13.0")
        toolkit(places[name])
        assert _toolkit.find("13.0") == (places[name], "13.0"), name


@pytest.mark.parametrize("name", ["CUDA_HOME", "CUDA_PATH", "nvcc", "system"])
@pytest.mark.parametrize("unfit", ["another major version", "no headers", "no nvcc", "an nvcc that fails"])
def test_one_that_does_not_fit_shadows_none(places, name, unfit):
    home = toolkit(places[name], "12.8" if "version" in unfit else "13.0", headers=unfit != "no headers")
    if unfit == "no nvcc":
        (home / "bin/nvcc").unlink()
    elif unfit == "an nvcc that fails":
        (home / "bin/nvcc").write_text("#!/bin/sh\nexit 1\n")
    assert _toolkit.find("13.0") is None
    toolkit(places["pip"])
    assert _toolkit.find("13.0") == (places["pip"], "13.0")


def test_another_minor_version_fits(places):
    toolkit(places["system"], "13.2")
    assert _toolkit.find("13.0") == (places["system"], "13.2")


def test_pips_folder_is_that_of_the_major_version(places):
    toolkit(places["pip"])
    assert _toolkit.find("12.8") is None
    old = toolkit(places["pip"].with_name("cu12"), "12.8")
    assert _toolkit.find("12.8") == (old, "12.8")
    assert _toolkit.find("13.0") == (places["pip"], "13.0")


def test_a_linked_nvcc_is_followed_to_its_toolkit(places):
    home = toolkit(places["nvcc"].with_name("cuda-13.0"))
    (places["nvcc"] / "bin").mkdir(parents=True)
    (places["nvcc"] / "bin/nvcc").symlink_to(home / "bin/nvcc")
    assert _toolkit.find("13.0") == (home, "13.0")


def test_the_ops_compile_with_it(places, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("IOUNET_FORCE_CUDA", "1")
    assert _extension.cuda_compiler_version() is None
    toolkit(places["system"], "12.8")
    toolkit(places["pip"], "13.1")
    assert _extension.cuda_compiler_version() == "13.1"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert _extension.cuda_compiler_version() is None


def test_links_make_pips_folder_a_whole_one(tmp_path):
    home = toolkit(tmp_path / "cu13")
    (home / "lib").mkdir()
    for name in ("libcudart.so.13", "libnvrtc.so.13", "libnvrtc-builtins.so.13.0", "libcheckpoint.so", "libx_static.a"):
        (home / "lib" / name).write_text(name)
    before = sorted(home.rglob("*"))
    for _ in range(2):  # the second time over what a killed build left
        folder = _toolkit.linked(home, tmp_path / "links")
        assert folder == tmp_path / "links"
        assert (folder / "lib64/libcudart.so").read_text() == "libcudart.so.13"
        assert (folder / "lib64/libnvrtc.so").read_text() == "libnvrtc.so.13"
        assert (folder / "lib64/libnvrtc-builtins.so").read_text() == "libnvrtc-builtins.so.13.0"
        assert (folder / "lib64/libcheckpoint.so").read_text() == "libcheckpoint.so"
        assert (folder / "lib64/libx_static.a").exists() and (folder / "bin/nvcc").exists()
        assert (folder / "include/cuda_runtime_api.h").exists()
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize("libraries", [("lib64/libcudart.so", "lib/libcudart.so.13"), ("lib/libcudart.so",), ()])
def test_other_toolkits_are_taken_as_they_are(tmp_path, libraries):
    home = toolkit(tmp_path / "cuda")
    for library in libraries:
        (home / library).parent.mkdir()
        (home / library).touch()
    assert _toolkit.linked(home, tmp_path / "links") == home
    assert not (tmp_path / "links").exists()


@pytest.mark.parametrize(
    ("device", "variables", "wanted"),
    [
        (None, {}, False),
        ("nvidiactl", {}, False),
        ("nvidia0", {}, True),
        ("nvidia3", {}, True),  # a container with one GPU of several
        ("dxg", {}, True),
        (None, {"IOUNET_FORCE_CUDA": "1"}, True),
        ("nvidia0", {"IOUNET_CPU_ONLY": "1"}, False),
        ("nvidia0", {"IOUNET_CPU_ONLY": "1", "IOUNET_FORCE_CUDA": "1"}, False),
    ],
)
def test_what_make_env_builds_for(tmp_path, monkeypatch, device, variables, wanted):
    for name in ("IOUNET_FORCE_CUDA", "IOUNET_CPU_ONLY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if device:
        (tmp_path / device).touch()
    assert _toolkit.wanted(tmp_path) == wanted


@pytest.mark.parametrize(
    ("said", "architectures"),
    [
        (None, "7.5;8.0;9.0+PTX"),
        ("8.6\n9.0\n8.6\n", "8.6;9.0+PTX"),
        ("12.0\n9.0\n", "9.0;12.0+PTX"),
        ("[N/A]\n", "7.5;8.0;9.0+PTX"),
    ],
)
def test_the_architectures(tmp_path, monkeypatch, said, architectures):
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    if said is not None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\nprintf '{said}'\n")
        tool.chmod(0o755)
    assert _toolkit.architectures() == architectures
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.9")
    assert _toolkit.architectures() == "8.9"


def test_torchs_cuda_is_known_without_importing_it():
    assert _toolkit._cuda_of_torch() == torch.version.cuda


# Hides what the system has: what is left is pip's.
BUILD = """
import sys
sys.modules["mmdet"] = None
from pathlib import Path
from iounet.ops import _extension, _toolkit
import torch
_toolkit.SYSTEM = Path("/nonexistent")
home = _extension.cuda_toolkit().home
assert home.parent.name == "nvidia", home
assert _extension.available("cuda")
assert torch._C._dispatch_has_kernel_for_dispatch_key("iounet::prroi_pool", "CUDA")
assert torch._C._dispatch_has_kernel_for_dispatch_key("iounet::ascent_step_", "CUDA")
"""


def _of_pip():
    nvidia = importlib.util.find_spec("nvidia")
    folders = (nvidia and nvidia.submodule_search_locations) or ()
    return any((Path(folder) / f"cu{str(torch.version.cuda)[:2]}/bin/nvcc").exists() for folder in folders)


@pytest.mark.slow
@pytest.mark.skipif(not _of_pip(), reason="pip's nvcc is not installed: make env IOUNET_FORCE_CUDA=1 does it")
def test_pips_nvcc_compiles_the_kernels(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "g++", "c++", "cc", "gcc", "as", "ld", "rm", "cat"):  # what there is beside a toolkit
        if tool := shutil.which(name):
            (tools / name).symlink_to(tool)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("CUDA_HOME", "CUDA_PATH")},
        "PATH": str(tools),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "IOUNET_CACHE_DIR": str(tmp_path / "cache"),
        "IOUNET_FORCE_CUDA": "1",
        "TORCH_CUDA_ARCH_LIST": "9.0",
    }
    done = subprocess.run([sys.executable, "-c", BUILD], env=environment, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "cache").glob("prroi_pool_cuda-*.so"))) == 1
    assert not list((tmp_path / "cache").glob("*.build-*"))

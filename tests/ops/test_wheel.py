"""The wheel that `make wheel` builds: installed where there is no compiler, it runs the kernels."""

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from iounet.ops import _compiler, _extension
from iounet.ops._cpu import Kernels
from tests.ops.bench_prroi_pool import SCALE, interleaved, make_inputs, ratios

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.skipif(_extension.compiler_version() is None, reason="there is no C++ compiler"),
    pytest.mark.skipif(platform.system() != "Linux", reason="the wheel is tested on Linux"),
]
POOL = """
import torch
from iounet.ops import _extension, prroi_pool
rois = torch.tensor([[0, 1, 1, 5, 5.0]], requires_grad=True)
features = torch.arange(64.0).reshape(1, 1, 8, 8).requires_grad_()
output = prroi_pool(features, rois, 2)
output.sum().backward()
print(_extension.prebuilt().name, hasattr(torch.ops.iounet, "prroi_pool"), _extension.threaded())
print(output.flatten().tolist(), rois.grad.flatten().tolist(), features.grad.sum().item())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of what a clone would hold, and made fit for other machines."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "iounet", folder / "iounet", ignore=shutil.ignore_patterns("__pycache__", "lib"))
    bin = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}", "IOUNET_PREBUILD": "1"}
    pip = f"{sys.executable} -m pip wheel --no-deps --no-build-isolation -w built ."
    for command in (pip, "auditwheel repair -w repaired built/*.whl"):
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, shell=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (folder / "repaired").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed, code, tmp_path, **environment):
    """A process that finds no compiler, no cache, and of the project the wheel alone; what it prints, line by line."""
    kept = {name: os.environ[name] for name in ("HOME", "LD_LIBRARY_PATH", "OMP_NUM_THREADS") if name in os.environ}
    code = "import sys; sys.modules['mmdet'] = None\n" + code
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:iounet", "-c", code],
        env={**kept, "PYTHONPATH": str(installed), "PATH": "", "IOUNET_CACHE_DIR": str(tmp_path / "c"), **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "iounet" not in done.stderr, done.stderr
    assert not (tmp_path / "c").exists(), "nothing is built"
    return done.stdout.splitlines()


def test_it_is_for_every_python_and_for_every_linux_that_torch_is_for(wheel):
    # torch's own wheels are manylinux_2_28.
    version, machine = re.fullmatch(r"iounet-[\d.]+-py3-none-manylinux_2_(\d+)_(\w+)\.whl", wheel.name).groups()
    assert int(version) <= 28 and machine == platform.machine()
    assert wheel.stat().st_size < 2**20


def test_it_runs_the_kernels_without_a_compiler(installed, tmp_path):
    lines = [run(installed, POOL, tmp_path, ATEN_CPU_CAPABILITY=name) for name in ("avx2", "default")]
    if platform.machine() == "x86_64":
        assert lines[1][0] == "prroi_pool_cpu-default.so True True"
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        assert lines[0][0] == "prroi_pool_cpu-avx2.so True True"
    assert lines[0][1] == lines[1][1]
    # The means of a plane over the bins [1, 3] and [3, 5]: 8 y + x at their centres.
    assert lines[0][1].startswith("[18.0, 20.0, 34.0, 36.0]")


def test_it_says_what_it_runs(installed, tmp_path):
    code = "import runpy; runpy.run_module('iounet.ops', run_name='__main__')"
    (line,) = [line for line in run(installed, code, tmp_path) if line.startswith("CPU")]
    assert line.startswith("CPU    compiled kernel of the wheel, prroi_pool_cpu-") and line.endswith(".so")


def test_every_library_computes_what_the_one_of_this_machine_does(installed):
    if not _extension.available("cpu"):
        pytest.skip("there is no compiled kernel to compare with")
    native = Kernels(_extension.library_path("cpu"))
    features, rois = make_inputs(40, 37)
    grad = torch.randn(40, 37, 7, 7, generator=torch.Generator().manual_seed(0))
    capability = torch.backends.cpu.get_cpu_capability()
    able = [name for name in _compiler.instruction_sets(platform.machine()) if name in (capability, "AVX2", "DEFAULT")]
    if capability not in ("AVX2", "AVX512"):
        able.remove("AVX2")
    for name in able:
        library = Kernels(installed / "iounet/ops/lib" / _compiler.library_name(name))
        rest = ([features], rois, None, [SCALE])
        torch.testing.assert_close(
            library.forward(*rest[:3], 7, 7, *rest[3:]),
            native.forward(*rest[:3], 7, 7, *rest[3:]),
            rtol=1e-5,
            atol=1e-5,
        )
        for ours, theirs in (
            (library.feature_gradient(grad, *rest)[0], native.feature_gradient(grad, *rest)[0]),
            (library.coordinate_gradient(grad, *rest), native.coordinate_gradient(grad, *rest)),
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_it_is_about_as_fast_as_a_library_compiled_for_this_machine(installed):
    if not _extension.available("cpu"):
        pytest.skip("there is no compiled kernel to compare with")
    name = torch.backends.cpu.get_cpu_capability()
    libraries = [installed / "iounet/ops/lib" / _compiler.library_name(name), _extension.library_path("cpu")]
    if not libraries[0].exists():
        pytest.skip(f"the wheel has none for {name}")
    features, rois = make_inputs(300, 64)
    grad = torch.randn(300, 64, 7, 7, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        forward, backward = [], []
        for kernels in map(Kernels, libraries):
            forward.append(lambda kernels=kernels: kernels.forward([features], rois, None, 7, 7, [SCALE]))
            backward.append(lambda kernels=kernels: kernels.coordinate_gradient(grad, [features], rois, None, [SCALE]))
        for which in (forward, backward):
            _, speed, _ = ratios(*interleaved(which, rounds=30))
            print(f"native speed: {speed:.3f}")
            assert speed >= 0.85  # 0.95 where nothing else runs
    finally:
        torch.set_num_threads(before)

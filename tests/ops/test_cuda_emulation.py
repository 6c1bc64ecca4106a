"""The CUDA kernels, compiled as C++ and run thread by thread on the CPU, against the oracle.

Their logic is thus tested where there is no GPU; test_prroi_pool.py runs them on one.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from iounet.ops._compiler import SOURCE_DIR
from iounet.ops._reference import prroi_pool_reference
from tests.ops.test_prroi_pool import (
    POISONS,
    SCALES,
    assert_poisoned_alike,
    make_problem,
    poisoned_problem,
    value_and_gradients,
)

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


@pytest.fixture(scope="module")
def emulate(tmp_path_factory):
    folder = Path(__file__).parent / "cuda_emulation"
    library = tmp_path_factory.mktemp("emulation") / "emulate.so"
    include = [f"-I{folder}", f"-I{SOURCE_DIR}"]
    command = ["g++", "-O1", "-std=c++17", "-shared", "-fPIC", *include, str(folder / "emulate.cpp"), "-o", library]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library)).emulate


def run(emulate, which, inputs, rois, levels, grad_output, result, descending, level_areas):
    count = len(inputs)
    arguments = [
        which,
        int(rois.dtype == torch.float64),
        int(descending),
        count,
        (ctypes.c_void_p * count)(*(x.data_ptr() for x in inputs)),
        (ctypes.c_int * count)(*(x.shape[2] for x in inputs)),
        (ctypes.c_int * count)(*(x.shape[3] for x in inputs)),
        (ctypes.c_double * count)(*SCALES[:count]),
        *inputs[0].shape[:2],
        7,
        5,
        ctypes.c_void_p(rois.data_ptr()),
        None if levels is None else ctypes.c_void_p(levels.data_ptr()),
        level_areas and (ctypes.c_double * len(level_areas))(*level_areas),
        ctypes.c_int64(len(rois)),
        ctypes.c_void_p(grad_output.data_ptr()),
        ctypes.c_void_p(result.data_ptr()),
    ]
    assert emulate(*arguments) == 0, "threads parted at a barrier (1) or shared memory was overrun (2)"


def kernel_results(emulate, inputs, rois, levels, weights, descending, level_areas=None):
    """Output, gradient to rois, gradients to the inputs."""
    maps = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    gradients = [torch.zeros_like(x) for x in maps]
    grad_output = weights.to(rois.dtype).contiguous(memory_format=torch.channels_last)
    output = torch.full_like(weights, float("nan"), dtype=rois.dtype)
    coordinates = torch.full_like(rois, float("nan"))
    run(emulate, 0, maps, rois, levels, grad_output, output, descending, level_areas)
    run(emulate, 1, gradients, rois, levels, grad_output, output, descending, level_areas)
    run(emulate, 2, maps, rois, levels, grad_output, coordinates, descending, level_areas)
    return [output, coordinates, *gradients]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("channels", [3, 140])
def test_equals_oracle(emulate, descending, dtype, tolerance, channels):
    inputs, rois, levels = make_problem(channels, dtype, num_random=10)
    weights = torch.randn(len(rois), channels, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    actual = kernel_results(emulate, inputs, rois, levels, weights, descending)
    expected = value_and_gradients(prroi_pool_reference, [x.double() for x in inputs], rois.double(), levels)
    for ours, theirs in zip(actual, expected, strict=True):
        unit = theirs.abs().amax(dim=tuple(range(1, theirs.dim())), keepdim=True).clamp(min=1e-2)
        assert ((ours.double() - theirs).abs() / unit).max() <= tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_level_by_area(emulate, dtype):
    inputs, _, _ = make_problem(1, dtype)
    boxes = torch.rand(5, 4, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 20
    rois = torch.cat([torch.zeros(5, 1, dtype=dtype), boxes[:, :2], boxes[:, :2] + 5 + boxes[:, 2:]], dim=1)
    weights = torch.ones(5, 1, 7, 5, dtype=torch.float64)
    area = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
    bound = area.median()  # reached by one of them exactly
    expected = kernel_results(emulate, inputs, rois, (area >= bound).long(), weights, False)
    actual = kernel_results(emulate, inputs, rois, None, weights, False, [bound.item()])
    for ours, theirs in zip(actual, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("of_features", "of_gradients"), POISONS)
def test_nan_and_infinity_have_the_same_influence_in_plain_torch(emulate, of_features, of_gradients):
    inputs, rois, levels, grad_output = poisoned_problem(torch.float64, "cpu", of_features, of_gradients)
    actual = kernel_results(emulate, inputs, rois, levels, grad_output, False)
    assert_poisoned_alike(actual, inputs, rois, levels, grad_output)


def test_a_bin_without_a_cell_passes_no_nan_on(emulate):
    # The first column of bins, or row, lies off the map.
    rois = torch.tensor([[0, -80.0, 1, 28, 16], [0, 1, -80, 16, 28]], dtype=torch.float64)
    inputs, levels = [make_problem(3)[0][0]], torch.zeros(2, dtype=torch.int64)
    weights = torch.ones(2, 3, 7, 5, dtype=torch.float64)
    expected = kernel_results(emulate, inputs, rois, levels, weights, False)
    weights[0, :, :, 0] = torch.nan
    weights[1, :, 0] = torch.nan
    for ours, theirs in zip(kernel_results(emulate, inputs, rois, levels, weights, False), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_unusable_rois_give_zero_and_touch_nothing(emulate):
    nan, inf = float("nan"), float("inf")
    inputs, _, _ = make_problem(5)
    rows = [
        [0, 1, nan, 9, 9],
        [2, 1, 1, 9, 9],
        [-1, 1, 1, 9, 9],
        [0.5, 1, 1, 9, 9],
        [0, 1, 1, inf, 9],
        [nan, 1, 1, 9, 9],
    ]
    rois = torch.tensor([*rows, [0, 1, 1, 9, 9], [0, 1, 1, 9, 9], [1, 1, 1, 9, 9]], dtype=torch.float64)
    levels = torch.tensor([0] * len(rows) + [2, -1, 0])  # only the last RoI is usable
    weights = torch.ones(len(rois), 5, 7, 5, dtype=torch.float64)
    output, coordinates, first, second = kernel_results(emulate, inputs, rois, levels, weights, False)
    assert not output[:-1].any()
    assert not coordinates[:-1].any()
    assert output[-1].all()
    assert coordinates[-1, 1:].all()
    assert not first[0].any()
    assert first[1].any()
    assert not second.any()

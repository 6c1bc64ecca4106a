"""The compiled CPU kernel against the reference loop: same results, several times faster."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from iounet.ops import _extension, prroi_pool, prroi_pool_multilevel
from tests.ops import bench_prroi_pool, reference_loop
from tests.ops.bench_prroi_pool import (
    LAYOUTS,
    SCALE,
    check,
    compare,
    interleaved,
    make_inputs,
    one_level,
    pyramid,
    ratios,
)

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


@pytest.fixture(autouse=True)
def _one_thread():
    if not _extension.available("cpu"):
        pytest.skip("there is no compiled kernel to time")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_forward_is_at_least_five_times_faster_than_the_loop():
    features, rois = make_inputs(100, 64)
    planar = features.contiguous()

    def ours():
        return prroi_pool(features, rois, 7, SCALE)

    def peer():
        return reference_loop.forward(planar, rois, 7, SCALE)

    torch.testing.assert_close(ours(), peer(), rtol=1e-3, atol=1e-4)
    _, median, _ = ratios(*interleaved([ours, peer], rounds=20))
    assert median >= 5


@pytest.mark.parametrize("gradient", ["features", "rois"])
def test_gradients_equal_the_loop(gradient):
    features, rois = make_inputs(20, 8)
    planar = features.contiguous()
    features.requires_grad_()
    leaf = rois.clone().requires_grad_()
    output = prroi_pool(features, leaf, 7, SCALE)
    grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    output.backward(grad)
    if gradient == "features":
        expected = reference_loop.feature_gradient(grad, planar, rois, SCALE)
        torch.testing.assert_close(features.grad, expected, rtol=1e-3, atol=1e-3)
    else:
        expected = reference_loop.coordinate_gradient(grad, planar, output.detach(), rois, SCALE)
        torch.testing.assert_close(leaf.grad, expected, rtol=1e-3, atol=1e-3)


def test_the_bench_checks_before_it_times(monkeypatch):
    problem = one_level(4, 8)
    check(problem)
    check(pyramid(num_rois=20, channels=8))
    oracle = bench_prroi_pool.prroi_pool_reference
    monkeypatch.setattr(bench_prroi_pool, "prroi_pool_reference", lambda *a: 1.001 * oracle(*a))
    with pytest.raises(AssertionError, match="NHWC: off by"):
        next(compare(2, {"tiny": lambda: problem}))


def test_the_bench_covers_every_layout_and_peer():
    rows = list(compare(2, {"tiny": lambda: one_level(4, 8), "levels": lambda: pyramid(num_rois=20, channels=8)}))
    for shape in ("tiny", "levels"):
        found = {(row["what"], row["layout"], row["peer"].partition(" ")[0]) for row in rows if row["shape"] == shape}
        aligned = {(what, layout, "roi_align") for what in ("forward", "feature gradient") for layout in LAYOUTS}
        assert aligned <= found
        assert {what for what, _, peer in found if peer == "loop"} == set(bench_prroi_pool.WHATS)
    assert all(row["ratio"]["quartile_1"] <= row["ratio"]["median"] <= row["ratio"]["quartile_3"] for row in rows)


def peak_bytes(function):
    """What a call allocates: the largest sum of what is held at one time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = function()
    held = peak = 0
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    del result
    return peak


class CountOps(TorchDispatchMode):
    """Names of the operators that are dispatched."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("needed", [False, True], ids=["forward", "both"])
def test_a_plain_call_passes_by_the_dispatcher(needed):
    # For a tracker's few RoIs, what is around the kernel takes longer than the kernel.
    problem = pyramid(num_rois=2, channels=4)
    maps = [feature.requires_grad_(needed) for feature in problem.maps]
    areas = [112.0**2, 224.0**2, 448.0**2]
    functions = []

    def record(frame, event, argument):
        if event == "call":
            functions.append(frame.f_code.co_qualname)

    def call():
        output = prroi_pool_multilevel(maps, problem.rois, None, 7, problem.scales, areas)
        if needed:
            output.backward(problem.grad)

    call()
    sys.setprofile(record)
    try:
        call()
    finally:
        sys.setprofile(None)
    assert "Kernels.forward" in functions
    assert ("Kernels.feature_gradient" in functions) == needed
    assert not [name for name in functions if name.startswith(("_cpu_", "_autograd_", "_below_", "_ops", "OpOverload"))]


def test_operators_and_bytes_of_a_call_do_not_depend_on_levels_or_layout():
    problem = pyramid(num_rois=50, channels=16)
    maps = [feature.contiguous(memory_format=torch.channels_last) for feature in problem.maps]
    arguments = (maps, problem.rois, problem.levels, 7, problem.scales)
    with CountOps() as forward:
        output = prroi_pool_multilevel(*arguments)
    assert forward.names == ["iounet.prroi_pool.default"]
    small = 64 * 1024  # RoIs in float64, and what PyTorch keeps beside
    assert peak_bytes(lambda: prroi_pool_multilevel(*arguments)) <= output.nbytes + small
    map_bytes = sum(feature.nbytes for feature in maps)
    planar = (problem.maps, *arguments[1:])
    assert peak_bytes(lambda: prroi_pool_multilevel(*planar)) <= output.nbytes + map_bytes + small

    # Only what is asked for: a gradient to the RoIs allocates no map.
    leaf = problem.rois.clone().requires_grad_()
    output = prroi_pool_multilevel(maps, leaf, *arguments[2:])
    with CountOps() as backward:
        output.backward(problem.grad, retain_graph=True)
    assert [name for name in backward.names if "iounet" in name] == ["iounet.prroi_pool_coordinate_gradient.default"]
    leaf.grad = None
    assert peak_bytes(lambda: output.backward(problem.grad, retain_graph=True)) <= small
    leaves = [feature.clone().requires_grad_() for feature in maps]
    output = prroi_pool_multilevel(leaves, *arguments[1:])
    with CountOps() as backward:
        output.backward(problem.grad)
    assert [name for name in backward.names if "iounet" in name] == ["iounet.prroi_pool_feature_gradient.default"]


def asks_for_large_pages(tensor):
    """Whether the system is told so for the middle of a tensor's memory."""
    middle = tensor.data_ptr() + tensor.nbytes // 2
    found = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            found = int(match[1], 16) <= middle < int(match[2], 16)
        elif found and line.startswith("VmFlags:"):
            return "hg" in line.split()
    return False


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="there are no large pages")
def test_large_results_are_on_large_pages():
    features, rois = make_inputs(100, 256)
    assert asks_for_large_pages(prroi_pool(features, rois.repeat(3, 1), 7, SCALE))
    features = torch.zeros(1, 256, 100, 167, requires_grad=True)
    prroi_pool(features, rois, 7, SCALE).sum().backward()
    assert asks_for_large_pages(features.grad)

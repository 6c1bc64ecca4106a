"""The compiled CPU kernel against the reference loop: same results, several times faster."""

import shutil

import pytest
import torch

from iounet.ops import _extension, prroi_pool
from tests.ops import reference_loop
from tests.ops.bench_prroi_pool import SCALE, interleaved, make_inputs

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
    _, _, (_, median, _) = interleaved(ours, peer, rounds=20)
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

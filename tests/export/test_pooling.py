import pytest
import torch

from iounet.export.pooling import AxisMeans, Pooled, Pyramid
from iounet.ops._reference import axis_weights, prroi_pool_reference

STRIDES, AREAS = (4, 8, 16), (20.0**2, 45.0**2)
# Of two images of 64 x 96 pixels: all levels; over each border; on the lines between cells; smaller than a cell; of
# several cells' length but no width; empty; inside out; wholly outside.
ROIS = (
    (0, 3.3, 4.7, 17.1, 19.9),
    (1, 10.2, 5.5, 42.3, 40.1),
    (0, 2.6, 1.1, 90.3, 60.2),
    (1, -13.3, -9.1, 30.7, 22.3),
    (0, 70.4, 40.2, 130.9, 99.7),
    (1, 8.0, 12.0, 36.0, 40.0),
    (0, 20.13, 30.41, 20.17, 30.43),
    (0, 8.0, 12.0, 8.0001, 12.0001),
    (1, 11.3, 10.1, 60.2, 10.2),
    (1, 30.0, 20.0, 30.0, 40.0),
    (0, 40.0, 30.0, 20.0, 50.0),
    (1, 300.2, 10.1, 340.4, 60.7),
)


def inputs(dtype):
    maps = [torch.randn(2, 5, 64 // stride, 96 // stride, dtype=dtype) for stride in STRIDES]
    return maps, torch.tensor(ROIS, dtype=dtype)


def oracle(maps, rois, size):
    return prroi_pool_reference(maps, rois, None, size, [1 / stride for stride in STRIDES], AREAS)


@pytest.mark.parametrize("size", [(7, 7), (2, 5)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-5)])
def test_values_and_gradients_are_those_of_the_oracle(dtype, tolerance, size):
    maps, rois = inputs(dtype)
    leaf = rois.clone().requires_grad_()
    expected = oracle(maps, leaf, size)
    weight = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(expected, leaf, weight)
    pooled = Pooled(Pyramid(maps, STRIDES, AREAS), rois, size)
    torch.testing.assert_close(pooled.output, expected.detach(), rtol=0, atol=tolerance)
    found = pooled.coordinate_gradient(weight)
    assert (gradient[:9, 1:] != 0).any(dim=1).all()  # else there would be little to compare
    torch.testing.assert_close(found, gradient[:, 1:], rtol=tolerance, atol=tolerance)
    assert (found[9:] == 0).all() and (pooled.output[9:] == 0).all()


def test_the_levels_are_those_of_the_oracle_at_the_very_limits():
    maps, _ = inputs(torch.float32)
    side = torch.tensor([20.0, 45.0])
    low = torch.nextafter(side, torch.zeros(2))
    rois = torch.tensor([[0, 0, 0, a, b] for a, b in zip([*side, *low], [*side, *side], strict=True)])
    torch.testing.assert_close(Pooled(Pyramid(maps, STRIDES, AREAS), rois, (3, 3)).output, oracle(maps, rois, (3, 3)))


@pytest.mark.parametrize(
    "roi",
    [(2, 1, 1, 9, 9), (-1, 1, 1, 9, 9), (0.5, 1, 1, 9, 9), (0, float("nan"), 1, 9, 9), (0, 1, 1, 9, float("inf"))],
)
def test_a_roi_that_the_op_refuses_gives_0(roi):
    maps, _ = inputs(torch.float32)
    pooled = Pooled(Pyramid(maps, STRIDES, AREAS), torch.tensor([roi, (1, 1.0, 1.0, 9.0, 9.0)]), (7, 7))
    gradient = pooled.coordinate_gradient(torch.randn(2, 5, 7, 7))
    assert (pooled.output[0] == 0).all() and (gradient[0] == 0).all()
    assert (pooled.output[1] != 0).any() and (gradient[1] != 0).all()


def test_no_rois():
    maps, rois = inputs(torch.float32)
    pooled = Pooled(Pyramid(maps, STRIDES, AREAS), rois[:0], (7, 7))
    assert pooled.output.shape == (0, 5, 7, 7)
    assert pooled.coordinate_gradient(pooled.output).shape == (0, 4)


def test_the_weights_and_slopes_of_an_axis():
    start = torch.tensor([0.3, -2.0, 4.0, 3.1, 1e6 + 0.3], dtype=torch.float64, requires_grad=True)
    end = torch.tensor([6.2, 3.0, 4.0, 3.1001, 1e6 + 5], dtype=torch.float64, requires_grad=True)
    weights = axis_weights(start, end, 4, 7)
    cells = torch.arange(7, dtype=torch.float64)
    own = AxisMeans(start.detach(), end.detach(), 4, cells, torch.ones(5, 7, dtype=torch.bool))
    torch.testing.assert_close(own.mean, weights.detach(), rtol=0, atol=1e-14)
    by_start, by_end = own.slopes()
    for k, p, m in ((0, 0, 1), (0, 3, 6), (1, 3, 2), (1, 1, 0), (2, 1, 4), (3, 2, 3), (4, 0, 3)):
        expected = torch.autograd.grad(weights[k, p, m], [start, end], retain_graph=True)
        torch.testing.assert_close(
            torch.stack([by_start[k, p, m], by_end[k, p, m]]), torch.stack([g[k] for g in expected])
        )

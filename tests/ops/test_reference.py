"""The oracle against exact piecewise integration, and its gradients against finite differences."""

import numpy as np
import pytest
import torch

from iounet.ops._reference import axis_weights, prroi_pool_reference
from tests.ops.exact import exact_pool

# (x1, y1, x2, y2) in cells of a map of height 6 and width 8.
BOXES = {
    "fractional": (0.3, 1.2, 6.7, 4.9),
    "integer edges": (1.0, 2.0, 7.0, 5.0),
    "bins of one cell": (1.0, 0.0, 4.0, 2.0),
    "whole map": (0.0, 0.0, 7.0, 5.0),
    "inside one cell": (2.31, 3.42, 2.38, 3.5),
    "thin": (2.31, 0.5, 2.38, 4.9),
    "across one border": (-2.6, 1.1, 3.3, 3.9),
    "across all borders": (-5.3, -4.1, 13.7, 9.2),
    "outer rim": (-0.9, -0.9, -0.1, -0.2),
    "off the map": (20.5, 1.0, 25.5, 4.0),
    "far off the map": (-1300.2, -900.7, -1000.1, -800.3),
    "much larger than the map": (-3000.5, -2000.25, 4000.125, 3000.75),
    "zero width": (3.0, 1.0, 3.0, 4.0),
    "zero height": (1.0, 3.5, 4.0, 3.5),
    "inverted": (5.0, 1.0, 2.0, 4.0),
    "inverted both": (5.0, 4.0, 2.0, 1.0),
}


def reference(features, boxes, output_size, scale=1.0):
    rois = torch.cat([torch.zeros(len(boxes), 1, dtype=torch.float64), boxes], dim=1)
    return prroi_pool_reference([features], rois, None, output_size, [scale])


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("output_size", [(7, 7), (3, 2), (1, 1)])
def test_equals_exact_integration(box, output_size):
    features = torch.randn(1, 3, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scale = 0.25
    boxes = torch.tensor([box], dtype=torch.float64) / scale
    expected = exact_pool(features[0].numpy(), box, *output_size)
    np.testing.assert_allclose(reference(features, boxes, output_size, scale)[0], expected, rtol=1e-12, atol=1e-12)


def test_known_value():
    # The docstring's example: at stride 16 the RoI (32, 32, 144, 144) covers [2, 9]; on a map that holds the column's
    # number, the mean over the first column of bins, [2, 3], is 2.5.
    features = torch.arange(12, dtype=torch.float64).expand(1, 1, 12, 12)
    output = reference(features, torch.tensor([[32.0, 32, 144, 144]], dtype=torch.float64), (7, 7), 1 / 16)
    torch.testing.assert_close(output[0, 0], torch.arange(2.5, 9, dtype=torch.float64).expand(7, 7))


@pytest.mark.parametrize("length", [1e-3, 1e-6, 1e-9, 1e-12])
def test_tiny_bins_keep_their_digits(length):
    start = torch.tensor([300.25], dtype=torch.float64)
    weights = axis_weights(start, start + length, 7, 400)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(1, 7, dtype=torch.float64), rtol=1e-14, atol=0)
    torch.testing.assert_close(
        weights[0, :, 300], torch.full((7,), 0.75, dtype=torch.float64), rtol=2 * length, atol=1e-14
    )


def test_gradients_of_first_and_second_order():
    features = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0.3, 1.2, 4.7, 3.9], [2.31, 3.42, 2.38, 3.5], [-1.3, 2.2, 8.1, 6.3]], dtype=torch.float64)
    boxes.requires_grad_()
    assert torch.autograd.gradcheck(lambda f, b: reference(f, b, (2, 3), 0.9), (features, boxes))
    assert torch.autograd.gradgradcheck(lambda f, b: reference(f, b, (2, 1), 0.9), (features, boxes))


def test_chunks_do_not_change_the_result(monkeypatch):
    features = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    rois = torch.rand(20, 5, dtype=torch.float64) * 4
    rois[:, 3:] += 4
    rois[:, 0] = torch.arange(20) % 2
    whole = prroi_pool_reference([features], rois, None, (3, 3), [1.0])
    monkeypatch.setattr("iounet.ops._reference._CHUNK_ELEMENTS", 1)
    torch.testing.assert_close(prroi_pool_reference([features], rois, None, (3, 3), [1.0]), whole)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
def test_only_cells_that_a_bin_reaches_have_an_influence(box, value):
    # The exact integration visits no other cells. One value at a time, in every place.
    features = torch.randn(48, 1, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    features.view(48, 48).fill_diagonal_(value)
    rois = torch.tensor([[image, *box] for image in range(48)], dtype=torch.float64)
    output = prroi_pool_reference([features], rois, None, (3, 2), [1.0])
    expected = np.stack([exact_pool(image.numpy(), box, 3, 2) for image in features])
    np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-12)


def test_extents_beyond_any_number_give_zero_and_no_gradient():
    big = 1.7e308
    boxes = [[-big, -big, big, big], [-big, 1, big, 3], [0, 0, big, 5], [big, 1, big, 2]]
    rois = torch.tensor([[0, *box] for box in boxes], dtype=torch.float64, requires_grad=True)
    features = torch.randn(1, 2, 6, 8, dtype=torch.float64, requires_grad=True)
    output = prroi_pool_reference([features], rois, None, (3, 3), [1.0])
    output.sum().backward()
    assert not output.any() and not rois.grad.any() and not features.grad.any()

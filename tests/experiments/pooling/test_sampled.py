"""RoIAlign in plain torch: torchvision's values, and a gradient to the RoIs that is that of the samples."""

import pytest
import torch
from mmdet.models.builder import build_roi_extractor
from torchvision.ops import roi_align

from experiments.pooling.extractor import SampledRoIExtractor
from experiments.pooling.rows import SAMPLES
from experiments.pooling.sampled import half_a_cell_on, kernel_pool, pool_by_weights, sampled_pool
from iounet.models import PrRoIExtractor
from iounet.ops._reference import axis_weights, prroi_pool_reference

STRIDES = (4, 8)
SCALES = [1 / stride for stride in STRIDES]
EACH = pytest.mark.parametrize("samples", SAMPLES.values(), ids=SAMPLES)


def maps(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 96 // stride, 80 // stride, generator=generator, dtype=dtype) for stride in STRIDES]


def rois():
    """Inside, at every border, beyond it, off the map, below a cell, inside out, of no area."""
    boxes = [
        (0, 10.4, 12.1, 61.7, 70.8),
        (1, 0.0, 0.0, 80.0, 96.0),
        (0, -9.4, -3.1, 20.2, 17.3),
        (1, 61.2, 77.7, 93.1, 107.9),
        (0, 200.0, 10.0, 260.0, 50.0),
        (1, 33.3, 41.2, 35.1, 42.9),
        (0, 50.0, 20.0, 30.0, 60.0),
        (1, 12.5, 20.0, 12.5, 60.0),
        (1, 3.3, 41.2, 70.1, 46.9),
    ]
    return torch.tensor(boxes, dtype=torch.float64)


def levels():
    return torch.tensor([0, 1, 0, 1, 0, 0, 1, 0, 1])


@EACH
def test_values_are_torchvisions(samples):
    found = sampled_pool(maps(), rois(), levels(), (7, 5), SCALES, samples)
    assert found.shape == (9, 3, 7, 5)
    for row, (roi, level) in enumerate(zip(rois(), levels().tolist(), strict=True)):
        moved = half_a_cell_on(roi[None], SCALES[level])
        expected = roi_align(maps()[level], moved, (7, 5), SCALES[level], samples, aligned=True)
        torch.testing.assert_close(found[row], expected[0], rtol=0, atol=1e-12)
    assert (found[[0, 1, 2, 3, 5, 8]] != 0).flatten(1).any(1).all()
    torch.testing.assert_close(
        found, kernel_pool(maps(), rois(), levels(), (7, 5), SCALES, samples), rtol=0, atol=1e-12
    )


def test_without_the_shift_it_is_the_convention_without_half_a_cell():
    inside, low = rois()[[0]], rois()[[8]]  # the other one is less than a cell high on the second level
    for level, scale in enumerate(SCALES):
        found = sampled_pool(maps(), inside, torch.tensor([level]), (7, 7), SCALES, 2)
        plain = roi_align(maps()[level], inside, 7, scale, 2, aligned=False)
        shifted = roi_align(maps()[level], inside, 7, scale, 2, aligned=True)
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-12)
        assert (found - shifted).abs().max() > 0.1
    stretched = roi_align(maps()[1], low, 7, SCALES[1], 2, aligned=False)
    assert (sampled_pool(maps(), low, torch.tensor([1]), (7, 7), SCALES, 2) - stretched).abs().max() > 0.1


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_value_and_gradient_are_those_of_grid_sample(samples):
    """Another way to the same samples: torch's own bilinear sampling, inside the map."""
    (feature, _), roi = maps(), rois()[:1]

    def by_grid_sample(roi):
        height, width = feature.shape[2:]
        x1, y1, x2, y2 = (roi[0, 1:] * SCALES[0]).unbind()
        share = (torch.arange(7 * samples, dtype=torch.float64) + 0.5) / (7 * samples)
        x, y = x1 + share * (x2 - x1), y1 + share * (y2 - y1)
        grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1])
        places = torch.stack([grid[0].expand(len(y), -1), grid[1][:, None].expand(-1, len(x))], dim=-1)
        read = torch.nn.functional.grid_sample(feature[:1], places[None], mode="bilinear", align_corners=True)
        return torch.nn.functional.avg_pool2d(read, samples)

    weights = torch.randn(1, 3, 7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for pool in (
        by_grid_sample,
        lambda roi: sampled_pool([feature], roi, torch.zeros(1).long(), (7, 7), SCALES[:1], samples),
    ):
        leaf = roi.clone().requires_grad_()
        value = pool(leaf)
        results.append((value, torch.autograd.grad(value, leaf, weights)[0]))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=0, atol=1e-12)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=0, atol=1e-12)
    assert results[0][1][0, 1:].abs().min() > 1e-3


@EACH
def test_the_gradient_is_that_of_its_values_between_kinks(samples):
    def pool(coordinates):
        roi = torch.cat([torch.zeros(1, 1, dtype=torch.float64), coordinates], dim=1)
        return sampled_pool(maps()[:1], roi, torch.zeros(1).long(), (3, 2), SCALES[:1], samples)

    coordinates = rois()[:1, 1:].clone().requires_grad_()
    assert torch.autograd.gradcheck(pool, (coordinates,), eps=1e-7)


def test_more_samples_come_closer_to_the_integral_inside_the_map_only():
    inside, border = rois()[[0, 8]], rois()[[1, 3]]
    for boxes, own, converges in ((inside, levels()[[0, 8]], True), (border, levels()[[1, 3]], False)):
        exact = prroi_pool_reference(maps(), boxes, own, (7, 7), SCALES)
        errors = [
            (sampled_pool(maps(), boxes, own, (7, 7), SCALES, n) - exact).norm() / exact.norm() for n in (1, 2, 8, 64)
        ]
        assert (errors == sorted(errors, reverse=True) and errors[-1] < 2e-3) == converges
    assert errors[-1] > 0.05


def test_with_the_exact_weights_it_is_the_oracle():
    found = pool_by_weights(maps(), rois(), levels(), (7, 5), SCALES, axis_weights)
    torch.testing.assert_close(
        found, prroi_pool_reference(maps(), rois(), levels(), (7, 5), SCALES), rtol=0, atol=1e-12
    )


def test_where_no_kink_is_inside_a_bin_one_sample_is_the_integral():
    roi = torch.tensor([[0, 12.4, 20.4, 15.6, 23.6]], dtype=torch.float64)  # within one cell
    exact = prroi_pool_reference(maps()[:1], roi, None, (7, 7), SCALES[:1])
    found = sampled_pool(maps()[:1], roi, torch.zeros(1).long(), (7, 7), SCALES[:1], 1)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


def test_no_rois():
    empty = rois()[:0].requires_grad_()
    found = sampled_pool(maps(), empty, levels()[:0], (7, 7), SCALES, 0)
    assert found.shape == (0, 3, 7, 7)
    assert kernel_pool(maps(), empty, levels()[:0], (7, 7), SCALES, 0).shape == (0, 3, 7, 7)


def build(**layer):
    layer = {"type": "PrRoIPool", "output_size": 7, **layer}
    config = {"type": "SampledRoIExtractor", "roi_layer": layer, "out_channels": 3, "featmap_strides": list(STRIDES)}
    return build_roi_extractor(config)


@EACH
def test_the_extractor_pools_each_roi_from_its_level_and_differentiates(samples):
    extractor, boxes = build(sampling_ratio=samples), rois()[[0, 1, 2, 3]]
    assert isinstance(extractor, SampledRoIExtractor)
    plain = PrRoIExtractor({"type": "PrRoIPool", "output_size": 7}, 3, list(STRIDES), finest_scale=20)
    extractor = SampledRoIExtractor(
        {"type": "PrRoIPool", "output_size": 7, "sampling_ratio": samples},
        out_channels=3, featmap_strides=list(STRIDES), finest_scale=20,
    )  # fmt: skip
    own = plain.map_roi_levels(boxes, 2)
    assert own.unique().tolist() == [0, 1]
    expected = sampled_pool(maps(), boxes.requires_grad_(), own, (7, 7), SCALES, samples)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(extractor(maps(), boxes.detach()), expected, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(expected, boxes, upstream)
    with torch.no_grad():
        found = extractor.coordinate_gradient(maps(), boxes.detach(), upstream.flatten(1))
    torch.testing.assert_close(found, gradient, rtol=0, atol=1e-12)
    if samples == 8:
        exact = plain.coordinate_gradient(maps(), boxes.detach(), upstream)[[0, 2], 1:]
        assert torch.nn.functional.cosine_similarity(found[[0, 2], 1:], exact).min() > 0.9


def test_maps_get_their_gradient_in_training():
    features = [level.float().requires_grad_() for level in maps()]
    build(sampling_ratio=2)(features, rois()[:2].float()).sum().backward()
    assert all(level.grad is not None for level in features[:1])


@pytest.mark.parametrize("wrong", [{}, {"sampling_ratio": -1}, {"sampling_ratio": 2.0}, {"sampling_ratio": True}])
def test_a_wrong_number_of_samples_is_named(wrong):
    with pytest.raises(
        ValueError, match=r"roi_layer: sampling_ratio=.* must be a whole number, 0 \(adaptive\) or more"
    ):
        SampledRoIExtractor({"type": "PrRoIPool", "output_size": 7, **wrong}, out_channels=3, featmap_strides=[4])


def test_another_layer_is_refused():
    with pytest.raises(ValueError, match="type='RoIAlign' must be 'PrRoIPool'"):
        SampledRoIExtractor({"type": "RoIAlign", "sampling_ratio": 2}, out_channels=3, featmap_strides=[4])

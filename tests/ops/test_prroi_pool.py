"""The compiled kernels against the oracle: values, both gradients, layouts, dtypes, threads."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import iounet.ops
from iounet.ops import (
    PrRoIPool,
    _compiler,
    _extension,
    _operators,
    prroi_pool,
    prroi_pool_coordinate_gradient,
    prroi_pool_multilevel,
)
from iounet.ops._cpu import Kernels
from iounet.ops._reference import prroi_pool_reference
from tests.ops.test_reference import BOXES

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")),
]
SCALES = [1 / 4, 1 / 8]


@pytest.fixture(autouse=True, scope="module")
def _compiled():
    if not _extension.available("cpu"):
        pytest.skip("there is no compiled kernel to test")


def make_problem(channels=5, dtype=torch.float64, device="cpu", size=(12, 17), num_random=30, seed=0):
    """Two images, two levels, every awkward box on each of them, and random RoIs that reach beyond the map."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    inputs = [
        torch.randn(2, channels, height // level, width // level, dtype=torch.float64, generator=generator)
        for level in (1, 2)
    ]
    awkward = torch.tensor(list(BOXES.values()), dtype=torch.float64)
    boxes = torch.cat([awkward / SCALES[0], awkward / SCALES[1]])
    corners = (torch.rand(num_random, 2, dtype=torch.float64, generator=generator) * 1.5 - 0.25) * 4 * width
    extents = torch.rand(num_random, 2, dtype=torch.float64, generator=generator) ** 3 * 4 * width + 0.1
    boxes = torch.cat([boxes, torch.cat([corners, corners + extents], dim=1)])
    levels = torch.cat(
        [torch.arange(2).repeat_interleave(len(awkward)), torch.randint(2, (num_random,), generator=generator)]
    )
    images = torch.randint(2, (len(boxes), 1), generator=generator)
    rois = torch.cat([images.double(), boxes], dim=1)
    return [x.to(device, dtype) for x in inputs], rois.to(device, dtype), levels.to(device)


def value_and_gradients(function, inputs, rois, levels, context=nullcontext()):  # noqa: B008
    """Output, gradient to rois, gradients to the inputs: of a scalar that weighs every output differently."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    rois = rois.detach().requires_grad_()
    with context:
        output = function(inputs, rois, levels, (7, 5), SCALES)
    weights = torch.randn(output.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(output, [rois, *inputs], weights.to(output))
    return [output.detach(), *gradients]


def assert_equal_to_oracle(function, inputs, rois, levels, tolerance):
    actual = value_and_gradients(function, inputs, rois, levels)
    doubles = [x.double() for x in inputs]
    expected = value_and_gradients(prroi_pool_reference, doubles, rois.double(), levels)
    for name, ours, theirs in zip(["output", "rois", "level 0", "level 1"], actual, expected, strict=True):
        # The unit is the largest value in a tensor, or for the RoIs in a row of it.
        unit = theirs.abs().amax(dim=1, keepdim=True).clamp(min=1e-3) if name == "rois" else theirs.abs().max()
        error = ((ours.double() - theirs).abs() / unit).max().item()
        assert error <= tolerance, f"{name}: relative error {error:.2g}"


@pytest.mark.parametrize("device", DEVICES)
# 1, 2 and 4 vectors of 64 bytes, with all remainders.
@pytest.mark.parametrize("channels", [1, 3, 8, 16, 21, 32, 64, 75, 139])
def test_double_equals_oracle(device, channels):
    inputs, rois, levels = make_problem(channels, device=device)
    assert_equal_to_oracle(prroi_pool_multilevel, inputs, rois, levels, 1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [1, 5, 16, 53, 64, 123])
def test_float_equals_oracle(device, channels):
    inputs, rois, levels = make_problem(channels, torch.float32, device)
    assert_equal_to_oracle(prroi_pool_multilevel, inputs, rois, levels, 5e-6)


@pytest.fixture(scope="module")
def wide_kernels(tmp_path_factory):
    """The kernels with vectors of 64 bytes, as with AVX-512; the compiler takes them apart where there is none."""
    if _extension.compiler_version() is None:
        pytest.skip("there is no C++ compiler")
    library = tmp_path_factory.mktemp("wide") / "kernels.so"
    _compiler.compile_kernels(library, [*_compiler.NATIVE, "-DIOUNET_VECTOR_BYTES=64"])
    return Kernels(library)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
@pytest.mark.parametrize("channels", [5, 16, 32, 64, 125])
def test_vectors_of_avx512_equal_the_oracle(wide_kernels, monkeypatch, channels, dtype, tolerance):
    monkeypatch.setattr(_operators, "_kernels", wide_kernels)
    inputs, rois, levels = make_problem(channels, dtype)
    assert_equal_to_oracle(prroi_pool_multilevel, inputs, rois, levels, tolerance)


@pytest.mark.parametrize("device", DEVICES)
def test_large_coordinates_keep_their_digits(device):
    # In float32, coordinates around 1300 have a spacing of 1e-4: weights computed from differences of such numbers
    # would be wrong in their fourth digit.
    inputs, _, _ = make_problem(4, torch.float32, device, size=(40, 1400))
    corners = torch.tensor([[300.3, 20.1], [900.7, 5.2], [1290.11, 18.3], [1300.9, 7.77]], device=device)
    boxes = torch.cat([corners, corners + torch.tensor([17.3, 9.1], device=device)], dim=1).repeat(2, 1)
    levels = torch.arange(2, device=device).repeat_interleave(4)
    boxes /= torch.tensor(SCALES, device=device)[levels, None] * torch.where(levels == 0, 1, 2)[:, None]
    rois = torch.cat([torch.zeros(8, 1, device=device), boxes], dim=1)
    assert_equal_to_oracle(prroi_pool_multilevel, inputs, rois, levels, 3e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("roi_dtype", ["float32", "same"])
def test_half_precision_is_summed_in_float(device, dtype, roi_dtype):
    # The oracle gets the same rounded values. What remains is the rounding of the results themselves (and of the
    # gradient that comes in), while sums over 40 channels in half precision would be further off.
    inputs, rois, levels = make_problem(40, dtype, device)
    if roi_dtype == "float32":
        rois = make_problem(40, torch.float32, device)[1]
    output = prroi_pool_multilevel(inputs, rois, levels, 7, SCALES)
    assert output.dtype == dtype
    tolerance = 2 * torch.finfo(dtype).eps
    assert_equal_to_oracle(prroi_pool_multilevel, inputs, rois, levels, tolerance)
    gradients = value_and_gradients(prroi_pool_multilevel, inputs, rois, levels)[1:]
    assert [g.dtype for g in gradients] == [rois.dtype, dtype, dtype]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["channels_last", "strided", "expanded", "transposed"])
def test_any_layout_gives_the_same(device, layout):
    inputs, rois, levels = make_problem(32, device=device)
    expected = value_and_gradients(prroi_pool_multilevel, inputs, rois, levels)
    if layout == "channels_last":
        inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    elif layout == "strided":
        inputs = [torch.stack([x, -x], dim=-1)[..., 0] for x in inputs]
    elif layout == "expanded":
        inputs = [x[:1].expand(2, -1, -1, -1) for x in inputs]
        rois = rois * torch.tensor([0, 1, 1, 1, 1], device=device)
        expected = value_and_gradients(prroi_pool_multilevel, [x.contiguous() for x in inputs], rois, levels)
    else:
        inputs = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in inputs]
    rois = torch.stack([rois, rois], dim=1)[:, 0]
    actual = value_and_gradients(prroi_pool_multilevel, inputs, rois, levels)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert actual[0].is_contiguous()
    if layout == "channels_last":
        assert all(g.is_contiguous(memory_format=torch.channels_last) for g in actual[2:])


# Fewer and more channels than cells, whole and partial blocks of the conversion between the layouts.
@pytest.mark.parametrize("shape", [(2, 70, 9, 15), (3, 130, 5, 7), (1, 33, 64, 67), (2, 64, 8, 16), (2, 17, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_layouts_are_converted_without_a_trace(shape, dtype, num_threads):
    generator = torch.Generator().manual_seed(0)
    planar = torch.randn(shape, generator=generator).to(dtype)
    corner = torch.rand(40, 2, generator=generator) * torch.tensor([shape[3], shape[2]])
    boxes = torch.cat([corner - 1, corner + 20 * torch.rand(40, 2, generator=generator)], dim=1)
    rois = torch.cat([torch.arange(40.0)[:, None] % shape[0], boxes], dim=1)
    rois = rois.double() if dtype == torch.float64 else rois
    results = []
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(num_threads)
        for layout in (torch.contiguous_format, torch.channels_last):
            leaves = [planar.contiguous(memory_format=layout).requires_grad_(), rois.clone().requires_grad_()]
            output = prroi_pool(*leaves, 3)
            gradients = torch.autograd.grad(output, leaves, torch.ones_like(output).cumsum(1))
            assert gradients[0].is_contiguous(memory_format=layout)
            results.append([output, *gradients])
    finally:
        torch.set_num_threads(before)
    for ours, theirs in zip(*results, strict=True):
        assert ours.any()
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("device", DEVICES)
def test_incoming_gradient_may_be_strided(device):
    inputs, rois, levels = make_problem(6, device=device)
    inputs[0].requires_grad_()
    rois.requires_grad_()
    output = prroi_pool_multilevel(inputs, rois, levels, 3, SCALES)
    expanded = torch.ones((), dtype=torch.float64, device=device).expand(output.shape)
    dense = torch.autograd.grad(output, [inputs[0], rois], expanded.contiguous(), retain_graph=True)
    for ours, theirs in zip(torch.autograd.grad(output, [inputs[0], rois], expanded), dense, strict=True):
        torch.testing.assert_close(ours, theirs)


# Zero-area boxes are left out: there the output jumps, and their gradient is 0 by definition (tested below).
SMOOTH_BOXES = {name: box for name, box in BOXES.items() if not name.startswith("zero")}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("box", SMOOTH_BOXES.values(), ids=SMOOTH_BOXES.keys())
def test_gradcheck(device, box):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 2, 6, 8, dtype=torch.float64, generator=generator).to(device).requires_grad_()
    boxes = (torch.tensor([box], dtype=torch.float64, device=device) / 0.9).requires_grad_()

    def pool(features, boxes):
        return prroi_pool(features, torch.cat([torch.ones_like(boxes[:, :1]), boxes], dim=1), (3, 2), 0.9)

    assert torch.autograd.gradcheck(pool, (features, boxes), nondet_tol=0 if device == "cpu" else 1e-12)


@pytest.mark.parametrize("device", DEVICES)
def test_gradcheck_multilevel(device):
    inputs, rois, levels = make_problem(2, device=device, size=(6, 8), num_random=0)
    smooth = torch.tensor([not name.startswith("zero") for name in BOXES] * 2, device=device)
    rois, levels = rois[smooth], levels[smooth]

    def pool(first, second, boxes):
        return prroi_pool_multilevel([first, second], torch.cat([rois[:, :1], boxes], dim=1), levels, (2, 3), SCALES)

    leaves = [x.requires_grad_() for x in (*inputs, rois[:, 1:].clone())]
    assert torch.autograd.gradcheck(pool, leaves, fast_mode=True, nondet_tol=0 if device == "cpu" else 1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [name for name in BOXES if name.startswith(("zero", "inverted", "off", "far"))])
def test_boxes_without_an_inside_give_zero(device, name):
    features = torch.randn(1, 9, 6, 8, dtype=torch.float64, device=device, requires_grad=True)
    rois = torch.tensor([[0, *BOXES[name]]], dtype=torch.float64, device=device, requires_grad=True)
    output = prroi_pool(features, rois, 7)
    output.sum().backward()
    assert not output.any()
    assert not features.grad.any()
    assert not rois.grad.any()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_absurd_boxes_are_finite_and_quick(device, dtype):
    big = torch.finfo(dtype).max
    boxes = [(-big, -big, big, big), (-big, 1, big, 3), (big, big, big, big), (1e30, 0, 1e31, 4), (0, 0, 1e-30, 1e-30)]
    rois = torch.tensor([(0, *box) for box in boxes], dtype=dtype, device=device, requires_grad=True)
    features = torch.randn(1, 3, 6, 8, dtype=dtype, device=device, requires_grad=True)
    output = prroi_pool(features, rois, 7)
    output.sum().backward()
    assert output.isfinite().all()
    assert rois.grad.isfinite().all()
    assert features.grad.isfinite().all()


# Shares of the features, and of the gradients to the output, that are no finite numbers.
POISONS = [(0.002, 0), (0.03, 0), (0, 0.01), (0.01, 0.005)]


def poison(tensor, share, generator):
    """Some values of a tensor replaced by NaN and infinities."""
    chosen = torch.rand(tensor.shape, generator=generator) < share
    values = torch.tensor([torch.nan, torch.inf, -torch.inf], dtype=tensor.dtype)
    return torch.where(
        chosen.to(tensor.device), values[torch.randint(3, tensor.shape, generator=generator)].to(tensor), tensor
    )


def poisoned_problem(dtype, device, of_features, of_gradients):
    """As make_problem, with NaN and infinities; and the gradient to the output."""
    inputs, rois, levels = make_problem(3, dtype, device, num_random=60)
    rois = rois.float() if dtype == torch.bfloat16 else rois
    rois[-20:] = rois[-20:].round()  # edges on cells
    generator = torch.Generator().manual_seed(3)
    inputs = [poison(x, of_features, generator) for x in inputs]
    grad_output = torch.randn(len(rois), 3, 7, 5, generator=generator).to(inputs[0])
    return inputs, rois, levels, poison(grad_output, of_gradients, generator)


def assert_poisoned_alike(actual, inputs, rois, levels, grad_output):
    """actual: the output, and the gradients to rois and to the inputs."""
    leaves = [x.clone().requires_grad_() for x in (rois, *inputs)]
    output = prroi_pool_reference(leaves[1:], leaves[0], levels, (7, 5), SCALES)
    expected = [output.detach(), *torch.autograd.grad(output, leaves, grad_output)]
    features_finite, gradients_finite = all(x.isfinite().all() for x in inputs), bool(grad_output.isfinite().all())
    for name, ours, theirs in zip(["output", "rois", "level 0", "level 1"], actual, expected, strict=True):
        # The values of the features do not matter to their gradient, nor that gradient to the output.
        clean = {"output": features_finite, "rois": features_finite and gradients_finite}.get(name, gradients_finite)
        assert ours.isfinite().any() and bool(ours.isfinite().all()) == clean, name
        assert torch.equal(ours.isfinite(), theirs.isfinite()), name
        if name != "rois":  # there the order of the sums decides between NaN and an infinity
            assert torch.equal(ours.isnan(), theirs.isnan()), name
            assert torch.equal(ours[ours.isinf()], theirs[theirs.isinf()]), name
        ours, theirs = (x.double().where(x.isfinite(), 0) for x in (ours, theirs))
        error = (ours - theirs).abs().max() / theirs.abs().max()
        assert error <= 100 * torch.finfo(actual[0].dtype).eps, name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("of_features", "of_gradients"), POISONS)
def test_nan_and_infinity_have_the_same_influence_in_plain_torch(device, dtype, of_features, of_gradients):
    inputs, rois, levels, grad_output = poisoned_problem(dtype, device, of_features, of_gradients)
    leaves = [x.clone().requires_grad_() for x in (rois, *inputs)]
    output = prroi_pool_multilevel(leaves[1:], leaves[0], levels, (7, 5), SCALES)
    actual = [output.detach(), *torch.autograd.grad(output, leaves, grad_output)]
    assert_poisoned_alike(actual, inputs, rois, levels, grad_output)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("function", [prroi_pool_multilevel, prroi_pool_reference], ids=["kernel", "fallback"])
def test_a_bin_without_a_cell_passes_no_nan_on(device, function):
    # The first of three columns of bins, or row, lies off the map.
    rows = [[0, -20.0, 1, 7, 4], [0, 1, -20, 4, 7]]
    features = torch.randn(1, 2, 6, 8, device=device, requires_grad=True)
    rois = torch.tensor(rows, device=device, requires_grad=True)
    output = function([features], rois, None, (3, 3), [1.0])
    grad_output = torch.ones_like(output)
    expected = torch.autograd.grad(output, [features, rois], grad_output, retain_graph=True)
    grad_output[0, :, :, 0] = torch.nan
    grad_output[1, :, 0] = torch.nan
    for ours, theirs in zip(torch.autograd.grad(output, [features, rois], grad_output), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("function", [prroi_pool_multilevel, prroi_pool_reference], ids=["kernel", "fallback"])
def test_extents_beyond_any_number_give_zero(function):
    big = 1.7e308
    rois = torch.tensor([[0, -big, -big, big, big], [0, -big, 1, big, 3]], dtype=torch.float64, requires_grad=True)
    features = torch.randn(1, 3, 6, 8, dtype=torch.float64, requires_grad=True)
    output = function([features], rois, None, (3, 2), [1.0])
    output.sum().backward()
    assert not output.any() and not rois.grad.any() and not features.grad.any()


@pytest.fixture(params=["kernel", "fallback"])
def either(request, monkeypatch):
    """The test runs with the compiled kernel and without."""
    monkeypatch.delitem(_extension._available, "meta", raising=False)
    if request.param == "fallback":
        monkeypatch.setitem(_extension._available, "cpu", False)
    yield
    _extension._available.pop("meta", None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("by_area", [True, False])
@pytest.mark.parametrize("fake", [True, False], ids=["fake", "meta"])
def test_shapes_without_values(either, dtype, by_area, fake):
    inputs, rois, levels = make_problem(4, dtype)
    inputs[1] = inputs[1].contiguous(memory_format=torch.channels_last)
    rois = rois.float() if dtype == torch.float16 else rois
    expected = value_and_gradients(prroi_pool_multilevel, inputs, rois, levels)
    mode = FakeTensorMode()

    def without_values(tensor):
        return mode.from_tensor(tensor) if fake else tensor.to("meta")

    with mode if fake else nullcontext():
        leaves = [without_values(x).requires_grad_() for x in (rois, *inputs)]
        place = (None, SCALES, [100.0]) if by_area else (without_values(levels), SCALES)
        output = prroi_pool_multilevel(leaves[1:], leaves[0], place[0], (7, 5), *place[1:])
        gradients = torch.autograd.grad(output.sum(), leaves)
        maps = [x.detach() for x in leaves[1:]]
        alone = prroi_pool_coordinate_gradient(output.detach(), maps, leaves[0].detach(), *place)
    for found, true in zip([output, *gradients, alone], [*expected, expected[1]], strict=True):
        assert (found.shape, found.dtype) == (true.shape, true.dtype)
        assert found.device.type == ("cpu" if fake else "meta")


def test_without_values_the_arguments_are_checked_too(either):
    with pytest.raises(ValueError, match=r"rois must have shape \(K, 5\)"):
        prroi_pool(torch.ones(1, 3, 6, 8, device="meta"), torch.ones(2, 4, device="meta"), 7)
    with pytest.raises(ValueError, match="at most 536870911 bins"):
        prroi_pool(torch.ones(1, 3, 6, 8, device="meta"), torch.ones(2, 5, device="meta"), 46341)


@pytest.mark.parametrize("device", DEVICES)
def test_batch_index_column_has_no_gradient(device):
    inputs, rois, levels = make_problem(device=device)
    gradient = value_and_gradients(prroi_pool_multilevel, inputs, rois, levels)[1]
    assert not gradient[:, 0].any()
    assert gradient[:, 1:].any()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("num_rois", "batch_size", "channels"), [(0, 2, 3), (0, 0, 3), (4, 2, 0), (0, 0, 0)])
@pytest.mark.parametrize("function", [prroi_pool_multilevel, prroi_pool_reference], ids=["kernel", "fallback"])
def test_empty(device, num_rois, batch_size, channels, function):
    features = torch.randn(batch_size, channels, 6, 8, device=device, requires_grad=True)
    rois = torch.tensor([[0, 1, 1, 5, 5.0]], device=device).repeat(num_rois, 1).requires_grad_()
    output = function([features], rois, None, (7, 5), [1.0])
    assert output.shape == (num_rois, channels, 7, 5)
    output.sum().backward()
    assert features.grad.shape == features.shape
    assert not features.grad.any()
    assert rois.grad.shape == rois.shape
    assert not rois.grad.any()


def test_empty_map():
    assert not prroi_pool(torch.ones(1, 3, 0, 8), torch.tensor([[0, 1, 1, 5, 5.0]]), 7).any()


def test_level_without_a_roi():
    inputs, rois, levels = make_problem()
    rois, levels = rois[levels == 1], levels[levels == 1]
    output, _, first, second = value_and_gradients(prroi_pool_multilevel, inputs, rois, levels)
    torch.testing.assert_close(output, prroi_pool(inputs[1], rois, (7, 5), SCALES[1]))
    assert not first.any()
    assert second.any()


def chosen_levels(function, rois, level_areas):
    """The level that each RoI, inside a map of 100 cells of 1 pixel, is pooled from; -1: none."""
    maps = [torch.full((1, 1, 100, 100), level + 1, dtype=rois.dtype, device=rois.device) for level in range(4)]
    maps = [x.requires_grad_() for x in maps]
    output = function(maps, rois, None, (2, 2), [1.0] * 4, level_areas)[:, 0]
    for level, gradient in enumerate(torch.autograd.grad(output.sum(), maps)):
        assert round(gradient.sum().item()) == 4 * (output[:, 0, 0].round() == level + 1).sum()
    return (output.amax(dim=(1, 2)) - 1).round().long()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [prroi_pool_multilevel, prroi_pool_reference], ids=["kernel", "fallback"])
def test_level_by_area_is_bucketize(device, dtype, function):
    generator = torch.Generator().manual_seed(0)
    corner = 1 + 40 * torch.rand(60, 2, dtype=dtype, generator=generator)
    boxes = torch.cat([corner, corner + 1 + 50 * torch.rand(60, 2, dtype=dtype, generator=generator)], dim=1)
    rois = torch.cat([torch.zeros(60, 1, dtype=dtype), boxes], dim=1).to(device)
    area = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
    # Bounds that are reached exactly: in float32, areas in float64 would be on either side of them.
    bounds = area.sort().values
    for index in range(10, 50, 3):
        level_areas = bounds[[index - 10, index, index + 10]]
        expected = torch.bucketize(area, level_areas, right=True)
        assert len(expected.unique()) == 4 - (index == 10)
        assert torch.equal(chosen_levels(function, rois, level_areas.tolist()), expected)
        above = torch.nextafter(level_areas, level_areas + 1)
        expected = torch.bucketize(area, above, right=True)
        assert torch.equal(chosen_levels(function, rois, above.tolist()), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("function", [prroi_pool_multilevel, prroi_pool_reference], ids=["kernel", "fallback"])
def test_boxes_inside_out_are_of_no_level(device, function):
    rows = [[0, 5, 5, 9, 9], [0, 9, 5, 5, 9], [0, 9, 9, 5, 5], [0, 5, 5, 5, 9], [0, 5, 5, 25, 25]]
    rois = torch.tensor(rows, dtype=torch.float32, device=device)
    assert chosen_levels(function, rois, [16.0, 100.0, 500.0]).tolist() == [1, -1, -1, -1, 2]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_level_by_area_of_half_precision_is_in_float(device, dtype):
    # The area is 121 x 63.5 = 7683.5, which neither type holds.
    rois = torch.tensor([[0, 1, 2, 122, 65.5]], dtype=dtype, device=device)
    side = torch.tensor([[0, 1, 2, 122, 65.5]], dtype=dtype).float()[0]
    area = ((side[3] - side[1]) * (side[4] - side[2])).item()
    maps = [torch.full((1, 1, 130, 130), level, dtype=dtype, device=device) for level in range(2)]
    for function in (prroi_pool_multilevel, prroi_pool_reference):
        assert function(maps, rois, None, (1, 1), [1.0, 1.0], [area]).item() == 1
        assert function(maps, rois, None, (1, 1), [1.0, 1.0], [area + 0.25]).item() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_level_by_area_of_nan_gives_zero_on_cuda():
    rois = torch.tensor([[0, 5, float("nan"), 9, 9], [0, 5, 5, 25, 25]], device="cuda")
    assert chosen_levels(prroi_pool_multilevel, rois, [16.0, 100.0, 500.0]).tolist() == [-1, 2]


@pytest.mark.parametrize("device", DEVICES)
def test_level_by_area_has_the_gradients_of_given_levels(device):
    inputs, rois, _ = make_problem(device=device)
    area = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
    bound = area.clamp(min=0).median().item()
    expected = value_and_gradients(prroi_pool_multilevel, inputs, rois, (area >= bound).long())

    def by_area(inputs, rois, levels, output_size, scales):
        return prroi_pool_multilevel(inputs, rois, None, output_size, scales, [bound])

    for function in (by_area, torch.compile(by_area, fullgraph=True, backend="aot_eager")):
        actual = value_and_gradients(function, inputs, rois, None)
        for ours, theirs in zip(actual, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_threads", [2, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_bits_for_any_number_of_threads(num_threads, dtype):
    inputs, rois, levels = make_problem(40, dtype, num_random=300)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = value_and_gradients(prroi_pool_multilevel, inputs, rois, levels)
        torch.set_num_threads(num_threads)
        actual = value_and_gradients(prroi_pool_multilevel, inputs, rois, levels)
    finally:
        torch.set_num_threads(before)
    for ours, theirs in zip(actual, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("features_needed", [False, True])
@pytest.mark.parametrize("rois_needed", [False, True])
def test_only_the_gradients_asked_for_are_computed(device, features_needed, rois_needed):
    inputs, rois, levels = make_problem(device=device)
    inputs[1].requires_grad_(features_needed)
    rois.requires_grad_(rois_needed)
    output = prroi_pool_multilevel(inputs, rois, levels, 7, SCALES)
    assert output.requires_grad == (features_needed or rois_needed)
    if not output.requires_grad:
        return
    with torch.profiler.profile() as profile:
        output.sum().backward()
    names = {event.name for event in profile.events()}
    assert ("iounet::prroi_pool_feature_gradient" in names) == features_needed
    assert ("iounet::prroi_pool_coordinate_gradient" in names) == rois_needed
    assert inputs[0].grad is None


def test_second_derivative_is_refused():
    features = torch.randn(1, 2, 6, 8, requires_grad=True)
    rois = torch.tensor([[0, 1, 1, 5, 5.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(prroi_pool(features, rois, 3).sum(), rois, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives are not implemented"):
        gradient.sum().backward()
    (gradient,) = torch.autograd.grad(prroi_pool(features, rois, 3).sum(), features, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives are not implemented"):
        torch.autograd.grad(gradient.sum(), rois)


class Named(torch.Tensor):
    """A subclass, as users write them."""


def test_what_the_dispatcher_must_serve_is_left_to_it():
    if not _extension.available("cpu"):
        pytest.skip("there is no compiled kernel")
    features, rois = torch.randn(1, 3, 9, 9), torch.tensor([[0, 1, 1, 5, 5.0]])
    expected = prroi_pool(features, rois, 3)
    negated = torch.complex(features, -features).conj().imag  # a view: the sign is turned when it is read
    assert negated.is_neg()
    torch.testing.assert_close(prroi_pool(negated, rois, 3), expected)
    named = prroi_pool(features.as_subclass(Named), rois, 3)
    assert type(named) is Named and torch.equal(named.as_subclass(torch.Tensor), expected)
    with torch.device("meta"):  # where tensors are made, not where they are computed
        assert torch.equal(prroi_pool(features, rois, 3), expected)
    with torch.inference_mode():
        assert torch.equal(prroi_pool(features.clone(), rois, 3), expected)
    with torch.profiler.profile() as profile:
        prroi_pool(features, rois, 3)
    assert "iounet::prroi_pool" in {event.name for event in profile.events()}


@pytest.mark.parametrize("device", DEVICES)
def test_opcheck(device):
    inputs, rois, levels = make_problem(device=device)
    inputs[1] = inputs[1].contiguous(memory_format=torch.channels_last)
    grad_output = torch.randn(len(rois), 5, 7, 7, dtype=torch.float64, device=device)
    ops = torch.ops.iounet
    torch.library.opcheck(ops.prroi_pool_feature_gradient, (grad_output, inputs, rois, levels, SCALES))
    torch.library.opcheck(ops.prroi_pool_coordinate_gradient, (grad_output, inputs, rois, levels, SCALES))
    leaves = [x.requires_grad_() for x in (*inputs, rois)]
    torch.library.opcheck(ops.prroi_pool, (leaves[:2], leaves[2], levels, 7, 7, SCALES))
    torch.library.opcheck(ops.prroi_pool, (leaves[:1], leaves[2], None, 3, 2, SCALES[:1]))
    torch.library.opcheck(ops.prroi_pool, (leaves[:2], leaves[2], None, 7, 7, SCALES, [300.0]))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("needed", ["inputs", "rois", "neither"])
def test_compiled_gradients_are_those_asked_for(device, needed):
    inputs, rois, levels = make_problem(device=device)
    leaves = {"inputs": inputs, "rois": [rois], "neither": []}[needed]
    for leaf in leaves:
        leaf.requires_grad_()
    compiled = torch.compile(prroi_pool_multilevel, fullgraph=True, backend="aot_eager")
    output = compiled(inputs, rois, levels, 7, SCALES)
    expected = prroi_pool_multilevel(inputs, rois, levels, 7, SCALES)
    assert torch.equal(output, expected)
    assert output.requires_grad == bool(leaves)
    if not leaves:
        return
    with torch.profiler.profile() as profile:
        actual = torch.autograd.grad(output.sum(), leaves)
    for ours, theirs in zip(actual, torch.autograd.grad(expected.sum(), leaves), strict=True):
        torch.testing.assert_close(ours, theirs)
    names = {event.name for event in profile.events()}
    assert ("iounet::prroi_pool_feature_gradient" in names) == (needed == "inputs")
    assert ("iounet::prroi_pool_coordinate_gradient" in names) == (needed == "rois")


@pytest.mark.parametrize("device", DEVICES)
def test_compiles_without_graph_breaks(device):
    inputs, rois, levels = make_problem(device=device)

    def function(inputs, rois, levels, output_size, scales):
        moved = rois + torch.tensor([0, 1.5, -2.5, 1.5, 2.5], device=device)
        return 2 * prroi_pool_multilevel([x + 1 for x in inputs], moved, levels, output_size, scales)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    expected = value_and_gradients(function, inputs, rois, levels)
    for ours, theirs in zip(value_and_gradients(compiled, inputs, rois, levels), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_compiles_with_sizes_that_change():
    features, rois = torch.randn(1, 3, 9, 9), torch.tensor([[0, 1, 1, 5, 5.0]])
    pool = torch.compile(prroi_pool, fullgraph=True, backend="aot_eager", dynamic=True)
    gradient = torch.compile(prroi_pool_coordinate_gradient, fullgraph=True, backend="aot_eager", dynamic=True)
    for count, size, scale in ((1, 3, 0.5), (4, 5, 0.25), (7, (2, 3), 0.25)):
        many = rois.repeat(count, 1)
        output = prroi_pool(features, many, size, scale)
        assert torch.equal(pool(features, many, size, scale), output)
        arguments = (output, [features], many, None, [scale])
        assert torch.equal(gradient(*arguments), prroi_pool_coordinate_gradient(*arguments))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("function", [prroi_pool_multilevel, prroi_pool_reference], ids=["kernel", "fallback"])
def test_autocast_computes_in_float(device, function):
    inputs, rois, levels = make_problem(16, torch.float32, device)
    inputs[1] = inputs[1].bfloat16()
    rounded = [x.float() for x in inputs]
    expected = value_and_gradients(prroi_pool_multilevel, rounded, rois, levels)
    actual = value_and_gradients(function, inputs, rois, levels, torch.autocast(device, dtype=torch.bfloat16))
    assert actual[0].dtype == torch.float32
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual[1], expected[1], rtol=1e-4, atol=1e-4)
    assert actual[3].dtype == torch.bfloat16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_captured_in_a_cuda_graph_and_replayed_with_other_rois(layout):
    inputs, rois, levels = make_problem(16, torch.float32, "cuda")
    inputs = [x.contiguous(memory_format=layout) for x in inputs]
    expected = value_and_gradients(prroi_pool_multilevel, inputs, rois.flip(0), levels.flip(0))
    grad = torch.randn(len(rois), 16, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grad = grad.to(rois)

    def all_three():
        arguments = (grad, inputs, rois, levels, SCALES)
        output = prroi_pool_multilevel(inputs, rois, levels, (7, 5), SCALES)
        ops = torch.ops.iounet
        return [output, ops.prroi_pool_coordinate_gradient(*arguments), *ops.prroi_pool_feature_gradient(*arguments)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda.set_sync_debug_mode("error")  # nothing may wait for the device
        try:
            all_three()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = all_three()
    rois.copy_(rois.flip(0))
    levels.copy_(levels.flip(0))
    graph.replay()
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [5, 16, 64, 200])
def test_a_roi_does_not_depend_on_those_beside_it(device, channels):
    """The kernels take RoIs in an order of their own."""
    inputs, rois, levels = make_problem(channels, torch.float32, device)
    grad = torch.randn(len(rois), channels, 7, 5, generator=torch.Generator().manual_seed(1)).to(device)

    def pooled(rows):
        arguments = (inputs, rois[rows], levels[rows])
        output = prroi_pool_multilevel(*arguments, (7, 5), SCALES)
        return output, prroi_pool_coordinate_gradient(grad[rows], *arguments, SCALES)

    together = pooled(torch.arange(len(rois)))
    one_by_one = [pooled(torch.tensor([row])) for row in range(len(rois))]
    for found, alone in zip(together, zip(*one_by_one, strict=True), strict=True):
        assert torch.equal(found, torch.cat(alone))


@pytest.mark.parametrize("device", DEVICES)
def test_module(device):
    layer = PrRoIPool((3, 5), spatial_scale=0.25)
    assert repr(layer) == "PrRoIPool(output_size=(3, 5), spatial_scale=0.25)"
    features = torch.randn(1, 4, 9, 9, device=device)
    rois = torch.tensor([[0, 3, 5, 20, 29.0]], device=device)
    assert torch.equal(layer(features, rois), prroi_pool(features, rois, (3, 5), 0.25))
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1), torch.nn.Flatten(0)).double()
    assert layer.double()(features.double(), rois.double()).dtype == torch.float64
    assert all(p.dtype == torch.float64 for p in model.parameters())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("by_area", [True, False])
def test_the_coordinate_gradient_alone_is_that_of_autograd(device, compiled, by_area, monkeypatch):
    if not compiled:
        monkeypatch.setattr(_extension, "available", lambda _: False)
    inputs, rois, levels = make_problem(4, torch.float64, device)
    place = (None, SCALES, [200.0]) if by_area else (levels, SCALES)
    leaf = rois.clone().requires_grad_()
    output = prroi_pool_multilevel(inputs, leaf, place[0], (7, 5), *place[1:])
    weights = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(2)).to(device)
    (expected,) = torch.autograd.grad(output, leaf, weights)
    assert expected.abs().max() > 0.1
    gradient = prroi_pool_coordinate_gradient(weights, inputs, rois, *place)
    assert not gradient.requires_grad
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_names():
    assert {"PrRoIPool", "prroi_pool", "prroi_pool_multilevel"} <= set(iounet.ops.__all__)
    assert all(callable(getattr(iounet.ops, name)) for name in iounet.ops.__all__)


coordinates = st.floats(-20, 40, allow_subnormal=False)
extents = st.floats(1e-3, 60)


@settings(max_examples=60, deadline=None)
@given(st.tuples(coordinates, coordinates, extents, extents), st.integers(1, 9), st.integers(1, 9))
def test_constant_map_gives_the_constant_inside(geometry, pooled_height, pooled_width):
    # The interpolant of a constant map is the constant within the hull of the cells: [0, 19] x [0, 14] here.
    x, y, width, height = geometry
    box = torch.tensor([x, y, x + width, y + height], dtype=torch.float64)
    box[0::2] = box[0::2].clamp(0, 19)
    box[1::2] = box[1::2].clamp(0, 14)
    if box[2] - box[0] < 1e-9 or box[3] - box[1] < 1e-9:
        return
    features = torch.full((1, 3, 15, 20), 2.5, dtype=torch.float64)
    rois = torch.cat([torch.zeros(1, dtype=torch.float64), box])[None]
    output = prroi_pool(features, rois, (pooled_height, pooled_width))
    torch.testing.assert_close(output, torch.full_like(output, 2.5), rtol=1e-12, atol=0)


@settings(max_examples=60, deadline=None)
@given(st.tuples(coordinates, coordinates, extents, extents), st.integers(-5, 5), st.integers(-5, 5))
def test_moving_map_and_box_together_changes_nothing(geometry, dy, dx):
    # The map is zero outside, so padding it by 5 shifts the origin; then the box is moved with it.
    x, y, width, height = geometry
    features = torch.randn(1, 3, 15, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved = torch.nn.functional.pad(features, (5 + dx, 5 - dx, 5 + dy, 5 - dy))
    roi = torch.tensor([[0, x, y, x + width, y + height]], dtype=torch.float64)
    shift = torch.tensor([0, 5 + dx, 5 + dy, 5 + dx, 5 + dy], dtype=torch.float64)
    # The sum with the shift is rounded: 1e-14 of a bin that may be 1e-4 wide.
    torch.testing.assert_close(prroi_pool(moved, roi + shift, 7), prroi_pool(features, roi, 7), rtol=1e-9, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.tuples(coordinates, coordinates, extents, extents), st.floats(0.1, 0.9))
def test_integrals_add_up(geometry, fraction):
    # The mean times the area is an integral: of a box, and of the two parts that it is cut into.
    x, y, width, height = geometry
    features = torch.randn(1, 3, 15, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cut = x + fraction * width
    rois = torch.tensor(
        [[0, x, y, x + width, y + height], [0, x, y, cut, y + height], [0, cut, y, x + width, y + height]]
    )
    rois = rois.double()
    means = prroi_pool(features, rois, 1)[:, :, 0, 0]
    areas = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
    whole, left, right = means * areas[:, None]
    torch.testing.assert_close(left + right, whole, rtol=1e-9, atol=1e-9)

"""Every refusal, by its message: kernel and fallback say the same, and so does every public function."""

import re
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from iounet.ops import PrRoIPool, _extension, prroi_pool, prroi_pool_coordinate_gradient, prroi_pool_multilevel


@pytest.fixture(params=["kernel", "fallback"], autouse=True)
def path(request, monkeypatch):
    if request.param == "fallback":
        monkeypatch.setitem(_extension._available, "cpu", False)
    elif not _extension.available("cpu"):
        pytest.skip("there is no compiled kernel to test")
    return request.param


def features(channels=3, dtype=torch.float32):
    return torch.zeros(2, channels, 6, 8, dtype=dtype)


def rois(*rows, dtype=torch.float32):
    return torch.tensor(rows or [[0, 1, 1, 5, 5]], dtype=dtype)


SINGLE = {
    "input of 3 dimensions": (
        ValueError,
        "input must have 4 dimensions (N, C, H, W), got shape [3, 6, 8]",
        lambda: prroi_pool(torch.zeros(3, 6, 8), rois(), 7),
    ),
    "integer input": (
        TypeError,
        "input must be of a floating point dtype, got torch.int64",
        lambda: prroi_pool(features().long(), rois(), 7),
    ),
    "integer rois": (
        TypeError,
        "rois must be of a floating point dtype, got torch.int64",
        lambda: prroi_pool(features(), rois().long(), 7),
    ),
    "float rois for a double input": (
        TypeError,
        "rois must be torch.float64 like input (or float32 for half), got torch.float32",
        lambda: prroi_pool(features(dtype=torch.float64), rois(), 7),
    ),
    "half rois for a float input": (
        TypeError,
        "rois must be torch.float32 like input (or float32 for half), got torch.float16",
        lambda: prroi_pool(features(), rois().half(), 7),
    ),
    "rois of 1 dimension": (
        ValueError,
        "rois must have shape (K, 5): batch index, x1, y1, x2, y2; got [5]",
        lambda: prroi_pool(features(), rois()[0], 7),
    ),
    "rois of 4 columns": (
        ValueError,
        "rois must have shape (K, 5): batch index, x1, y1, x2, y2; got [1, 4]",
        lambda: prroi_pool(features(), rois()[:, 1:], 7),
    ),
    "another device": (
        ValueError,
        "input and rois must be on one device, got meta and cpu",
        lambda: prroi_pool(features().to("meta"), rois(), 7),
    ),
    "batch index too large": (
        ValueError,
        "batch index must be an integer in [0, 2), got 2 in row 1",
        lambda: prroi_pool(features(), rois([0, 1, 1, 5, 5], [2, 1, 1, 5, 5]), 7),
    ),
    "negative batch index": (
        ValueError,
        "batch index must be an integer in [0, 2), got -1 in row 0",
        lambda: prroi_pool(features(), rois([-1, 1, 1, 5, 5]), 7),
    ),
    "fractional batch index": (
        ValueError,
        "batch index must be an integer in [0, 2), got 0.5 in row 0",
        lambda: prroi_pool(features(), rois([0.5, 1, 1, 5, 5]), 7),
    ),
    "batch index into an empty batch": (
        ValueError,
        "batch index must be an integer in [0, 0), got 0 in row 0",
        lambda: prroi_pool(features()[:0], rois(), 7),
    ),
    "NaN": (
        ValueError,
        "rois must be finite, got [0, 1, nan, 5, 5] in row 1",
        lambda: prroi_pool(features(), rois([0, 1, 1, 5, 5], [0, 1, float("nan"), 5, 5]), 7),
    ),
    "infinity": (
        ValueError,
        "rois must be finite, got [0, 1, 1, inf, 5] in row 0",
        lambda: prroi_pool(features(), rois([0, 1, 1, float("inf"), 5]), 7),
    ),
    "NaN as the batch index": (
        ValueError,
        "rois must be finite, got [nan, 1, 1, 5, 5] in row 0",
        lambda: prroi_pool(features(), rois([float("nan"), 1, 1, 5, 5]), 7),
    ),
    "output_size 0": (
        ValueError,
        "output_size must be one or two positive integers, got 0",
        lambda: prroi_pool(features(), rois(), 0),
    ),
    "negative output_size": (
        ValueError,
        "output_size must be one or two positive integers, got (7, -1)",
        lambda: prroi_pool(features(), rois(), (7, -1)),
    ),
    "three sizes": (
        ValueError,
        "output_size must be one or two positive integers, got (7, 7, 7)",
        lambda: prroi_pool(features(), rois(), (7, 7, 7)),
    ),
    **{
        f"output_size {size!r}": (
            TypeError,
            f"output_size must be one or two positive integers, got {size!r}",
            lambda size=size: prroi_pool(features(), rois(), size),
        )
        for size in ((7.5, 7), 3.0, True, (7, False), "7", None, np.float64(3), np.array([7, 7]), torch.tensor(7))
    },
    **{
        f"output_size of {height} x {width}": (
            ValueError,
            f"output_size must be of at most 536870911 bins, got {height} x {width}",
            lambda size=(height, width): prroi_pool(features(), rois(), size),
        )
        # Some whose product is small, or negative, as a number of 32 or 64 bits.
        for height, width in ((2**29, 1), (46341, 46341), (2**31 - 1, 1), (2**16, 2**16), (2**31, 2), (10**30, 1))
    },
    "a map too wide": (
        ValueError,
        "C, H and W of input must be at most 536870911, got shape [2, 3, 6, 536870912]",
        lambda: prroi_pool(features()[..., :1].expand(2, 3, 6, 2**29), rois(), 7),
    ),
    "an array as input": (
        TypeError,
        "input must be a tensor, got a ndarray",
        lambda: prroi_pool(features().numpy(), rois(), 7),
    ),
    "a list as rois": (TypeError, "rois must be a tensor, got a list", lambda: prroi_pool(features(), [[0] * 5], 7)),
    **{
        f"spatial_scale {scale}": (
            ValueError,
            f"spatial_scale must be positive and finite, got {scale}",
            lambda scale=scale: prroi_pool(features(), rois(), 7, scale),
        )
        for scale in (0.0, -0.5, float("nan"), float("inf"))
    },
    **{
        f"spatial_scale {scale!r}": (
            TypeError,
            f"spatial_scale must be a real number, got {scale!r}",
            lambda scale=scale: prroi_pool(features(), rois(), 7, scale),
        )
        for scale in (True, "0.5", None, 1j, np.True_, torch.tensor(0.5))
    },
    "spatial_scale of numpy": (
        ValueError,
        "spatial_scale must be positive and finite, got nan",
        lambda: prroi_pool(features(), rois(), 7, np.float32("nan")),
    ),
    "spatial_scale beyond any float": (
        ValueError,
        "spatial_scale must be a number that a float can hold, got 1000",
        lambda: prroi_pool(features(), rois(), 7, 10**400),
    ),
}

MULTILEVEL = {
    "one tensor as inputs": (
        TypeError,
        "inputs must be a sequence of tensors, one per level, got a Tensor",
        lambda: prroi_pool_multilevel(features(), rois(), None, 7, [1.0, 1.0]),
    ),
    "one number as scales": (
        TypeError,
        "spatial_scale must be a sequence of real numbers, got 0.5",
        lambda: prroi_pool_multilevel([features()], rois(), None, 7, 0.5),
    ),
    "one number as areas": (
        TypeError,
        "level_areas must be a sequence of real numbers, got 9.0",
        lambda: prroi_pool_multilevel([features()] * 2, rois(), None, 7, [1.0, 0.5], 9.0),
    ),
    "a bool as an area": (
        TypeError,
        "level_areas must be a real number, got True",
        lambda: prroi_pool_multilevel([features()] * 2, rois(), None, 7, [1.0, 0.5], [True]),
    ),
    "a list as levels": (
        TypeError,
        "levels must be a tensor, got a list",
        lambda: prroi_pool_multilevel([features()] * 2, rois(), [0], 7, [1.0, 0.5]),
    ),
    "no map": (
        ValueError,
        "there must be at least one feature map",
        lambda: prroi_pool_multilevel([], rois(), None, 7, []),
    ),
    "too few scales": (
        ValueError,
        "got 1 spatial_scales for 2 feature maps",
        lambda: prroi_pool_multilevel([features(), features()], rois(), torch.tensor([0]), 7, [1.0]),
    ),
    "levels that differ in C": (
        ValueError,
        "all levels must agree in N and C, got [2, 3, 6, 8] and [2, 4, 6, 8]",
        lambda: prroi_pool_multilevel([features(), features(4)], rois(), torch.tensor([0]), 7, [1.0, 0.5]),
    ),
    "levels that differ in dtype": (
        TypeError,
        "all levels must have one dtype, got torch.float32 and torch.float64",
        lambda: prroi_pool_multilevel([features(), features().double()], rois(), torch.tensor([0]), 7, [1.0, 0.5]),
    ),
    "no levels": (
        ValueError,
        "levels or level_areas must be given for 2 feature maps",
        lambda: prroi_pool_multilevel([features(), features()], rois(), None, 7, [1.0, 0.5]),
    ),
    "levels and areas": (
        ValueError,
        "levels and level_areas exclude each other",
        lambda: prroi_pool_multilevel([features(), features()], rois(), torch.tensor([0]), 7, [1.0, 0.5], [9.0]),
    ),
    "too many areas": (
        ValueError,
        "got 2 level_areas for 2 feature maps; there must be one less",
        lambda: prroi_pool_multilevel([features(), features()], rois(), None, 7, [1.0, 0.5], [9.0, 16.0]),
    ),
    "areas that descend": (
        ValueError,
        "level_areas must be ascending and not negative, got [9.0, 4.0]",
        lambda: prroi_pool_multilevel([features()] * 3, rois(), None, 7, [1.0, 0.5, 0.25], [9, 4]),
    ),
    "NaN as an area": (
        ValueError,
        "level_areas must be ascending and not negative, got [nan]",
        lambda: prroi_pool_multilevel([features()] * 2, rois(), None, 7, [1.0, 0.5], [float("nan")]),
    ),
    "levels of another dtype": (
        TypeError,
        "levels must be torch.int64, got torch.float32",
        lambda: prroi_pool_multilevel([features(), features()], rois(), torch.zeros(1), 7, [1.0, 0.5]),
    ),
    "levels of another length": (
        ValueError,
        "levels must have shape (1,), one per RoI; got [2]",
        lambda: prroi_pool_multilevel([features(), features()], rois(), torch.tensor([0, 1]), 7, [1.0, 0.5]),
    ),
    "levels on another device": (
        ValueError,
        "levels and rois must be on one device, got meta and cpu",
        lambda: prroi_pool_multilevel([features(), features()], rois(), torch.tensor([0]).to("meta"), 7, [1.0, 0.5]),
    ),
    "level too large": (
        ValueError,
        "levels must be in [0, 2), got 2 in row 0",
        lambda: prroi_pool_multilevel([features(), features()], rois(), torch.tensor([2]), 7, [1.0, 0.5]),
    ),
    "negative level": (
        ValueError,
        "levels must be in [0, 2), got -1 in row 0",
        lambda: prroi_pool_multilevel([features(), features()], rois(), torch.tensor([-1]), 7, [1.0, 0.5]),
    ),
}
CASES = {**SINGLE, **MULTILEVEL}


@pytest.mark.parametrize(("error", "message", "call"), CASES.values(), ids=CASES.keys())
def test_message(error, message, call):
    with pytest.raises(error, match="^" + re.escape("prroi_pool: " + message)):
        call()


def gradient_of_pool(inputs, rois, levels, output_size, spatial_scales, level_areas=None):
    """The arguments of prroi_pool_multilevel, put to prroi_pool_coordinate_gradient."""
    grad_output = torch.ones(len(rois), 3, output_size, output_size)
    return prroi_pool_coordinate_gradient(grad_output, inputs, rois, levels, spatial_scales, level_areas)


SHARED = {name: case for name, case in CASES.items() if "size" not in name}


@pytest.mark.parametrize(("error", "message", "call"), SHARED.values(), ids=SHARED.keys())
def test_the_coordinate_gradient_alone_refuses_the_same(error, message, call, monkeypatch):
    here = sys.modules[__name__]
    monkeypatch.setattr(here, "prroi_pool_multilevel", gradient_of_pool)
    monkeypatch.setattr(
        here, "prroi_pool", lambda input, rois, size, scale=1.0: gradient_of_pool([input], rois, None, size, [scale])
    )
    with pytest.raises(error, match="^" + re.escape("prroi_pool: " + message)):
        call()


@pytest.mark.parametrize(
    ("error", "message", "grad_output"),
    [
        (TypeError, "grad_output must be a tensor, got a float", 1.0),
        (TypeError, "grad_output must be of a floating point dtype, got torch.int64", torch.ones(1, 3, 7, 7).long()),
        (ValueError, "grad_output must have shape (1, 3, ph, pw) with one bin or more, got []", torch.ones(())),
        (ValueError, "grad_output must have shape (1, 3, ph, pw) with one bin or more, got [2, 3, 7, 7]", (2, 3, 7, 7)),
        (ValueError, "grad_output must have shape (1, 3, ph, pw) with one bin or more, got [1, 4, 7, 7]", (1, 4, 7, 7)),
        (ValueError, "grad_output must have shape (1, 3, ph, pw) with one bin or more, got [1, 3, 7]", (1, 3, 7)),
        (ValueError, "grad_output must have shape (1, 3, ph, pw) with one bin or more, got [1, 3, 0, 7]", (1, 3, 0, 7)),
        (ValueError, "output_size must be of at most 536870911 bins, got 46341 x 46341", (1, 3, 46341, 46341)),
        (ValueError, "grad_output and rois must be on one device, got meta and cpu", torch.ones(1, 3, 7, 7).to("meta")),
    ],
)
def test_grad_output_is_checked(error, message, grad_output):
    if isinstance(grad_output, tuple):
        grad_output = torch.ones(()).expand(grad_output)
    with pytest.raises(error, match="^" + re.escape("prroi_pool: " + message)):
        prroi_pool_coordinate_gradient(grad_output, [features()], rois(), None, [1.0])


def test_the_module_refuses_when_it_is_made():
    with pytest.raises(TypeError, match=r"output_size must be one or two positive integers, got 3\.0"):
        PrRoIPool(3.0)
    with pytest.raises(ValueError, match="spatial_scale must be positive and finite, got 0"):
        PrRoIPool(3, 0)
    layer = PrRoIPool(np.int64(3), np.float32(0.5))
    assert (type(layer.output_size), type(layer.spatial_scale)) == (int, float)
    assert repr(PrRoIPool([3, np.int64(2)])) == "PrRoIPool(output_size=(3, 2), spatial_scale=1.0)"


@pytest.mark.parametrize("size", [np.int64(3), np.uint8(3), (3, np.int32(3)), [3, 3], torch.Size([3, 3])], ids=repr)
@pytest.mark.parametrize("scale", [np.float32(0.5), np.float64(0.5), Fraction(1, 2), 0.5], ids=repr)
def test_any_type_of_number_is_taken(size, scale):
    maps = torch.randn(2, 3, 6, 8)
    assert torch.equal(prroi_pool(maps, rois(), size, scale), prroi_pool(maps, rois(), 3, 0.5))
    assert torch.equal(prroi_pool(maps, rois(), size, np.int64(1)), prroi_pool(maps, rois(), 3))


def test_a_level_of_another_dtype_is_cast_or_refused_under_autocast():
    arguments = ([features(), features().bfloat16()], rois(), torch.tensor([0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert prroi_pool_multilevel(*arguments, 7, [1.0, 0.5]).dtype == torch.float32
        assert prroi_pool_coordinate_gradient(torch.ones(1, 3, 7, 7), *arguments, [1.0, 0.5]).dtype == torch.float32
        with pytest.raises(TypeError, match="input must be of a floating point dtype, got torch.int64"):
            prroi_pool_multilevel([features(), features().long()], *arguments[1:], 7, [1.0, 0.5])


def test_a_size_beyond_the_memory_is_a_plain_error():
    with pytest.raises((RuntimeError, MemoryError), match="can't allocate memory"):
        prroi_pool(features()[:, :1].expand(2, 2**20, 6, 8), rois(), (2**14, 2**14))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_cuda_such_rois_give_zero():
    nan = float("nan")
    bad = rois([0, 1, nan, 5, 5], [2, 1, 1, 5, 5], [-1, 1, 1, 5, 5], [0.5, 1, 1, 5, 5], [0, 1, 1, float("inf"), 5])
    bad = bad.cuda().requires_grad_()
    output = prroi_pool(torch.ones(2, 3, 6, 8, device="cuda"), bad, 7)
    output.sum().backward()
    assert not output.any()
    assert not bad.grad.any()


@pytest.mark.parametrize("call", [prroi_pool, lambda x, r, size, **named: PrRoIPool(size, **named)(x, r)])
def test_a_roi_that_is_not_finite_may_give_zero(path, call):
    nan = float("nan")
    lost = rois([0, 1, 1, 5, 5], [0, nan, 1, 5, 5], [nan, 1, 1, 5, 5], [0, 1, 1, 5, float("inf")]).requires_grad_()
    maps = torch.arange(2 * 3 * 6 * 8.0).square().reshape(2, 3, 6, 8).requires_grad_()
    output = call(maps, lost, 2, non_finite="zero")
    output.sum().backward()
    assert output[0].any() and not output[1:].any()
    assert maps.grad.any() and maps.grad.isfinite().all()
    assert lost.grad[0].any() and not lost.grad[1:].any()
    with pytest.raises(ValueError, match='non_finite must be "error" or "zero", got \'nan\''):
        call(maps, lost, 2, non_finite="nan")


def test_direct_calls_of_the_operators_are_checked(path):
    if path == "fallback":
        pytest.skip("the fallback has no operators")
    ops = torch.ops.iounet
    with pytest.raises(ValueError, match=r"rois must have shape \(K, 5\)"):
        ops.prroi_pool([features()], torch.zeros(1, 4), None, 7, 7, [1.0])
    with pytest.raises(ValueError, match="got 0 spatial_scales for 1 feature maps"):
        ops.prroi_pool([features()], rois(), None, 7, 7, [])
    with pytest.raises(ValueError, match="output_size must be positive"):
        ops.prroi_pool([features()], rois(), None, 0, 7, [1.0])
    for height, width in ((46341, 46341), (2**62, 2**62), (2**29, 1)):
        with pytest.raises(ValueError, match=f"output_size must be of at most 536870911 bins, got {height} x {width}"):
            ops.prroi_pool([features()], rois(), None, height, width, [1.0])
    with pytest.raises(ValueError, match="C, H and W of input must be at most 536870911"):
        ops.prroi_pool([features()[..., :1].expand(2, 3, 6, 2**29)], rois(), None, 7, 7, [1.0])
    with pytest.raises(ValueError, match="levels or level_areas must be given for 2 feature maps"):
        ops.prroi_pool([features(), features()], rois(), None, 7, 7, [1.0, 1.0])
    with pytest.raises(ValueError, match="levels and level_areas exclude each other"):
        ops.prroi_pool([features()], rois(), torch.tensor([0]), 7, 7, [1.0], [])
    for areas in ([], [4.0, 9.0, 16.0], [9.0, 4.0]):
        with pytest.raises(ValueError, match="level_areas"):
            ops.prroi_pool([features()] * 3, rois(), None, 7, 7, [1.0] * 3, areas)
    with pytest.raises(TypeError, match="levels must be torch.int64"):
        ops.prroi_pool([features()], rois(), torch.zeros(1), 7, 7, [1.0])
    with pytest.raises(ValueError, match=r"levels must have shape \(1,\), one per RoI"):
        ops.prroi_pool([features()], rois(), torch.tensor([0, 0]), 7, 7, [1.0])
    with pytest.raises(ValueError, match="agree in N and C"):
        ops.prroi_pool([features(), features(4)], rois(), torch.tensor([0]), 7, 7, [1.0, 1.0])
    with pytest.raises(TypeError, match="one dtype"):
        ops.prroi_pool([features(), features().double()], rois(), torch.tensor([0]), 7, 7, [1.0, 1.0])
    with pytest.raises(TypeError, match="floating point dtype"):
        ops.prroi_pool([features().long()], rois(), None, 7, 7, [1.0])
    for gradient in (ops.prroi_pool_feature_gradient, ops.prroi_pool_coordinate_gradient):
        with pytest.raises(ValueError, match=r"grad_output must have shape \(1, 3, ph, pw\)"):
            gradient(torch.zeros(2, 3, 7, 7), [features()], rois(), None, [1.0])

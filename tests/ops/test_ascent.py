"""The refinement step: the compiled kernels against plain torch, edge cases, messages."""

import numpy as np
import pytest
import torch

from iounet.ops import _extension, ascent_step_

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
STEP, OMEGA_1, OMEGA_2 = 0.75, 0.001, -0.01


def example(columns=5, dtype=torch.float64, device="cpu"):
    """Boxes and what else the step takes; every combination of a change, of having stopped, of a NaN is among them."""
    generator = torch.Generator().manual_seed(0)
    changes = torch.tensor([0, 0.0005, -0.0005, 0.001, -0.001, 0.01, -0.01, -0.0101, 0.5, -0.5, torch.nan], dtype=dtype)
    previous = torch.zeros(2 * len(changes), dtype=dtype)
    boxes = torch.rand(len(previous), columns, generator=generator, dtype=dtype) * 50
    boxes[:, -2:] += boxes[:, -4:-2]
    gradient = torch.randn(boxes.shape, generator=generator, dtype=dtype)
    stopped = torch.arange(len(previous)) % 2 == 1
    gradient[-1] = torch.nan
    return [tensor.to(device) for tensor in (boxes, stopped, gradient, changes.repeat_interleave(2), previous)]


def by_hand(boxes, stopped, gradient, ious, previous):
    """Algorithm 2, box by box."""
    boxes, stopped = boxes.clone(), stopped.clone()
    for k, box in enumerate(boxes):
        if previous is not None:
            change = ious[k] - previous[k]
            stopped[k] |= bool(abs(change) < OMEGA_1 or change < OMEGA_2)
        if not stopped[k]:
            w, h = box[-2] - box[-4], box[-1] - box[-3]
            box[-4:] += STEP * gradient[k, -4:] * torch.stack([w, h, w, h])
    return boxes, stopped


@pytest.fixture(params=["kernel", "plain torch"])
def implementation(request, monkeypatch):
    if request.param == "plain torch":
        monkeypatch.setattr(_extension, "available", lambda _: False)
    elif not _extension.available("cpu"):
        pytest.skip("there is no compiled kernel")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-4)])
@pytest.mark.parametrize("columns", [4, 5, 7])
@pytest.mark.parametrize("first", [True, False])
def test_equals_the_algorithm(implementation, device, dtype, tolerance, columns, first):
    boxes, stopped, gradient, ious, previous = example(columns, dtype, device)
    previous = None if first else previous
    expected, ended = by_hand(*(x if x is None else x.cpu() for x in (boxes, stopped, gradient, ious, previous)))
    before = boxes.clone()
    assert ascent_step_(boxes, stopped, gradient, ious, previous, STEP, OMEGA_1, OMEGA_2) is None
    torch.testing.assert_close(boxes.cpu(), expected, rtol=0, atol=tolerance)
    assert torch.equal(stopped.cpu(), ended)
    assert torch.equal(boxes[stopped], before[stopped]), "to the last bit, and not NaN"
    assert torch.equal(boxes[:, :-4], before[:, :-4])
    assert first or 2 < int(ended.sum()) - len(ended) // 2 < len(ended) // 2  # some stop now, some go on


def test_thresholds_are_exclusive(implementation):
    change = torch.tensor([0.25, -0.25, 0.5, -0.5, -0.75])  # exact in binary
    stopped = torch.zeros(5, dtype=torch.bool)
    ascent_step_(torch.rand(5, 4), stopped, torch.zeros(5, 4), change, torch.zeros(5), 1.0, 0.25, -0.5)
    assert stopped.tolist() == [False, False, False, False, True]
    ascent_step_(torch.rand(5, 4), stopped, torch.zeros(5, 4), change, torch.zeros(5), 1.0, 0.2500001, -0.5)
    assert stopped.tolist() == [True, True, False, False, True]


def test_no_boxes(implementation):
    none = torch.zeros(0, 5)
    ascent_step_(none, none[:, 0].bool(), none, none[:, 0], none[:, 0], STEP, OMEGA_1, OMEGA_2)


@pytest.mark.parametrize("device", DEVICES)
def test_opcheck_and_strided_arguments(device):
    if not _extension.available(device):
        pytest.skip("there is no compiled kernel")
    boxes, stopped, gradient, ious, previous = example(device=device)
    arguments = (boxes.clone(), stopped.clone(), gradient.nan_to_num(0.5), ious.nan_to_num(0.5), previous)
    torch.library.opcheck(torch.ops.iounet.ascent_step_, (*arguments, STEP, OMEGA_1, OMEGA_2))
    moved = boxes.clone()
    strided = gradient.t().contiguous().t(), ious.repeat(2, 1).t().contiguous()[:, 0]
    assert not strided[0].is_contiguous() and not strided[1].is_contiguous()
    ascent_step_(moved, stopped.clone(), *strided, previous, STEP, OMEGA_1, OMEGA_2)
    ascent_step_(boxes, stopped, gradient, ious, previous, STEP, OMEGA_1, OMEGA_2)
    assert torch.equal(moved.nan_to_num(), boxes.nan_to_num())


@pytest.mark.parametrize(
    ("index", "wrong", "error", "message"),
    [
        (0, lambda t: t[:, :3], ValueError, r"boxes must have shape \(K, 4 or more\), got \[22, 3\]"),
        (0, lambda t: t.half(), TypeError, "boxes must be float32 or float64, got torch.float16"),
        (0, lambda t: t.float(), TypeError, "gradient must be torch.float32 for boxes of torch.float32, got torch.flo"),
        (0, lambda t: t.repeat(1, 2)[:, :5], ValueError, "boxes must be contiguous, as it is written to"),
        (0, lambda t: t.tolist(), TypeError, "boxes must be a tensor, got a list"),
        (1, lambda t: t.int(), TypeError, "stopped must be torch.bool for boxes of torch.float64, got torch.int32"),
        (1, lambda t: t[1:], ValueError, r"stopped must have shape \[22\] for boxes of .*, got \[21\]"),
        (1, lambda t: t.repeat(2)[::2], ValueError, "stopped must be contiguous, as it is written to"),
        (2, lambda t: t[:, 1:], ValueError, r"gradient must have shape \[22, 5\] for boxes of .*, got \[22, 4\]"),
        (2, lambda t: t.float(), TypeError, "gradient must be torch.float64 for boxes of torch.float64, got torch.flo"),
        (2, lambda t: t.to("meta"), ValueError, "gradient must be on cpu like boxes, got meta"),
        (3, lambda t: t[:, None], ValueError, r"ious must have shape \[22\] for boxes of .*, got \[22, 1\]"),
        (3, lambda t: t.float(), TypeError, "ious must be torch.float64 for boxes of torch.float64, got torch.float32"),
        (4, lambda t: t[:5], ValueError, r"previous must have shape \[22\] for boxes of .*, got \[5\]"),
        (4, lambda t: 0.5, TypeError, "previous must be a tensor, got a float"),
        (5, lambda _: torch.inf, ValueError, "step_size must be finite, got inf"),
        (5, lambda _: torch.nan, ValueError, "step_size must be finite, got nan"),
        (5, lambda _: True, TypeError, "step_size must be a real number, got True"),
        (6, lambda _: torch.nan, ValueError, "omega_1 must not be NaN"),
        (7, lambda _: np.float32("nan"), ValueError, "omega_2 must not be NaN"),
        (7, lambda _: "-0.01", TypeError, "omega_2 must be a real number, got '-0.01'"),
    ],
)
def test_bad_input_is_named(implementation, index, wrong, error, message):
    arguments = [*example(), STEP, OMEGA_1, OMEGA_2]
    arguments[index] = wrong(arguments[index])
    with pytest.raises(error, match="^ascent_step_: " + message):
        ascent_step_(*arguments)


def test_numbers_of_numpy_are_taken(implementation):
    expected, found = example(), example()
    ascent_step_(*expected, 0.5, 0.25, -0.5)
    ascent_step_(*found, np.float32(0.5), np.float64(0.25), np.float16(-0.5))
    assert torch.equal(found[0].nan_to_num(), expected[0].nan_to_num()) and torch.equal(found[1], expected[1])


def test_on_meta_nothing_happens(implementation):
    assert ascent_step_(*example(device="meta"), STEP, OMEGA_1, OMEGA_2) is None


def test_direct_calls_of_the_operator_are_checked():
    if not _extension.available("cpu"):
        pytest.skip("there is no compiled kernel")
    for index, wrong, error, message in (
        (0, lambda t: t[:, :3], ValueError, "boxes must have shape"),
        (0, lambda t: t.half(), TypeError, "boxes must be float32 or float64, got torch.float16"),
        (0, lambda t: t.repeat(1, 2)[:, :5], ValueError, "boxes must be contiguous, as it is written to"),
        (1, lambda t: t.int(), TypeError, "stopped must be torch.bool for boxes"),
        (2, lambda t: t[:, 1:], ValueError, r"gradient must have shape \[\d+, 5\]"),
        (4, lambda t: t[:5], ValueError, r"previous must have shape \[\d+\]"),
    ):
        arguments = example()
        arguments[index] = wrong(arguments[index])
        with pytest.raises(error, match=message):
            torch.ops.iounet.ascent_step_(*arguments, STEP, OMEGA_1, OMEGA_2)

import pytest
import torch
from torch import Tensor, nn

from iounet.core.boxes import box_iou
from iounet.core.refine import refine_boxes

TARGETS = torch.tensor([[10.0, 10.0, 50.0, 40.0], [60.0, 20.0, 90.0, 90.0]], dtype=torch.float64)


def hill(boxes: Tensor, labels: Tensor) -> Tensor:
    """A smooth IoU-like hill around the target of each label: differentiable, in (0, 1]."""
    target = TARGETS[labels].to(boxes)
    size = (target[:, 2:] - target[:, :2]).repeat(1, 2)
    return torch.exp(-(((boxes - target) / size) ** 2).sum(1))


def slow_refine(predict, boxes, labels, step_size=0.5, num_steps=5, omega_1=0.001, omega_2=-0.01):
    """Algorithm 2 for one box after the other."""
    result_boxes, result_ious = [], []
    for box, label in zip(boxes, labels, strict=True):
        box, label = box.detach().clone()[None], label[None]
        score = predict(box, label).detach()
        for _ in range(num_steps):
            leaf = box.clone().requires_grad_()
            with torch.enable_grad():
                predict(leaf, label).sum().backward()
            width, height = float(box[0, 2] - box[0, 0]), float(box[0, 3] - box[0, 1])
            box = box + step_size * leaf.grad * box.new_tensor([width, height, width, height])
            previous, score = score, predict(box, label).detach()
            if abs(score - previous) < omega_1 or score - previous < omega_2:
                break
        result_boxes.append(box[0])
        result_ious.append(score[0])
    return torch.stack(result_boxes), torch.stack(result_ious)


def jittered(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n,), generator=generator)
    return TARGETS[labels] + torch.randn(n, 4, generator=generator, dtype=torch.float64) * 6, labels


@pytest.mark.parametrize("step_size", [0.5, 3.0, 40.0, 400.0])
@pytest.mark.parametrize("num_steps", [1, 2, 5, 12])
def test_equals_box_by_box(step_size, num_steps):
    boxes, labels = jittered(40)
    boxes[0] = TARGETS[labels[0]]  # converged from the start
    trace = []
    refined, ious = refine_boxes(hill, boxes, labels, step_size, num_steps, trace=trace)
    expected, expected_ious = slow_refine(hill, boxes, labels, step_size, num_steps)
    torch.testing.assert_close(refined, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(ious, expected_ious, rtol=0, atol=1e-14)
    torch.testing.assert_close(ious, hill(refined, labels), rtol=0, atol=1e-14)
    assert len(trace) == num_steps + 1
    assert torch.equal(trace[0][0], boxes)
    assert torch.equal(trace[-1][0], refined)
    assert torch.equal(trace[-1][1], ious)


def test_all_three_ends_occur_and_a_stopped_box_stays_where_its_last_step_put_it():
    boxes, labels = jittered(200)
    trace = []
    refined, _ = refine_boxes(hill, boxes, labels, step_size=32.0, num_steps=5, trace=trace)
    path = torch.stack([ious for _, ious in trace])
    change = path[1:] - path[:-1]
    positions = torch.stack([position for position, _ in trace])
    moved = (positions[1:] != positions[:-1]).any(-1)
    stops = (change.abs() < 0.001) | (change < -0.01)
    # From the step after the first stop on, nothing moves; until then everything does.
    stopped_before = torch.cat([torch.zeros_like(stops[:1]), stops.cumsum(0)[:-1] > 0])
    assert torch.equal(moved, ~stopped_before)
    ran_to_the_end = ~stopped_before[-1]
    degraded = ((change < -0.01) & moved).any(0)
    converged = ((change.abs() < 0.001) & moved).any(0)
    assert ran_to_the_end.any()
    assert degraded.any()
    assert converged.any()
    # A degraded box is not put back.
    worse = hill(refined, labels) < hill(boxes, labels)
    assert (worse & degraded).any()


@pytest.mark.parametrize("omega_1", [0.001, 0.0])  # with 0, a stopped box's change of 0 must not set it going again
def test_keeping_the_shape_gives_the_same(omega_1):
    calls = []

    def predict(boxes: Tensor, labels: Tensor) -> Tensor:
        calls.append(len(boxes))
        return hill(boxes, labels)

    boxes, labels = jittered(60)
    traces = [], []
    dropped = refine_boxes(predict, boxes, labels, step_size=32.0, omega_1=omega_1, trace=traces[0])  # CPU: the default
    assert min(calls) < 60
    calls.clear()
    masked = refine_boxes(predict, boxes, labels, step_size=32.0, omega_1=omega_1, keep_shape=True, trace=traces[1])
    assert calls == [60] * 6
    torch.testing.assert_close(masked, dropped, rtol=0, atol=1e-14)
    torch.testing.assert_close(traces[1], traces[0], rtol=0, atol=1e-14)


def test_one_step_is_step_size_times_gradient_times_size():
    # predicted IoU = <g, box>: the gradient is g whatever the box, so the step is known on paper.
    gradient = torch.tensor([0.01, -0.02, 0.03, 0.04], dtype=torch.float64)
    boxes = torch.tensor([[10.0, 20.0, 30.0, 90.0]], dtype=torch.float64)  # w 20, h 70
    refined, ious = refine_boxes(lambda b, _: b @ gradient, boxes, torch.zeros(1).long(), step_size=0.5, num_steps=1)
    step = torch.tensor([0.5 * 0.01 * 20, 0.5 * -0.02 * 70, 0.5 * 0.03 * 20, 0.5 * 0.04 * 70], dtype=torch.float64)
    torch.testing.assert_close(refined[0] - boxes[0], step, rtol=0, atol=1e-13)
    torch.testing.assert_close(ious, refined @ gradient, rtol=0, atol=1e-13)


def test_thresholds_are_strict():
    # A gradient of 2⁻⁷ in x1 of a box 8 wide with λ 1 changes x1 by 2⁻⁴ and the IoU by 2⁻¹¹: exact in binary.
    def predict(boxes: Tensor, _: Tensor) -> Tensor:
        return boxes[:, 0] * 2**-7

    boxes, labels = torch.tensor([[0.0, 0.0, 8.0, 8.0]], dtype=torch.float64), torch.zeros(1).long()
    trace = []
    refine_boxes(predict, boxes, labels, step_size=1.0, num_steps=2, omega_1=2**-11, trace=trace)
    assert not torch.equal(trace[1][0], trace[2][0])  # |change| == omega_1 does not stop
    trace = []
    refine_boxes(predict, boxes, labels, step_size=1.0, num_steps=2, omega_1=2**-11 * 1.0001, trace=trace)
    assert torch.equal(trace[1][0], trace[2][0])
    # Downhill (negative λ) by exactly omega_2 does not stop either.
    for omega_2, stops in ((-(2**-11), False), (-(2**-11) * 0.9999, True)):
        trace = []
        refine_boxes(predict, boxes, labels, -1.0, 2, omega_1=0.0, omega_2=omega_2, trace=trace)
        assert torch.equal(trace[1][0], trace[2][0]) == stops


def test_climbs_the_true_iou():
    boxes, labels = jittered(50)
    truth = TARGETS[labels]
    refined, _ = refine_boxes(hill, boxes, labels, step_size=8.0, num_steps=10, omega_1=0.0)
    assert box_iou(refined, truth).mean() > box_iou(boxes, truth).mean() + 0.1


def test_works_under_no_grad_and_touches_no_parameter_and_no_input():
    layer = nn.Linear(4, 1).double()
    layer.weight.grad = torch.full_like(layer.weight, 7.0)
    boxes, labels = jittered(5)
    original = boxes.clone()
    with torch.no_grad():
        refined, ious = refine_boxes(lambda b, _: layer(b / 100).sigmoid()[:, 0], boxes, labels)
    assert not torch.equal(refined, boxes)
    assert torch.equal(boxes, original)
    assert not boxes.requires_grad
    assert not refined.requires_grad
    assert not ious.requires_grad
    assert torch.equal(layer.weight.grad, torch.full_like(layer.weight, 7.0))
    assert layer.bias.grad is None
    attached = boxes.clone().requires_grad_()
    refine_boxes(hill, attached, labels)
    assert attached.grad is None
    assert attached.requires_grad


def test_no_steps_and_no_boxes():
    boxes, labels = jittered(4)
    refined, ious = refine_boxes(hill, boxes, labels, num_steps=0)
    assert torch.equal(refined, boxes)
    assert refined.data_ptr() != boxes.data_ptr()
    torch.testing.assert_close(ious, hill(boxes, labels), rtol=0, atol=0)

    def never(*_):
        raise AssertionError("called without boxes")

    trace = []
    refined, ious = refine_boxes(never, boxes[:0], labels[:0], num_steps=3, trace=trace)
    assert refined.shape == (0, 4)
    assert ious.shape == (0,)
    assert len(trace) == 4


def test_number_of_passes():
    calls = []

    def predict(boxes: Tensor, labels: Tensor) -> Tensor:
        calls.append(boxes.requires_grad)
        return hill(boxes, labels)

    boxes, labels = jittered(30)
    refine_boxes(predict, boxes, labels, num_steps=3, omega_1=0.0, omega_2=-1.0)
    assert calls == [True, True, True, False]  # one forward per position; the last one builds no graph
    calls.clear()
    refine_boxes(predict, TARGETS[labels], labels, num_steps=5)
    assert len(calls) == 2  # all have converged after one step


@pytest.mark.parametrize("keep_shape", [True, False])
def test_a_gradient_that_is_given_serves_like_autograds(keep_shape):
    calls = []

    def with_gradient(boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(boxes))
        target = TARGETS[labels]
        size = (target[:, 2:] - target[:, :2]).repeat(1, 2)
        iou = hill(boxes, labels)
        return iou, iou[:, None] * -2 * (boxes - target) / size**2

    boxes, labels = jittered(50)
    traces = [], []
    options = {"step_size": 32.0, "keep_shape": keep_shape}
    given = refine_boxes(hill, boxes, labels, predict_with_gradient=with_gradient, trace=traces[0], **options)
    assert len(calls) == 5  # the last position needs no gradient
    by_autograd = refine_boxes(hill, boxes, labels, trace=traces[1], **options)
    torch.testing.assert_close(given, by_autograd, rtol=0, atol=1e-12)
    torch.testing.assert_close(traces[0], traces[1], rtol=0, atol=1e-12)


def test_a_stopped_box_is_not_moved_by_a_gradient_that_is_not_a_number():
    def with_gradient(boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return hill(boxes, labels), torch.full_like(boxes, torch.nan if seen else 0.0)

    boxes, labels = jittered(4)
    seen: list[Tensor] = []
    calls = [0]

    def counted(boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        calls[0] += 1
        seen[:] = [boxes] if calls[0] > 1 else []  # the first step is one of zero: every box stops after it
        return with_gradient(boxes, labels)

    refined, _ = refine_boxes(hill, boxes, labels, predict_with_gradient=counted, keep_shape=True)
    assert calls[0] == 5
    assert torch.equal(refined, boxes)


def test_messages():
    boxes, labels = jittered(3)
    with pytest.raises(ValueError, match=r"num_steps=-1 must not be negative"):
        refine_boxes(hill, boxes, labels, num_steps=-1)
    with pytest.raises(ValueError, match=r"predict_iou must return shape \[3\], one IoU per box, got \[3, 1\]"):
        refine_boxes(lambda b, k: hill(b, k)[:, None], boxes, labels)
    parameter = torch.ones(3, dtype=torch.float64, requires_grad=True)
    for predict in (lambda b, k: hill(b.detach(), k), lambda b, k: hill(b.detach(), k) * parameter):
        with pytest.raises(ValueError, match="no gradient with respect to the boxes: pool with PrRoIPool"):
            refine_boxes(predict, boxes, labels)

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.builder import build_head

from iounet.models import IoUHead
from iounet.models.iou_head import HiddenLayers

SMOOTH_L1 = {"type": "SmoothL1Loss", "beta": 0.3, "loss_weight": 5.0}
BCE = {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 5.0}
LOSSES = pytest.mark.parametrize("loss_iou", [SMOOTH_L1, BCE], ids=["smooth_l1", "bce"])
AGNOSTIC = pytest.mark.parametrize("class_agnostic", [False, True], ids=["per_class", "agnostic"])


def build(loss_iou=SMOOTH_L1, class_agnostic=False, **kwargs) -> IoUHead:
    torch.manual_seed(0)
    head = build_head(
        {
            "type": "IoUHead",
            "in_channels": 4 * 9,
            "fc_channels": [16, 8],
            "num_classes": 5,
            "target_norm": {"mean": 0.5, "std": 0.5},
            "class_agnostic": class_agnostic,
            "loss_iou": loss_iou,
            **kwargs,
        }
    )
    torch.nn.init.normal_(head.fc_iou.weight, std=1.0)
    return head


@pytest.fixture(autouse=True)
def _isolated_random_state():
    with torch.random.fork_rng():
        yield


def example(n: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(n, 4, 3, 3, generator=generator),
        torch.rand(n, generator=generator),
        torch.randint(0, 5, (n,), generator=generator),
    )


def test_parameters_have_the_published_names():
    names = {name: tuple(value.shape) for name, value in build().state_dict().items()}
    assert names == {
        "shared_fcs.0.weight": (16, 36),
        "shared_fcs.0.bias": (16,),
        "shared_fcs.1.weight": (8, 16),
        "shared_fcs.1.bias": (8,),
        "fc_iou.weight": (5, 8),
        "fc_iou.bias": (5,),
    }
    assert build(class_agnostic=True).fc_iou.out_features == 1


@LOSSES
@AGNOSTIC
def test_output_units_do_not_depend_on_the_mode(loss_iou, class_agnostic):
    head = build(loss_iou, class_agnostic)
    features, _, labels = example()
    outputs = []
    for training in (True, False):
        head.train(training)
        outputs.append((head(features), head.predict_iou(features), head.predict_iou(features, labels)))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)


@LOSSES
@AGNOSTIC
def test_predicted_ious_are_the_decoded_raw_outputs(loss_iou, class_agnostic):
    head = build(loss_iou, class_agnostic, target_norm={"mean": 0.4, "std": 0.2})
    features, _, labels = example()
    raw = head(features)
    expected = raw.sigmoid() if loss_iou is BCE else raw * 0.2 + 0.4
    assert raw.shape == (12, 1 if class_agnostic else 5)
    every = head.predict_iou(features)
    assert every.shape == (12, 5)
    torch.testing.assert_close(every, expected.expand(12, 5))
    torch.testing.assert_close(head.predict_iou(features, labels), every[torch.arange(12), labels])


@LOSSES
@AGNOSTIC
def test_loss_by_hand(loss_iou, class_agnostic):
    head = build(loss_iou, class_agnostic)
    features, target, labels = example()
    raw = head(features)
    losses = head.loss(raw, target, labels)
    read = raw[:, 0] if class_agnostic else raw[torch.arange(12), labels]
    if loss_iou is BCE:
        expected = F.binary_cross_entropy_with_logits(read, target)
        predicted = read.sigmoid()
    else:
        expected = F.smooth_l1_loss(read, (target - 0.5) / 0.5, beta=0.3)
        predicted = read * 0.5 + 0.5
    torch.testing.assert_close(losses["loss_iou"], 5.0 * expected)
    torch.testing.assert_close(losses["iou_error"], (predicted - target).abs().mean())
    assert not losses["iou_error"].requires_grad


@LOSSES
def test_loss_is_least_at_the_target_in_iou_units(loss_iou):
    # The raw output that decodes to the target has zero gradient: encoding and decoding are inverse.
    head = build(loss_iou)
    _, target, labels = example()
    target = target.clamp(0.05, 0.95)
    encoded = torch.logit(target) if loss_iou is BCE else (target - 0.5) / 0.5
    raw = encoded[:, None].repeat(1, 5).requires_grad_()
    losses = head.loss(raw, target, labels)
    losses["loss_iou"].backward()
    assert raw.grad.abs().max() < 1e-6
    assert losses["iou_error"] < 1e-6


@LOSSES
@AGNOSTIC
@pytest.mark.parametrize("number", [0, 1])
def test_no_roi_and_one(loss_iou, class_agnostic, number):
    head = build(loss_iou, class_agnostic)
    features, target, labels = example(number)
    losses = head.loss(head(features), target, labels)
    losses["loss_iou"].backward()
    gradients = [parameter.grad for parameter in head.parameters()]
    assert all(gradient is not None for gradient in gradients)
    if number == 0:
        assert losses["loss_iou"] == 0
        assert losses["iou_error"] == 0
        assert all(gradient.abs().sum() == 0 for gradient in gradients)
    else:
        assert losses["loss_iou"] > 0
    assert head.predict_iou(features).shape == (number, 5)
    assert head.predict_iou(features, labels).shape == (number,)


def test_initial_weights():
    head = build(in_channels=400, fc_channels=[300, 200])
    head.init_weights()
    for layer in head.shared_fcs:
        bound = (6 / (layer.in_features + layer.out_features)) ** 0.5  # Xavier, uniform
        assert bound * 0.95 < layer.weight.abs().max() <= bound
        assert layer.bias.abs().max() == 0
    assert head.fc_iou.weight.std().item() == pytest.approx(0.01, rel=0.1)
    # Untrained, it says about 0.5 to everything.
    assert (head.predict_iou(torch.randn(20, 400)) - 0.5).abs().max() < 0.2


def test_last_layer_keeps_full_precision_under_autocast():
    head = build(in_channels=36)
    features, _, labels = example()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = head.predict_iou(features, labels)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, head.predict_iou(features, labels), rtol=0, atol=0.05)
    assert not torch.equal(low, low.bfloat16().float())


def test_float64():
    head = build(BCE).double()
    features = example(3)[0].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: head.predict_iou(x, torch.tensor([0, 4, 2])), (features,))


def test_defaults_are_not_shared_between_heads():
    first, second = IoUHead(36, (8,), 5), IoUHead(36, (8,), 5)
    assert first.loss_iou.loss_weight == 5.0
    assert first.loss_iou is not second.loss_iou
    assert (first.mean, first.std) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss_iou": {"type": "CrossEntropyLoss"}}, "without use_sigmoid=True it compares classes, not IoUs"),
        ({"loss_iou": {"type": "SimpleGFLLoss", "beta": 0.0}}, "with beta=0 it is CrossEntropyLoss with use_sigmoid"),
        ({"loss_iou": {"type": "GIoULoss"}}, "loss_iou of type 'GIoULoss' is not supported. Use dict"),
        ({"target_norm": {"mean": 0.5, "std": 0}}, "target_norm=.* with std > 0"),
        ({"target_norm": {"mean": 0.5}}, "target_norm="),
        ({"fc_channels": []}, "fc_channels is empty"),
    ],
)
def test_messages(arguments, message):
    with pytest.raises(ValueError, match=message):
        IoUHead(**{"in_channels": 36, "num_classes": 5, **arguments})


@LOSSES
@AGNOSTIC
@pytest.mark.parametrize("fc_channels", [[16, 8], [16], [16, 12, 8]])
def test_the_closed_form_equals_autograd(loss_iou, class_agnostic, fc_channels):
    head = build(loss_iou, class_agnostic, fc_channels=fc_channels).double()
    features, _, labels = example()
    features = features.double().requires_grad_()
    expected = head.predict_iou(features, labels)
    (gradient,) = torch.autograd.grad(expected.sum(), features)
    ious, own = head.of_labels(labels).with_gradient(features.detach())
    torch.testing.assert_close(ious, expected.detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(own, gradient, rtol=0, atol=1e-14)
    assert gradient.abs().max() > 0.01
    assert not ious.requires_grad
    rows = torch.tensor([7, 2, 3])
    some, part = head.of_labels(labels).with_gradient(features.detach()[rows], rows)
    torch.testing.assert_close((some, part), (ious[rows], own[rows]), rtol=0, atol=1e-14)
    torch.testing.assert_close(head.of_labels(labels)(features.detach()[rows], rows), some, rtol=0, atol=0)


LOW = pytest.mark.parametrize("fc_dtype", ["bfloat16", "float16"])


@pytest.fixture
def _float16_everywhere(monkeypatch):
    """A CPU without float16 arithmetic computes in it all the same, slowly."""
    monkeypatch.setattr("iounet.models.iou_head._cpu_computes_float16", lambda: True)


def by_hand(head, features, labels, dtype):
    """Hidden layers in ``dtype`` with autograd, everything else in float32: IoUs, and their gradients."""
    features = features.clone().requires_grad_()
    hidden = features.flatten(1).to(dtype)
    for layer in head.shared_fcs:
        hidden = F.linear(hidden, layer.weight.to(dtype), layer.bias.to(dtype)).relu()
    raw = F.linear(hidden.float(), head.fc_iou.weight, head.fc_iou.bias)
    ious = head.decode(head._read(raw, labels))
    (gradient,) = torch.autograd.grad(ious.sum(), features)
    return ious.detach(), gradient


@LOW
@LOSSES
@AGNOSTIC
@pytest.mark.usefixtures("_float16_everywhere")
def test_only_the_hidden_layers_are_in_reduced_precision(loss_iou, class_agnostic, fc_dtype):
    head, (features, _, labels) = build(loss_iou, class_agnostic), example()
    expected, gradient = by_hand(head, features, labels, getattr(torch, fc_dtype))
    layers = head.cast(fc_dtype)
    ious, own = head.of_labels(labels, layers).with_gradient(features)
    assert ious.dtype == own.dtype == torch.float32
    # The same products; only the order in which float32 adds them up differs.
    torch.testing.assert_close(ious, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(own, gradient, rtol=2e-2, atol=1e-3 * float(gradient.abs().max()))
    rows = torch.arange(len(labels))
    scored = head.predict(features, layers).ious[rows, labels]
    torch.testing.assert_close(scored, expected, rtol=0, atol=1e-6)
    assert scored.dtype == torch.float32
    assert not torch.equal(scored, scored.to(getattr(torch, fc_dtype)).float())  # finer than the hidden layers'
    full = head.predict_iou(features, labels)
    assert 0 < (scored - full).abs().max() < 0.05


def test_full_precision_is_the_heads_own():
    head, (features, _, labels) = build(), example()
    assert head.cast("float32") is None
    own, layers = head.of_labels(labels), HiddenLayers(head.shared_fcs)
    same = head.of_labels(labels, layers)
    torch.testing.assert_close(own.with_gradient(features), same.with_gradient(features), rtol=0, atol=0)
    torch.testing.assert_close(head.predict(features).ious, head.predict(features, layers).ious, rtol=0, atol=0)


def test_the_precision_is_that_of_the_cast_under_autocast_too():
    head, (features, _, _) = build(), example()
    layers = head.cast("bfloat16")
    with torch.autocast("cpu", torch.float16):
        predicted = head.predict(features, layers)
    assert {layer.dtype for layer in predicted.hidden} == {torch.bfloat16}
    assert torch.equal(predicted.ious, head.predict(features, layers).ious)


def test_a_cast_is_of_the_weights_at_its_time():
    head, (features, _, _) = build(), example()
    before = head.cast("bfloat16")
    with torch.no_grad():
        for layer in head.shared_fcs:
            layer.weight.data.mul_(2)  # what an EMA hook does; no version counter sees it
    after = head.predict(features, head.cast("bfloat16")).ious
    assert not torch.allclose(after, head.predict(features, before).ious, atol=1e-2)


def test_float16_is_refused_where_the_cpu_has_none(monkeypatch):
    monkeypatch.setattr("iounet.models.iou_head._cpu_computes_float16", lambda: False)
    with pytest.raises(ValueError, match=r"test_cfg.rcnn.iou.fc_dtype='float16' is not possible.*choose 'bfloat16'"):
        build().cast("float16")
    build().cast("bfloat16")


@LOW
@pytest.mark.usefixtures("_float16_everywhere")
def test_no_roi_in_reduced_precision(fc_dtype):
    head, (features, _, labels) = build(), example(0)
    layers = head.cast(fc_dtype)
    assert head.predict(features, layers).ious.shape == (0, 5)
    ious, gradient = head.of_labels(labels, layers).with_gradient(features)
    assert (ious.shape, gradient.shape) == ((0,), features.shape)

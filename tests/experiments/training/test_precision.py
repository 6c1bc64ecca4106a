"""Mixed precision: what computes in half precision, what does not, and that training stays what it was."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

import iounet  # noqa: F401 - registers the models
from experiments.history import read_metrics
from experiments.refinement.training import TrainableRefiner
from experiments.training.precision import ScaledOptimizerHook, read_precision, use_precision
from experiments.training.train import train
from suite.errors import SuiteError
from suite.layout import DataFolder, RunFolder
from suite.suite import ROOT
from tests.experiments.training import per_image_draws  # noqa: F401 - registers PerImageIoURoIHead
from tests.models.tiny import build, detector_config, image_meta
from tests.refiner.conftest import CATEGORIES, SMALL

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=NO_GPU)])
def batch(request):
    """Two images on a CPU and on a GPU: a step is taken where they are."""
    device = request.param
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[8.0, 8.0, 60.0, 52.0], [30.0, 20.0, 90.0, 88.0]])
    return {
        "img": torch.randn(2, 3, 96, 96, generator=generator).to(device),
        "img_metas": [image_meta(96, 96)] * 2,
        "gt_bboxes": [boxes.to(device), boxes[:1].to(device)],
        "gt_labels": [torch.tensor([0, 2], device=device), torch.tensor([1], device=device)],
    }


def step(precision, batch):
    """Losses and gradients of one training step, and the dtypes that some operations computed in."""
    config = detector_config()
    config.roi_head.type = "PerImageIoURoIHead"
    model = build(config).to(batch["img"].device).train()
    use_precision(model, precision)
    seen = {}

    def spy(name, module):
        module.register_forward_hook(lambda m, inputs, output: seen.update({name: output.dtype}))

    spy("convolution", model.backbone.conv1)
    spy("neck", model.neck.lateral_convs[0].conv)
    spy("rpn", model.rpn_head.rpn_cls)
    spy("box head", model.roi_head.bbox_head.fc_cls)
    spy("iou head", model.roi_head.iou_head.shared_fcs[0])
    spy("iou output", model.roi_head.iou_head.fc_iou)
    spy("pooling", model.roi_head.bbox_roi_extractor)
    torch.manual_seed(0)
    outputs = model.train_step(batch, None)
    outputs["loss"].backward()
    return outputs["log_vars"], {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, seen


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_layers_compute_in_half_precision_and_geometry_does_not(batch, precision, dtype):
    _, gradients, seen = step(precision, batch)
    layers = ("convolution", "neck", "rpn", "box head", "iou head")
    assert seen == {**dict.fromkeys(layers, dtype), "iou output": torch.float32, "pooling": torch.float32}
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_refiner_computes_in_half_precision_and_its_geometry_does_not(batch, precision, dtype):
    torch.manual_seed(0)
    model = TrainableRefiner(CATEGORIES, **SMALL).to(batch["img"].device).train()
    use_precision(model, precision)
    seen = {}
    layers = {"convolution": model.backbone.conv1, "fpn": model.fpn.inner_blocks[0][0]}
    layers |= {"iou head": model.iou_head.shared_fcs[0], "iou output": model.iou_head.fc_iou}
    for name, module in layers.items():
        module.register_forward_hook(lambda m, inputs, output, name=name: seen.update({name: output.dtype}))
    model.iou_head.register_forward_pre_hook(lambda m, inputs: seen.update({"pooled": inputs[0].dtype}))
    model.train_step(batch)["loss"].backward()
    assert seen == {
        **dict.fromkeys(("convolution", "fpn", "iou head"), dtype),
        **dict.fromkeys(("pooled", "iou output"), torch.float32),
    }
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_full_precision_is_untouched(batch):
    assert set(step("fp32", batch)[2].values()) == {torch.float32}


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.02), ("fp16", 0.003)])
def test_a_step_is_close_to_that_in_full_precision(batch, precision, tolerance):
    """Losses, and gradients, those through Precise RoI Pooling included.

    The R-CNN losses are left out: a rounded score changes which proposals are drawn, and with them the loss.
    """
    losses, gradients, _ = step("fp32", batch)
    half_losses, half_gradients, _ = step(precision, batch)
    for name in ("loss_rpn_cls", "loss_rpn_bbox", "loss_iou"):
        assert half_losses[name] == pytest.approx(losses[name], rel=tolerance), name
        assert half_losses[name] != losses[name], name
    for name in ("rpn_head.rpn_cls.weight", "roi_head.iou_head.shared_fcs.0.weight"):
        cosine = torch.cosine_similarity(half_gradients[name].flatten(), gradients[name].flatten(), dim=0)
        assert cosine > 0.99, name


def test_evaluation_stays_in_full_precision(batch):
    model = build(detector_config()).to(batch["img"].device)
    expected = model.extract_feat(batch["img"])
    use_precision(model, "bf16")
    assert all(torch.equal(a, b) for a, b in zip(model.extract_feat(batch["img"]), expected, strict=True))
    model.train()
    assert not torch.equal(model.extract_feat(batch["img"])[0], expected[0])


def test_an_unknown_precision_is_named():
    assert read_precision({}, "x") == "fp32"
    with pytest.raises(SuiteError, match=r"the config of 'x': precision='half' must be one of fp32, bf16, fp16"):
        read_precision({"precision": "half"}, "x")


def test_an_overflow_skips_the_step_and_lowers_the_scale():
    weight = torch.nn.Parameter(torch.ones(1))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    hook = ScaledOptimizerHook(scaler, grad_clip={"max_norm": 1.0})

    logged = []
    buffer = SimpleNamespace(update=lambda values, count: logged.append(values["grad_norm"]))
    optimizer = torch.optim.SGD([weight], lr=0.25)
    for slope in (2.0, math.inf):
        outputs = {"loss": (weight * slope).sum(), "num_samples": 1}
        model = torch.nn.ParameterList([weight])
        hook.after_train_iter(SimpleNamespace(model=model, optimizer=optimizer, log_buffer=buffer, outputs=outputs))
    assert weight.item() == pytest.approx(0.75), "one step, with the gradient 2 clipped to 1"
    assert logged == [2.0], "the norm is that of the unscaled gradient"
    assert scaler.get_scale() == 512.0


def test_a_training_in_float16_goes_on_with_its_scale(tiny_suite, tiny_data, tmp_path):
    """A scale that started anew would skip other steps, and end with other weights."""
    suite = tiny_suite.changed(pretraining=None)
    common = {"data": DataFolder(tiny_data), "pretraining": None, "changes": {"precision": "fp16"}}

    def stop(epoch, metrics):
        raise KeyboardInterrupt(epoch)

    train(suite, "faster_rcnn", 0, folder=RunFolder(tmp_path / "whole"), **common)
    with pytest.raises(KeyboardInterrupt):
        train(suite, "faster_rcnn", 0, folder=RunFolder(tmp_path / "cut"), on_validation=stop, **common)
    (state,) = RunFolder(tmp_path / "cut").states()
    assert torch.load(state, weights_only=True)["scaler"]["scale"] != torch.amp.GradScaler("cpu").get_scale()
    train(suite, "faster_rcnn", 0, folder=RunFolder(tmp_path / "cut"), **common)
    assert "continuing after epoch 1" in (tmp_path / "cut/train.log").read_text()
    folders = (tmp_path / "whole", tmp_path / "cut")
    whole, cut = (torch.load(folder / "checkpoint.pth", weights_only=True)["state_dict"] for folder in folders)
    assert all(torch.equal(cut[key], whole[key]) for key in whole)


@pytest.fixture(scope="module")
def trainings(tiny_suite, tiny_data, tmp_path_factory):
    """The same short training in every precision."""
    folder = tmp_path_factory.mktemp("precisions")
    rows = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        for precision in ("fp32", "bf16", "fp16"):
            config = folder / f"{precision}.py"
            base = ROOT / "tests/workflow/configs/tiny_iounet.py"
            config.write_text(f"_base_ = ['{base}']\nprecision = '{precision}'\nrunner = dict(max_epochs=4)\n")
            variants = {"iounet": {"family": "iounet", "config": str(config)}}
            suite = tiny_suite.changed(pretraining=None, variants=variants)
            work_dir = folder / precision
            train(suite, "iounet", 0, folder=RunFolder(work_dir), data=DataFolder(tiny_data), pretraining=None)
            rows[precision] = [row for row in read_metrics(work_dir / "metrics.jsonl") if "loss" in row]
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_short_training_learns_as_in_full_precision(trainings, precision):
    """The same images in the same order: the curves lie on each other but for rounding, which grows step by step."""
    full, half = ([row["loss"] for row in trainings[p]] for p in ("fp32", precision))
    print(json.dumps({"fp32": full, precision: half}))
    assert len(half) == 16
    assert half[0] == pytest.approx(full[0], rel=0.02)
    assert sum(half[-4:]) < 0.7 * sum(half[:4])
    assert sum(half[-4:]) == pytest.approx(sum(full[-4:]), rel=0.15)

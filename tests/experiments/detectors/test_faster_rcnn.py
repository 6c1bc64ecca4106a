"""torchvision's Faster R-CNN behind mmdet's interface: equal to torchvision's own, trained as any other."""

import copy
import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import batched_nms

from experiments.config import default_setting, resolve_config
from experiments.detectors.faster_rcnn import LOSSES
from experiments.evaluation.evaluate import evaluate
from experiments.history import validations
from experiments.models import build_model, load_model
from experiments.training.precision import use_precision
from experiments.training.start import start
from experiments.training.train import train
from suite.errors import SuiteError
from suite.layout import DataFolder, EvaluationFolder, RunFolder
from suite.suite import load_suite
from tests.experiments.test_small_configs import small_suite

CONFIGS = {"shapes": (96, 96), "small": (96, 128)}  # to the height and width of an image
CLASSES = ("circle", "triangle", "cross", "bar", "ring")


def suite_of(name, suite=None, **changes):
    """A suite with one variant, torchvision's Faster R-CNN of a folder of configs."""
    suite = suite or (small_suite() if name == "small" else load_suite("experiments/shapes.yaml"))
    config = f"experiments/configs/{name}/torchvision_faster_rcnn.py"
    return suite.changed(variants={"torchvision": {"family": "baseline", "config": config}}, **changes)


def built(name="shapes"):
    torch.manual_seed(0)
    return build_model(resolve_config(suite_of(name), "torchvision"), initialize=True)


def batch_of(height, width, scale=1.0):
    """Three images of noise, the last one padded, with objects of them."""
    images = torch.randn(3, 3, height, width)
    images[2, :, -16:] = 0
    shapes = [(height, width, 3), (height, width, 3), (height - 16, width, 3)]
    metas = [{"img_shape": shape, "scale_factor": np.array([scale] * 4, np.float32)} for shape in shapes]
    boxes = [torch.tensor([[8.0, 8, 40, 44], [30, 20, 62, 50]]), torch.tensor([[20.0, 30, 60, 62]]), torch.zeros(0, 4)]
    labels = [torch.tensor([0, 4]), torch.tensor([2]), torch.zeros(0, dtype=torch.long)]
    return images, metas, boxes, labels


def fitted(model, batch, steps):
    """The losses before each step, by AdamW on one batch."""
    optimizer, sums = torch.optim.AdamW(model.train().parameters(), lr=1e-3), []
    for _ in range(steps):
        losses = model.forward_train(*batch)
        assert losses.keys() == {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox"}
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sums.append(loss.item())
    return sums


@pytest.fixture(scope="module")
def learnt():
    """The detector of the shapes, a little trained: it finds something."""
    model = built()
    losses = fitted(model, batch_of(96, 96), 30)
    assert losses[-1] < 0.8 * losses[0]
    return model.eval()


def plain(model, size):
    """torchvision's own detector with these weights, which resizes images to their size."""
    detector = copy.deepcopy(model.detector)
    detector.transform = GeneralizedRCNNTransform(min(size), max(size), [0.0] * 3, [1.0] * 3, size_divisible=32)
    return detector


@contextmanager
def all_are_trained_on(detector):
    """Anchors and RoIs are not drawn."""
    samplers = detector.rpn.fg_bg_sampler, detector.roi_heads.fg_bg_sampler
    before = [sampler.batch_size_per_image for sampler in samplers]
    for sampler in samplers:
        sampler.batch_size_per_image = 10**6
    yield
    for sampler, number in zip(samplers, before, strict=True):
        sampler.batch_size_per_image = number


@pytest.mark.parametrize("name", CONFIGS)
def test_each_config_trains_and_tests(name):
    model, (images, *rest) = built(name), batch_of(*CONFIGS[name])
    batch = (images.contiguous(memory_format=torch.channels_last), *rest)
    (loss,) = fitted(model, batch, 1)
    assert np.isfinite(loss)
    assert all(parameter.grad is not None for parameter in model.parameters())
    with torch.no_grad():
        found = model.eval().simple_test(*batch[:2])
    assert [[array.shape[1] for array in arrays] for arrays in found] == [[5] * model.num_classes] * 3


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_detections_are_those_of_torchvision_on_the_same_pixels(name, learnt):
    model = learnt if name == "shapes" else built(name)
    images, metas, boxes, labels = batch_of(*CONFIGS[name])
    images, metas, boxes, labels = images[:2], metas[:2], boxes[:2], labels[:2]
    own = plain(model, CONFIGS[name])
    targets = [{"boxes": each, "labels": label + 1} for each, label in zip(boxes, labels, strict=True)]
    with all_are_trained_on(own), all_are_trained_on(model.detector):
        expected = own.train()(list(images), targets)
        losses = model.train().forward_train(images, metas, boxes, labels)
    found = {name: float(loss) for name, loss in losses.items()}
    assert found == pytest.approx({own: float(expected[theirs]) for theirs, own in LOSSES.items()}, rel=1e-6)
    model.eval()
    own = plain(model, CONFIGS[name]).eval()
    with torch.no_grad():
        for arrays, found in zip(model.simple_test(images, metas), own(list(images)), strict=True):
            assert name != "shapes" or len(found["scores"]) > 1
            for label, array in enumerate(arrays):
                chosen = found["labels"] == label + 1
                rows = torch.cat([found["boxes"][chosen], found["scores"][chosen, None]], dim=1)
                np.testing.assert_array_equal(array, rows.numpy())


def test_the_network_sees_every_pixel_as_it_came(learnt):
    images, metas, *_ = batch_of(96, 96)
    seen = []
    hook = learnt.backbone.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        learnt.simple_test(images, metas)
    hook.remove()
    torch.testing.assert_close(seen, [images], rtol=0, atol=0)


def test_batch_statistics_are_kept_or_learnt_as_the_config_says():
    for name, is_learnt in (("shapes", False), ("small", True)):
        model = built(name)
        before = model.backbone.bn1.running_mean.clone()
        model.train().forward_train(*batch_of(96, 96))
        assert torch.equal(model.backbone.bn1.running_mean, before) != is_learnt


@torch.no_grad()
def test_rescaled_boxes_are_in_pixels_of_the_original(learnt):
    images, metas, *_ = batch_of(96, 96, scale=2.0)
    found, original = (learnt.simple_test(images, metas, rescale=rescale) for rescale in (False, True))
    for arrays, others in zip(found, original, strict=True):
        for array, other in zip(arrays, others, strict=True):
            np.testing.assert_allclose(other[:, :4], array[:, :4] / 2)
            np.testing.assert_array_equal(other[:, 4], array[:, 4])
    candidates = [learnt.candidates(images, metas, rescale=rescale)[0] for rescale in (False, True)]
    torch.testing.assert_close(candidates[1][0], candidates[0][0] / 2)
    assert found[2][0].shape[1] == 5 and all((array[:, 3] <= 80).all() for array in found[2])  # within the padded image


@torch.no_grad()
def test_nms_of_the_candidates_gives_the_detections(learnt):
    images, metas, *_ = batch_of(96, 96)
    found, candidates = learnt.simple_test(images, metas), learnt.candidates(images, metas)
    for arrays, (boxes, scores, labels) in zip(found, candidates, strict=True):
        assert len(boxes) == len(scores) == len(labels) > sum(map(len, arrays))
        assert (scores > 0.05).all() and (scores.diff() <= 0).all()
        kept = batched_nms(boxes, scores, labels, 0.5)[:100]
        for label, array in enumerate(arrays):
            chosen = kept[labels[kept] == label]
            rows = torch.cat([boxes[chosen], scores[chosen, None]], dim=1)
            np.testing.assert_array_equal(array, rows.numpy())
    heads = learnt.detector.roi_heads
    assert (heads.nms_thresh, heads.detections_per_img) == (0.5, 100)  # as before


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A checkpoint of the suite's pretraining, as it begins."""
    torch.manual_seed(1)
    model = build_model(resolve_config(load_suite("experiments/shapes.yaml"), "pretraining"), initialize=True)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
    path = tmp_path_factory.mktemp("pretraining") / "checkpoint.pth"
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path)
    return model.eval(), path


def test_backbone_and_fpn_start_as_the_pretraining(pretrained, tiny_data):
    detector, path = pretrained
    cfg = resolve_config(suite_of("shapes"), "torchvision")
    model, dataset = start(cfg, 0, DataFolder(tiny_data), pretraining=path, backbone=None)
    assert model.CLASSES == dataset.CLASSES == CLASSES
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(model.eval().extract_feat(images), list(detector.extract_feat(images)))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda state: state.pop("neck.lateral_convs.2.conv.bias"), r"fpn\.inner_blocks\.2\.0\.bias"),
        (lambda state: state.update({"backbone.conv1.weight": torch.zeros(8, 3, 7, 7)}), r"backbone\.conv1\.weight"),
        (lambda state: state.update({"backbone.layer4.0.x": torch.zeros(1)}), r"backbone\.layer4\.0\.x"),
    ],
)
def test_an_unfitting_pretraining_is_refused(pretrained, tiny_data, tmp_path, change, key):
    state = dict(pretrained[0].state_dict())
    change(state)
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "start.pth")
    cfg = resolve_config(suite_of("shapes"), "torchvision")
    with pytest.raises(SuiteError, match=rf"start\.pth does not fit the model: detector\.backbone\.{key} differs"):
        start(cfg, 0, DataFolder(tiny_data), pretraining=tmp_path / "start.pth", backbone=None)


def test_a_file_of_weights_is_the_start_of_its_backbone(tiny_data, tmp_path):
    weights = built().backbone.state_dict()
    torch.save(weights, tmp_path / "resnet.pth")
    cfg = resolve_config(suite_of("shapes"), "torchvision")
    model, _ = start(cfg, 7, DataFolder(tiny_data), pretraining=None, backbone=tmp_path / "resnet.pth")
    torch.testing.assert_close(dict(model.backbone.state_dict()), dict(weights), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.test_cfg.nms.type": "soft_nms"}, "test_cfg=.*must have score_thr, nms=dict"),
        ({"model.test_cfg.min_bbox_size": 2}, "test_cfg=.*must have score_thr, nms=dict"),
        ({"model.train_cfg": {"pos_weight": -1}}, "train_cfg=.*remove it"),
        ({"model.backbone.depth": 17}, "depth=17 is unknown"),
        ({"model.settings.rpn_size": 3}, "settings.rpn_size: torchvision.*has no such argument"),
    ],
)
def test_settings_that_it_does_not_have_are_refused(changes, message):
    with pytest.raises(SuiteError, match=rf"torchvision_faster_rcnn\.py: its model cannot be built: .*{message}"):
        build_model(resolve_config(suite_of("shapes"), "torchvision", changes))


def test_it_trains_in_half_precision():
    model, batch = built(), batch_of(96, 96)
    torch.manual_seed(1)
    full = model.train().forward_train(*batch)
    use_precision(model, "bf16")
    torch.manual_seed(1)
    half = model.forward_train(*batch)
    assert half["loss_cls"].dtype == torch.float32 and half["loss_cls"] != full["loss_cls"]
    assert all(loss.dtype == torch.float32 for loss in half.values())
    assert {k: float(v) for k, v in half.items()} == pytest.approx({k: float(v) for k, v in full.items()}, rel=0.05)


def test_the_projects_commands_train_and_evaluate_it(tiny_suite, tiny_data, tmp_path):
    suite = suite_of("shapes", tiny_suite, training={"epochs": 2})
    folder, data = RunFolder(tmp_path / "run"), DataFolder(tiny_data)

    class StoppedError(Exception):
        pass

    def stop(epoch, metrics):
        raise StoppedError

    arguments = {"folder": folder, "data": data, "pretraining": None}
    with pytest.raises(StoppedError):
        train(suite, "torchvision", 0, on_validation=stop, **arguments)
    train(suite, "torchvision", 0, **arguments)
    assert [epoch for epoch, _ in validations(folder.metrics)] == [1, 2]
    assert "continuing after epoch 1" in folder.log.read_text()
    cfg = resolve_config(suite, "torchvision")
    assert default_setting(cfg).name == "off"
    assert tuple(load_model(cfg, folder.checkpoint).CLASSES) == CLASSES
    out = EvaluationFolder(tmp_path / "evaluation")
    results = evaluate(suite, "torchvision", 0, "val", checkpoint=folder.checkpoint, data=data, out=out)
    assert list(results) == ["off"] and results["off"]["images"] == 12
    assert json.loads(out.index.read_text())["AP"].keys() == {"off"}

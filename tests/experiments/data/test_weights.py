"""Backbone weights: where they are looked for, and what is said of a wrong file."""

import shutil

import pytest
import torch
from mmcv import ConfigDict
from mmdet.models import build_backbone

from experiments.config import resolve_config
from experiments.data.weights import VARIABLE, backbone_weights, check_suite_weights, load_backbone, load_weights
from suite.errors import SuiteError
from suite.files import sha256
from suite.suite import load_suite

BACKBONE = {"type": "ResNet", "depth": 18, "base_channels": 4, "stem_channels": 4, "num_stages": 2, "strides": (1, 2)}
BACKBONE |= {"dilations": (1, 1), "out_indices": (0, 1)}


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return build_backbone(dict(BACKBONE))


@pytest.fixture
def weights(tmp_path):
    """Another backbone's weights with a classifier, under torchvision's kind of name."""
    torch.manual_seed(1)
    state = build_backbone(dict(BACKBONE)).state_dict()
    path = tmp_path / "weights.pth"
    torch.save({**state, "fc.weight": torch.ones(3, 8)}, path)
    return path.rename(tmp_path / f"small-{sha256(path)[:8]}.pth")


@pytest.fixture
def suite():
    return load_suite("experiments/coco.yaml")


def test_the_weights_arrive_in_the_backbone(backbone, weights):
    expected = torch.load(weights, weights_only=True)
    assert not torch.equal(backbone.conv1.weight, expected["conv1.weight"])
    load_backbone(backbone, weights)
    assert all(torch.equal(value, expected[key]) for key, value in backbone.state_dict().items())


def test_a_checkpoint_of_a_detector_gives_its_backbone(backbone, weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    path = tmp_path / "detector.pth"
    torch.save({"state_dict": {f"backbone.{key}": value for key, value in state.items()}}, path)
    load_backbone(backbone, path)
    assert torch.equal(backbone.conv1.weight, state["conv1.weight"])


def test_a_truncated_file_is_named_with_its_hash(weights):
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(SuiteError, match=r"small-.*: sha256 is .*its name promises .*: truncated or another file"):
        load_weights(weights)


def test_a_truncated_file_without_a_hash_in_its_name_is_named_too(weights, tmp_path):
    (tmp_path / "plain.pth").write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(SuiteError, match=r"plain.pth is not a readable file of weights \(\d+ bytes, sha256"):
        load_weights(tmp_path / "plain.pth")


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(SuiteError, match="other.pth holds no state dict"):
        load_weights(tmp_path / "other.pth")


def test_weights_of_another_network_are_refused(backbone, weights):
    with pytest.raises(SuiteError, match=r"'conv1.weight' has shape \[4, 3, 7, 7\].* needs \[8, 3, 7, 7\]"):
        load_backbone(build_backbone({**BACKBONE, "stem_channels": 8}), weights)
    deeper = {**BACKBONE, "depth": 34}
    with pytest.raises(SuiteError, match=r"no 'layer1.2.conv1.weight' in it: these are not weights of the config's"):
        load_backbone(build_backbone(deeper), weights)


def test_where_they_are_looked_for(suite, weights, tmp_path, monkeypatch):
    cfg = resolve_config(suite, "faster_rcnn")
    with pytest.raises(
        SuiteError, match=r"checkpoints/resnet50-0676ba61.pth is missing: .* Nothing is fetched unasked"
    ):
        backbone_weights(cfg, suite)
    cached = tmp_path / "torch/hub/checkpoints/resnet50-0676ba61.pth"
    cached.parent.mkdir(parents=True)
    shutil.copy(weights, cached)
    assert backbone_weights(cfg, suite) == cached
    suite = suite.changed(training={"backbone_weights": str(weights)})
    assert backbone_weights(cfg, suite) == weights
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none.pth"))
    with pytest.raises(SuiteError, match=f"none.pth .named by the variable {VARIABLE}. does not exist"):
        backbone_weights(cfg, suite)


def test_they_are_checked_with_the_data(suite, weights, tmp_path):
    cached = tmp_path / "torch/hub/checkpoints/resnet50-0676ba61.pth"
    cached.parent.mkdir(parents=True)
    shutil.copy(weights, cached)  # another file under the name
    with pytest.raises(SuiteError, match="resnet50-0676ba61.pth: sha256 is .* its name promises 0676ba61"):
        check_suite_weights(suite)


def test_a_backbone_from_scratch_needs_none(suite):
    check_suite_weights(load_suite("experiments/shapes.yaml"))
    cfg = ConfigDict(model={"backbone": {"init_cfg": None}})
    assert backbone_weights(cfg, suite) is None
    cfg.model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": "torchvision://resnet5"}
    with pytest.raises(SuiteError, match="torchvision has no model 'resnet5'"):
        backbone_weights(cfg, suite)
    for source, remedy in {
        "torchvision://resnet18": r"hub/checkpoints/resnet18-.*: fetch https://.*resnet18-.*pth to there",
        "https://there/mine.pth": r"hub/checkpoints/mine.pth is missing.*: fetch https://there/mine.pth to there",
        "weights/mine.pth": r"^weights/mine.pth is missing.*: put them there",
    }.items():
        cfg.model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": source}
        with pytest.raises(SuiteError, match=remedy):
            backbone_weights(cfg, suite)

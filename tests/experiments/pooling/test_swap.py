"""A trained IoU-Net with another RoI pooling in it."""

import gzip
import json
from pathlib import Path

import pytest
import torch

import experiments.pooling.swap as swap
from experiments.config import config_hash, resolve_config
from experiments.models import build_model
from experiments.pooling.extractor import SampledRoIExtractor
from experiments.pooling.rows import SAMPLES, changes_of, pooled_variant
from iounet.models import PrRoIExtractor
from suite.errors import SuiteError
from suite.reader import laid_over, read_yaml
from suite.suite import check_suite, load_suite

VARIANT = "samp1000_lw5.0"


@pytest.fixture(scope="module")
def suite_file(tiny_suite, tiny_data, tmp_path_factory):
    """The tiny suite's YAML, its images, and random weights where its checkpoint is."""
    torch.manual_seed(0)
    model = build_model(resolve_config(tiny_suite, VARIANT))
    model.init_weights()
    path = tiny_suite.layout.run(VARIANT, 0).checkpoint
    path.parent.mkdir(parents=True, exist_ok=True)
    classes = ["circle", "triangle", "cross", "bar", "ring"]
    torch.save({"meta": {"classes": classes}, "state_dict": model.state_dict()}, path)
    file = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    file.write_text(tiny_suite.text)
    return file


@pytest.mark.parametrize("pooling", SAMPLES)
def test_only_the_extractor_is_another(tiny_suite, pooling):
    own, changed = resolve_config(tiny_suite, VARIANT), resolve_config(tiny_suite, VARIANT, changes_of(pooling))
    assert config_hash(own) != config_hash(changed)
    model, other = build_model(own), build_model(changed)
    assert type(model.roi_head.bbox_roi_extractor) is PrRoIExtractor
    extractor = other.roi_head.bbox_roi_extractor
    assert isinstance(extractor, SampledRoIExtractor)
    assert (extractor.samples, extractor.size) == (SAMPLES[pooling], (7, 7))
    assert extractor.featmap_strides == model.roi_head.bbox_roi_extractor.featmap_strides
    other.load_state_dict(model.state_dict(), strict=True)
    changed.model.roi_head.bbox_roi_extractor = own.model.roi_head.bbox_roi_extractor
    assert config_hash(own) == config_hash(changed)


def test_a_checkpoint_is_evaluated_with_another_pooling(tiny_suite, suite_file):
    swap.main(["--suite", str(suite_file), "--pooling", "align2", "--seed", "0"])
    folder = tiny_suite.layout.swapped("align2", 0, "val")
    index = json.loads(folder.index.read_text())
    assert list(index["AP"]) == ["off", "rank", "rank_refine0.25"]
    assert index["config_hash"] == config_hash(resolve_config(tiny_suite, VARIANT, changes_of("align2")))
    assert all(folder.matches(name).is_file() for name in index["AP"])
    assert not folder.diagnostics.exists()
    boxes = json.loads(gzip.decompress(folder.detections.read_bytes()))["settings"]
    assert boxes["rank"]["bbox"] != boxes["rank_refine0.25"]["bbox"]  # they were refined


def test_a_pooling_there_is_not_is_named(suite_file):
    with pytest.raises(
        SystemExit, match="error: no pooling 'align3'; there are align0, align1, align2, align4, align8"
    ):
        swap.main(["--suite", str(suite_file), "--pooling", "align3"])


def test_a_seed_without_a_checkpoint_is_named(suite_file):
    with pytest.raises(SystemExit, match=r"error: .*seed7/checkpoint.pth is missing: train it first"):
        swap.main(["--suite", str(suite_file), "--pooling", "align1", "--seed", "7"])


def test_the_overlay_trains_with_each():
    shapes = load_suite("experiments/shapes.yaml")
    over = read_yaml(Path("experiments/pooling.yaml"))
    merged = {**shapes.raw, **over, "variants": {**shapes.raw["variants"], **over["variants"]}}
    suite = check_suite(laid_over(merged))
    assert suite.sweep is None
    assert pooled_variant(suite) == VARIANT
    trained = {}
    for name in suite.variants:
        extractor = resolve_config(suite, name).model.roi_head.bbox_roi_extractor
        if extractor.type == "SampledRoIExtractor":
            trained[name] = extractor.roi_layer.sampling_ratio
    assert trained == {f"{VARIANT}_{pooling}": samples for pooling, samples in SAMPLES.items()}
    with pytest.raises(SuiteError, match="no variant 'samp1000_lw5.0_bce'"):
        suite.variant("samp1000_lw5.0_bce")

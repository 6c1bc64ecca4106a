"""Suites: defaults, messages, mapping, hashes."""

from pathlib import Path

import pytest
import yaml

from experiments.config import config_hash, default_setting, resolve_config, training_hash
from suite.errors import SuiteError
from suite.settings import Setting
from suite.suite import check_suite, load_suite

TINY = Path("tests/workflow/tiny.yaml")


def tiny(**changes):
    return {**yaml.safe_load(TINY.read_text()), **changes}


@pytest.mark.parametrize("path", [TINY, Path("experiments/shapes.yaml"), Path("experiments/coco.yaml")])
def test_suites_of_the_project_are_valid_and_their_variants_resolve(path):
    suite = load_suite(path)
    hashes = {training_hash(resolve_config(suite, variant)) for variant in suite["variants"]}
    assert len(hashes) == len(suite["variants"])


def test_defaults_are_filled_in():
    suite = check_suite({k: v for k, v in tiny().items() if k not in ("scale", "inference")})
    assert suite["scale"] == {"loss_weight": 1.0, "smooth_l1_beta": 1.0, "rois": 1.0, "step_size": 1.0}
    assert suite["inference"]["guides"] == {key: [0.5, 1, 2, 3] for key in ("rank", "weight", "none")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sedes": [0]}, "'sedes' was unexpected"),
        ({"seeds": []}, r"seeds: \[\] should be non-empty"),
        ({"seeds": ["a"]}, "seeds.0: 'a' is not of type 'integer'"),
        (
            {"inference": {"guides": {"rnak": []}}},
            r"inference.guides: 'rnak' is not one of \['rank', 'weight', 'none'\]",
        ),
        ({"variants": {"x": {"family": "iounet", "config": "nowhere.py"}}}, "config of 'x' does not exist: nowhere.py"),
        ({"report_split": "tset"}, "report_split is 'tset', but dataset.splits has no such split"),
        ({"validation": {"split": "tnue"}}, "validation.split is 'tnue', but dataset.splits has no such split"),
        ({"report_split": "tune"}, "validation.split and report_split are both 'tune'"),
    ],
)
def test_a_typo_is_named(change, message):
    with pytest.raises(SuiteError, match=message):
        check_suite(tiny(**change), source="mine.yaml")


def test_a_file_laid_over_a_suite_can_take_the_sweep_away():
    over = yaml.safe_load(Path("experiments/quick.yaml").read_text())
    suite = check_suite({**yaml.safe_load(Path("experiments/shapes.yaml").read_text()), **over})
    assert "sweep" not in suite
    assert suite["seeds"] == [0]


def test_a_missing_suite_names_those_that_exist(tmp_path):
    with pytest.raises(SuiteError, match="no such suite file; experiments/ has .*shapes.yaml"):
        load_suite(tmp_path / "none.yaml")


def test_broken_yaml_is_named(tmp_path):
    (tmp_path / "bad.yaml").write_text("suite: [")
    with pytest.raises(SuiteError, match="bad.yaml is not valid YAML"):
        load_suite(tmp_path / "bad.yaml")


def test_unknown_variant_lists_the_known():
    with pytest.raises(SuiteError, match="no variant 'faster'; it has faster_rcnn, samp1000_lw5.0"):
        resolve_config(load_suite(TINY), "faster")


def test_scale_maps_published_values():
    suite = check_suite(tiny(scale={"loss_weight": 2, "smooth_l1_beta": 0.25, "rois": 0.1, "step_size": 0.5}))
    cfg = resolve_config(suite, "samp1000_lw5.0")
    assert cfg.model.roi_head.iou_head.loss_iou.loss_weight == 10
    assert cfg.model.roi_head.iou_head.loss_iou.beta == 0.25
    assert cfg.model.roi_head.roi_generator.sample_num == 100
    assert cfg.model.roi_head.roi_generator.per_iou is None
    assert cfg.mapped["loss_weight"] == {"published": 5.0, "actual": 10.0}
    assert default_setting(cfg) == Setting("rank", 0.25, 5)


def test_names_of_settings():
    assert [s.name for s in load_suite(TINY).settings("samp1000_lw5.0")] == [
        "off",
        "rank",
        "rank_refine0.25",
    ]
    assert [s.name for s in load_suite(TINY).settings("faster_rcnn")] == ["off"]
    assert Setting("weight", 2.0, 5).name == "weight_refine2"


def _suite_with_config(tmp_path, text):
    (tmp_path / "variant.py").write_text(text)
    suite = check_suite(tiny())
    suite["variants"]["faster_rcnn"]["config"] = str(tmp_path / "variant.py")
    return suite


def test_the_hash_ignores_comments_and_layout_and_sees_bases(tmp_path):
    base = Path("experiments/configs/shapes/base.py").resolve()
    (tmp_path / "base.py").write_text(base.read_text())
    plain = training_hash(resolve_config(_suite_with_config(tmp_path, "_base_ = ['base.py']\n"), "faster_rcnn"))
    commented = _suite_with_config(tmp_path, "# a comment\n_base_ = [\n    'base.py',\n]\n")
    assert training_hash(resolve_config(commented, "faster_rcnn")) == plain
    (tmp_path / "base.py").write_text(base.read_text().replace("max_epochs=", "max_epochs=1"))
    assert training_hash(resolve_config(commented, "faster_rcnn")) != plain


def test_test_settings_change_the_evaluation_but_not_the_training(tmp_path):
    base = Path("experiments/configs/shapes/base.py").resolve()
    text = f"_base_ = ['{base}']\n"
    before = resolve_config(_suite_with_config(tmp_path, text), "faster_rcnn")
    after = resolve_config(
        _suite_with_config(tmp_path, text + "model = dict(test_cfg=dict(rcnn=dict(score_thr=0.01)))"), "faster_rcnn"
    )
    assert training_hash(before) == training_hash(after)
    assert config_hash(before) != config_hash(after)

"""What a report asks of a suite: inference settings by published λ, seeds to report, and refusals by key."""

import pytest

from suite.errors import NotInSuite, SuiteError
from suite.settings import Setting, StepSize, setting_name
from suite.suite import load_suite
from tests.reports.synthetic import write_suite


def test_setting_names():
    assert setting_name(None) == "off"
    assert setting_name("rank") == "rank"
    assert [setting_name("weight", step) for step in (0.25, 1.0, 3)] == [
        "weight_refine0.25",
        "weight_refine1",
        "weight_refine3",
    ]


def test_settings_are_each_guides_own(tmp_path):
    suite = load_suite(write_suite(tmp_path / "s.yaml", inference={"step_sizes": {"rank": [0.5, 6], "none": [0.5]}}))
    refined = ["rank", "rank_refine0.25", "rank_refine3", "none", "none_refine0.25"]
    assert [setting.name for setting in suite.settings("samp1000_lw5.0")] == ["off", *refined]
    assert suite.settings("faster_rcnn") == [Setting()]


def test_actual_step_sizes_under_the_old_key_mean_the_same(tmp_path):
    new = load_suite(write_suite(tmp_path / "new.yaml", inference={"step_sizes": {"rank": [0.5, 6]}}))
    old = load_suite(write_suite(tmp_path / "old.yaml", inference={"guides": {"rank": [0.25, 3]}}))
    assert old.inference == new.inference
    assert old.changed(seeds=[2]).inference == new.inference


def test_published_step_size_is_mapped(tmp_path):
    suite = load_suite(write_suite(tmp_path / "shapes.yaml"))
    assert suite.setting("rank", 0.5).name == "rank_refine0.25"
    assert suite.setting("weight", 2.0).name == "weight_refine1"
    assert suite.setting(None).name == "off"
    assert suite.setting("rank", 0.5) == Setting("rank", StepSize(0.5, 0.25), 5)


def test_a_step_size_shows_its_actual_value_where_they_differ(tmp_path):
    suite = load_suite(write_suite(tmp_path / "shapes.yaml"))
    assert str(suite.scale.step(2.0)) == "λ = 2 (here 1)"
    assert str(load_suite(write_suite(tmp_path / "s.yaml", scale=None)).scale.step(2.0)) == "λ = 2"


def test_setting_outside_the_suite_is_named(tmp_path):
    suite = load_suite(write_suite(tmp_path / "s.yaml", inference={"step_sizes": {"rank": [0.5]}}))
    with pytest.raises(NotInSuite, match=r"λ = 2 \(here 1\) is not in inference.step_sizes.rank of suite 'shapes'"):
        suite.setting("rank", 2.0)
    with pytest.raises(NotInSuite, match="guide 'weight' is not in inference.step_sizes of suite 'shapes'"):
        suite.setting("weight")
    with pytest.raises(NotInSuite, match="not in suite 'shapes': other, another"):
        suite.require("faster_rcnn", "other", "another")


def test_seeds_can_be_replaced_and_scale_defaults_to_one(tmp_path):
    suite = load_suite(write_suite(tmp_path / "s.yaml", scale=None)).changed(seeds=[2])
    assert suite.seeds == (2,)
    assert suite.scale.step_size == 1.0
    assert suite.setting("rank", 0.5).name == "rank_refine0.5"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": None}, r"s.yaml does not fit .*\n  - top level: 'title' is a required property"),
        ({"inference": {"guides": []}}, r"s.yaml does not fit .*\n  - inference.step_sizes: \[\] is not of type"),
        ({"seeds": []}, r"s.yaml does not fit .*\n  - seeds: \[\] should be non-empty"),
        ({"seeds": "0"}, r"s.yaml does not fit .*\n  - seeds: '0' is not of type 'array'"),
        ({"seeds": [0, "1"]}, r"s.yaml does not fit .*\n  - seeds.1: '1' is not of type 'integer'"),
        ({"variants": ["a"]}, r"s.yaml does not fit .*\n  - variants: \['a'\] is not of type 'object'"),
    ],
)
def test_bad_suites_are_refused_by_key(tmp_path, changes, message):
    with pytest.raises(SuiteError, match=message):
        load_suite(write_suite(tmp_path / "s.yaml", **changes))


def test_missing_and_broken_yaml(tmp_path):
    with pytest.raises(SuiteError, match=r"none.yaml: no such suite file"):
        load_suite(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("seeds: [0, 1\ntitle: x")
    with pytest.raises(SuiteError, match=r"broken.yaml is not valid YAML"):
        load_suite(tmp_path / "broken.yaml")

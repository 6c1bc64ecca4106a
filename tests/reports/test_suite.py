import pytest

from reports.errors import NotInSuite, ReportError
from reports.suite import load_suite, setting_name
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
    suite = load_suite(write_suite(tmp_path / "s.yaml", inference={"guides": {"rank": [0.25, 3], "none": [0.25]}}))
    refined = ["rank", "rank_refine0.25", "rank_refine3", "none", "none_refine0.25"]
    assert suite.settings == ["off", *refined]


def test_published_step_size_is_mapped(tmp_path):
    suite = load_suite(write_suite(tmp_path / "shapes.yaml"))
    assert suite.setting("rank", 0.5) == "rank_refine0.25"
    assert suite.setting("weight", 2.0) == "weight_refine1"
    assert suite.setting(None) == "off"


def test_setting_outside_the_suite_is_named(tmp_path):
    suite = load_suite(write_suite(tmp_path / "s.yaml", inference={"guides": {"rank": [0.25]}}))
    with pytest.raises(NotInSuite, match=r"λ = 2 \(here 1\) is not in inference.guides.rank of suite 'shapes'"):
        suite.setting("rank", 2.0)
    with pytest.raises(NotInSuite, match="guide 'weight' is not in inference.guides of suite 'shapes'"):
        suite.setting("weight")
    with pytest.raises(NotInSuite, match="not in suite 'shapes': other, another"):
        suite.require("faster_rcnn", "other", "another")


def test_seeds_can_be_replaced_and_scale_defaults_to_one(tmp_path):
    suite = load_suite(write_suite(tmp_path / "s.yaml", scale=None), seeds=[2])
    assert suite.seeds == (2,)
    assert suite.scale["step_size"] == 1.0
    assert suite.setting("rank", 0.25) == "rank_refine0.25"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": None}, r"s.yaml: key 'title' is missing"),
        ({"inference": {"guides": []}}, r"s.yaml: key 'inference.guides' has an unexpected value"),
        ({"seeds": []}, r"s.yaml: key 'seeds' must be a non-empty list"),
        ({"seeds": "0"}, r"s.yaml: key 'seeds' has an unexpected value: '0'"),
        ({"variants": ["a"]}, r"s.yaml: key 'variants' has an unexpected value"),
    ],
)
def test_bad_suites_are_refused_by_key(tmp_path, changes, message):
    with pytest.raises(ReportError, match=message):
        load_suite(write_suite(tmp_path / "s.yaml", **changes))


def test_missing_and_broken_yaml(tmp_path):
    with pytest.raises(ReportError, match=r"none.yaml: no such suite file"):
        load_suite(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("seeds: [0, 1\ntitle: x")
    with pytest.raises(ReportError, match=r"broken.yaml: not valid YAML"):
        load_suite(tmp_path / "broken.yaml")

"""Which variant stands for which published one."""

import pytest

from suite.errors import NotInSuite, SuiteError
from suite.suite import check_suite, load_suite

BASELINE, IOUNET = "tests/workflow/configs/tiny_faster_rcnn.py", "tests/workflow/configs/tiny_iounet.py"


def suite_of(**variants):
    raw = {**load_suite("tests/workflow/tiny.yaml").raw}
    entries = {}
    for name, role in variants.items():
        family = "baseline" if name.startswith(("plain", "faster")) else "iounet"
        entries[name] = {"family": family, "config": BASELINE if family == "baseline" else IOUNET}
        entries[name] |= {"role": role} if role else {}
    return check_suite({**raw, "variants": entries}, "mine.yaml")


def test_a_published_name_is_its_role():
    suite = load_suite("experiments/shapes.yaml")
    assert suite.roles == {name: name for name in suite.variants}
    assert suite.standing_for("samp1000_lw5.0_bce") == "samp1000_lw5.0_bce"


def test_the_only_one_of_a_family_is_inferred():
    suite = suite_of(plain=None, ours=None)
    assert suite.roles == {"faster_rcnn": "plain", "samp1000_lw5.0": "ours"}
    assert (suite.standing_for("faster_rcnn"), suite.standing_for("ours")) == ("plain", "ours")
    with pytest.raises(NotInSuite, match=r"not in suite 'tiny': samp1000_lw5.0_bce \(role `bce`\), other$"):
        suite.require("faster_rcnn", "samp1000_lw5.0_bce", "other")


def test_a_role_that_is_said_leaves_the_other_to_be_inferred():
    suite = suite_of(plain=None, ours=None, ours_bce="bce")
    assert suite.roles["samp1000_lw5.0"] == "ours" and suite.roles["samp1000_lw5.0_bce"] == "ours_bce"


def test_one_without_a_role_is_no_mistake_where_the_main_one_is_known():
    suite = suite_of(plain=None, ours="main", mine=None)
    assert "mine" in suite.variants and "mine" not in suite.roles.values()
    assert suite_of(ours=None).roles == {"samp1000_lw5.0": "ours"}  # nor is a suite without a baseline


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (
            {"plain": None, "plain2": None},
            "which of plain, plain2 is the baseline.* give one `role: baseline`",
        ),
        ({"plain": None, "a": None, "b": None}, "which of a, b is the IoU-Net that the report compares"),
        ({"plain": None, "a": "main", "b": "main"}, "variants.b and variants.a both have the role `main`"),
        ({"plain": "main"}, "variants.plain.family is baseline, but a variant in the role `main` is iounet"),
        ({"faster_rcnn": "main"}, "variants.faster_rcnn.role is main, but .* published one of `baseline`: rename it"),
        ({"plain": "boss"}, "variants.plain.role: 'boss' is not one of .*'baseline', 'main', 'bce'"),
    ],
)
def test_what_cannot_be_told_is_an_error(variants, message):
    with pytest.raises(SuiteError, match=rf"mine.yaml(?s:.*){message}"):
        suite_of(**variants)

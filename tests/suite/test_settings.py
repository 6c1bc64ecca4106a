"""λ in both units, and the names of settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.settings import Setting, StepSize, setting_name


def test_names():
    assert Setting().name == setting_name(None) == "off"
    assert Setting("rank").name == "rank"
    assert Setting("weight", StepSize(2.0, 0.6), 5).name == "weight_refine0.6"
    assert Setting("rank", StepSize(0.5, 0.15), 5, "movement").name == "rank_refine0.15_movement"
    assert Setting("rank", part="score").name == "rank_score"
    assert [setting_name("weight", step) for step in (0.25, 1.0, 3)] == [
        "weight_refine0.25",
        "weight_refine1",
        "weight_refine3",
    ]


def test_the_one_conversion():
    assert StepSize.of_published(3, 0.3) == StepSize(3.0, 0.9)
    assert StepSize.of_actual(0.5, 0.3) == StepSize(1.6666667, 0.5)
    assert str(StepSize(2.0, 0.6)) == "λ = 2 (here 0.6)"
    assert str(StepSize(2.0, 2.0)) == "λ = 2"


@given(st.floats(1e-6, 1e6), st.floats(1e-3, 1e3))
def test_a_name_stands_for_one_value(published, factor):
    step = StepSize.of_published(published, factor)
    assert float(setting_name("rank", step.actual).removeprefix("rank_refine")) == step.actual
    # and an actual value read back from an old suite is the same again
    assert StepSize.of_published(StepSize.of_actual(step.actual, factor).published, factor).actual == pytest.approx(
        step.actual, rel=2e-6
    )

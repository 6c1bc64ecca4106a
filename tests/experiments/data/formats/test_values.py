"""Flags and numbers as annotations write them."""

import math

import pytest

from experiments.data.formats.values import flag, is_number


@pytest.mark.parametrize("value", [1, True, 1.0, "1", " 1 ", "true", "True", "yes"])
def test_what_is_set(value):
    assert flag(value)


@pytest.mark.parametrize("value", [0, False, 0.0, None, "", "0", "false", "No", "Unspecified"])
def test_what_is_not_set(value):
    assert not flag(value)


@pytest.mark.parametrize("value", [2, -1, 0.5, math.nan, "maybe", "10", [], [1], {}])
def test_what_is_neither(value):
    with pytest.raises(ValueError, match="expected 0 or 1"):
        flag(value)


def test_numbers():
    assert all(map(is_number, (0, -1, 0.5, 10**30)))
    assert not any(map(is_number, (math.nan, math.inf, "1", None, True, [])))

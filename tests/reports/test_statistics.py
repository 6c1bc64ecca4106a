import math

import numpy as np
import pytest

from reports.errors import ReportError
from reports.statistics import (
    Interval,
    bootstrap_interval,
    difference_interval,
    mean_interval,
    paired_differences,
)


def test_t_interval_by_hand():
    # mean 2, standard deviation 1, t(0.975, 2 degrees of freedom) = 4.302653
    estimate = mean_interval([1.0, 2.0, 3.0])
    assert estimate.mean == 2.0
    assert estimate.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert estimate.n == 3


def test_two_seeds():
    # standard deviation √2/2 of (0, 1); t(0.975, 1) = 12.706205
    assert mean_interval([0.0, 1.0]).half_width == pytest.approx(12.706205 * 0.5, rel=1e-6)


def test_one_seed_has_no_interval():
    assert mean_interval([3.0]).half_width is None
    assert difference_interval({0: 3.0}, {0: 1.0}) == Interval(2.0, 1, None, None)
    assert difference_interval({0: 3.0}, {0: 1.0}).combined is None


def test_no_values():
    with pytest.raises(ReportError, match="at least one value"):
        mean_interval([])


def test_differences_are_paired_by_seed_whatever_the_order():
    assert paired_differences({1: 5.0, 0: 3.0}, {0: 1.0, 1: 4.0}) == [2.0, 1.0]
    with pytest.raises(ReportError, match=r"same seeds, found \[0\] and \[0, 1\]"):
        paired_differences({0: 1.0}, {0: 1.0, 1: 1.0})


def test_pairing_removes_what_seeds_share():
    left, right = {0: 10.0, 1: 20.0, 2: 31.0}, {0: 9.0, 1: 19.0, 2: 30.0}
    low, high = difference_interval(left, right).seeds
    assert low == high == pytest.approx(1.0)
    assert mean_interval(list(left.values())).half_width > 20


def test_combined_interval_adds_in_quadrature_on_each_side():
    interval = Interval(1.0, 3, seeds=(-2.0, 4.0), images=(-3.0, 2.0))
    assert interval.combined == pytest.approx((1 - 5.0, 1 + math.sqrt(9 + 1)))
    assert Interval(1.0, 1, None, (0.5, 2.0)).combined == pytest.approx((0.5, 2.0))


def test_bootstrap_interval_is_paired_and_averages_seeds():
    resamples = np.linspace(0, 100, 1001)
    # both sides move together: the difference is 1 for one seed and 3 for the other, on every resample
    low, high = bootstrap_interval([resamples + 1, resamples + 3], [resamples, resamples])
    assert (low, high) == pytest.approx((2.0, 2.0))
    low, high = bootstrap_interval([resamples], [np.zeros(1001)])
    assert (low, high) == pytest.approx((2.5, 97.5))


def test_bootstrap_needs_the_same_resamples():
    with pytest.raises(ReportError, match="same seeds and resamples"):
        bootstrap_interval([np.zeros(3)], [np.zeros(4)])

"""The estimator of differences: by hand, against a bootstrap of whole trainings, and what its intervals cover."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.coverage import SCENARIOS, SEEDS, SPREADS, simulate
from reports.errors import ReportError
from reports.statistics import Design, Interval, Power, Term, estimate, holm, mean_interval, moderated_variance

THREE = np.array([1.0, 2.0, 3.0])  # mean 2, variance 1


def test_t_interval_by_hand():
    # mean 2, standard deviation 1, t(0.975, 2 degrees of freedom) = 4.302653
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert found.n == 3


def test_a_mean_needs_values():
    assert mean_interval([3.0]).half_width is None
    with pytest.raises(ReportError, match="at least one value"):
        mean_interval([])
    with pytest.raises(ReportError, match="at least one value on each side"):
        estimate([Term(np.array([]))])


def test_two_trainings_by_hand():
    # variances 1 and 4 of 3 trainings each, no peers: V = 1/3 + 4/3, Welch's degrees of freedom
    found = estimate([Term(THREE), Term(2 * THREE, weight=-1.0)])
    assert found.mean == -2.0
    assert found.error == pytest.approx(math.sqrt(5 / 3))
    assert found.degrees == pytest.approx((5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2))
    assert found.covers == "trainings" and found.decides
    welch = stats.ttest_ind(THREE, 2 * THREE, equal_var=False).confidence_interval(0.95)
    assert found.bounds == pytest.approx((welch.low, welch.high))


def test_seeds_do_not_pair_trainings():
    # The differences by seed are all alike; a paired test would be certain, but equal seeds have nothing in common.
    assert estimate([Term(10 * THREE), Term(10 * THREE - 1, weight=-1.0)]).error > 5


def test_a_variance_is_drawn_to_its_peers():
    # own variance 1 with 2 degrees of freedom, mean variance (1 + 4) / 2 = 2.5 with 1: (2.5 + 2) / 3
    assert moderated_variance(Term(THREE, peers=[2 * THREE])) == (pytest.approx(1.5), 3)
    assert moderated_variance(Term(THREE)) == (1.0, 2)
    assert moderated_variance(Term(THREE, peers=[np.array([7.0])])) == (1.0, 2)  # one training has no variance


def test_images_count_once():
    rng = np.random.default_rng(0)
    common, alone = rng.normal(0, 0.5, 20_000), rng.normal(0, 2.0, (3, 20_000))
    found = estimate([Term(THREE, common + alone)])
    assert found.images == pytest.approx(0.5, rel=0.1)  # not what images do to each training alone
    assert found.error == pytest.approx(math.sqrt(1 / 3 + found.images**2))
    assert found.covers == "trainings and images"
    both = estimate([Term(THREE, common + alone), Term(THREE, common + alone[::-1], weight=-1.0)])
    assert both.images == pytest.approx(0.0, abs=0.15)  # what both have in common goes out


def test_one_training_decides_nothing():
    found = estimate([Term(np.array([3.0]), np.array([[2.9, 3.1]])), Term(np.array([1.0]), np.zeros((1, 2)), -1.0)])
    assert (found.mean, found.error, found.covers) == (2.0, pytest.approx(0.1), "images")
    assert not found.decides and found.p_above(0) == found.p_below(0) == 1.0
    without = estimate([Term(np.array([3.0]))])
    assert without.bounds is None and without.covers == ""


def test_p_values_go_with_intervals():
    found = estimate([Term(THREE)])
    low, high = found.at(0.9)
    assert found.p_above(low) == pytest.approx(0.05)
    assert found.p_below(high) == pytest.approx(0.05)
    assert found.negative.bounds == pytest.approx((-found.bounds[1], -found.bounds[0]))


def test_equal_trainings_leave_no_doubt():
    found = estimate([Term(np.ones(3))])
    assert found.bounds == (1.0, 1.0) and found.p_above(0) == 0.0 and found.p_below(0) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("spreads", SPREADS)
@pytest.mark.parametrize("scenario", [SCENARIOS[0], SCENARIOS[2]], ids=lambda scenario: scenario.name)
def test_intervals_cover_what_they_say(scenario, spreads):
    found = simulate(scenario, 3, spreads, repeats=150)
    assert 0.93 < found.mean < 0.975  # 94 to 96.5 %, and the error of a short simulation
    assert found.worst > 0.82
    assert found.half_width < found.old_half_width


@pytest.mark.slow
@pytest.mark.parametrize("spreads", SPREADS)
@pytest.mark.parametrize("trainings", SEEDS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_intervals_cover_what_they_say_in_every_scenario(scenario, trainings, spreads):
    found = simulate(scenario, trainings, spreads, repeats=1000)
    most = 0.965 if trainings > 2 else 0.97  # two trainings of unequal spread are covered a little too well
    assert 0.94 - 0.005 < found.mean < most + 0.005  # and the error of the simulation


def test_power_is_that_of_the_test():
    # standard deviation 0.3 of 3 trainings: how often t of 5 trainings finds an effect of 0.5
    values = 0.3 * (THREE - 2)
    design = Power(estimate([Term(values)]), 0.5).design()
    assert design.images is None  # images change nothing here
    rng = np.random.default_rng(0)
    power = {}
    for n in (design.trainings - 1, design.trainings):
        drawn = rng.normal(0.5, 0.3, (20_000, n))
        power[n] = np.mean(abs(stats.ttest_1samp(drawn, 0, axis=1).pvalue) < 0.05)
    assert power[design.trainings - 1] < 0.8 <= power[design.trainings] + 0.01


def test_power_from_images():
    found = Interval(0.1, 3, math.hypot(0.01, 0.5), 1e6, trainings=0.01, images=0.5)
    # 0.5 must shrink to about 1 / (1.96 + 0.84): to 0.36
    assert Power(found, 1.0).design().images == pytest.approx((0.5 * 2.8) ** 2, rel=0.1)
    assert Power(found, 1.0).design().trainings is None
    with pytest.raises(ReportError, match="two trainings"):
        Power(Interval(0.1, 1), 1.0).design()
    assert Power(found, 10.0).design() == Design(2, pytest.approx(1 / 16))

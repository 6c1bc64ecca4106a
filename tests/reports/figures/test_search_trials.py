"""The figures of the hyper-parameter search: their data, and what they say."""

import dataclasses

import pytest

from reports.figures import search_history, search_importance, search_pairs, search_profiles, search_slices
from reports.figures.style import styled
from tests.reports.synthetic_sweep import WINNER


def test_slices_and_pairs_hold_each_trial_once_per_parameter_it_has(sweep):
    frame = search_slices.frame(sweep)
    assert frame["parameter"].value_counts().to_dict() == {"loss_weight": 5, "per_iou": 3, "per_img": 2}
    pairs = search_pairs.frame(sweep)
    assert len(pairs) == 5
    best = pairs[pairs["number"] == WINNER].iloc[0]
    assert (best["loss_weight"], best["sampling"], best["rois"]) == (2.5, "per_img", 400)


def test_history_carries_the_best_so_far(sweep):
    frame = search_history.frame(sweep)
    assert frame["best"].tolist() == pytest.approx([63.4, 63.4, 63.4, 65.4, 65.4])


def test_captions_say_what_the_data_say(sweep):
    assert "Not shown: 1 pruned and 1 failed." in search_history.make(sweep).caption
    assert "guide `weight`, λ = 2 is the best setting of 5 of 5 trials" in search_profiles.make(sweep).caption
    assert "loss weight 70 %" in search_importance.make(sweep).alt
    assert "loss weight 2.5, RoIs per image 400" in search_slices.make(sweep).alt


def test_importance_without_parameters_draws_the_rest(sweep):
    few = dataclasses.replace(sweep, importance={**sweep.importance, "parameters": None})
    figure = search_importance.make(few)
    assert figure.caption.startswith("5 complete trials do not tell one training parameter from another")
    with styled():
        assert len(figure.draw().axes) == 1

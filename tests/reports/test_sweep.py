"""The section on the hyper-parameter search: its numbers against their definition, what it says, what it refuses."""

import dataclasses

import pytest

from reports.context import Context
from reports.document.sections import FIGURES
from reports.figures import sweep_figures
from reports.figures.style import styled
from tests.reports.synthetic_sweep import WINNER


def test_slices_and_pairs_hold_each_trial_once_per_parameter_it_has(sweep):
    frame = sweep_figures.slices(sweep)
    assert frame["parameter"].value_counts().to_dict() == {"loss_weight": 5, "per_iou": 3, "per_img": 2}
    pairs = sweep_figures.pairs(sweep)
    assert len(pairs) == 5
    best = pairs[pairs["number"] == WINNER].iloc[0]
    assert (best["loss_weight"], best["sampling"], best["rois"]) == (2.5, "per_img", 400)


def test_history_carries_the_best_so_far(sweep):
    frame = sweep_figures.history(sweep)
    assert frame["best"].tolist() == pytest.approx([63.4, 63.4, 63.4, 65.4, 65.4])


def test_captions_say_what_the_data_say(sweep):
    assert "Not shown: 1 pruned and 1 failed." in sweep_figures.history_figure(sweep).caption
    assert "guide `weight`, λ = 2 is the best setting of 5 of 5 trials" in sweep_figures.profile_figure(sweep).caption
    assert "loss weight 70 %" in sweep_figures.importance_figure(sweep).alt
    assert "loss weight 2.5, RoIs per image 400" in sweep_figures.slice_figure(sweep).alt


@pytest.mark.parametrize("key", [key for key in FIGURES if key.startswith("sweep_")])
def test_figures_are_drawn(searched, sweep, key, tmp_path):
    with styled():
        FIGURES[key].make(Context(searched, {}, sweep), {}).draw().savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").stat().st_size > 2000


def test_importance_without_parameters_draws_the_rest(sweep):
    few = dataclasses.replace(sweep, importance={**sweep.importance, "parameters": None})
    figure = sweep_figures.importance_figure(few)
    assert figure.caption.startswith("5 complete trials do not tell one training parameter from another")
    with styled():
        assert len(figure.draw().axes) == 1

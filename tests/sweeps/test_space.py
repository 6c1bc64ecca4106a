"""The `sweep:` block: what it refuses, and what a trial's parameters become."""

import pytest
from optuna.trial import FixedTrial

from experiments.config import resolve_config, training_hash
from suite.errors import SuiteError
from suite.search import PARAMETERS, SearchParameter
from suite.suite import load_suite
from sweeps import space
from sweeps.space import Search, published_step
from tests.sweeps.conftest import with_sweep


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "nope"}, "has no variant 'nope'"),
        ({"base": "faster_rcnn"}, "'faster_rcnn' of `sweep:` has no IoU branch"),
        ({"split": "val"}, "sweep.split and report_split are both 'val'"),
        ({"split": "dev"}, "sweep.split is 'dev', but dataset.splits has no such split"),
        ({"space": {"loss_weight": [20, 1]}}, r"sweep.space.loss_weight is \[20, 1\]"),
        ({"space": {"loss_weight": [6, 20]}}, "leaves out 5 of 'samp1000_lw5.0'"),
        ({"space": {"per_iou": [10, 100]}}, "sweep.space has no per_img, with which 'samp1000_lw5.0'"),
        (
            {"space": {"per_img": [10, 2000]}, "published": ["periou"]},
            "sweep.space has no per_iou, with which 'periou'",
        ),
        ({"published": ["nope"]}, "has no variant 'nope'"),
        ({"published": ["faster_rcnn"]}, "'faster_rcnn' of `sweep:` has no IoU branch"),
        (
            {"published": ["other"]},
            "'other' differs from the base .* in more than",
        ),
    ],
)
def test_a_block_that_contradicts_itself_or_the_suite_is_refused(suite, changes, message):
    with pytest.raises(SuiteError, match=message):
        Search(with_sweep(suite, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "sweep.space"),
        ({"space": {"loss_weight": [0, 1]}}, "sweep.space.loss_weight.0"),
        ({"space": {"per_img": [1.5, 3]}}, "sweep.space.per_img"),
        (
            {"space": {"momentum": [0.1, 1]}},
            "sweep.space.momentum: no such parameter; there are loss_weight, per_img, per_iou",
        ),
        ({"guides": ["iou"]}, "sweep.guides.0"),
        ({"trials": 0}, "sweep.trials"),
        ({"sampler": {"startup": 3}}, "sweep.sampler"),
    ],
)
def test_the_schema_names_the_key(suite, changes, message):
    with pytest.raises(SuiteError, match=message):
        with_sweep(suite, **changes)


def test_a_suite_without_a_block(suite):
    without = suite.changed(sweep=None)
    assert without.sweep is None
    with pytest.raises(SuiteError, match="suite 'tiny' has no `sweep:` block"):
        Search(without)


def test_points_are_read_from_the_configs_the_base_first(sweep):
    assert list(sweep.points.items()) == [
        ("samp1000_lw5.0", {"loss_weight": 5.0, "sampling": "per_img", "per_img": 1000}),
        ("periou", {"loss_weight": 10.0, "sampling": "per_iou", "per_iou": 50}),
    ]


def test_a_point_given_twice_is_one_point(suite):
    assert list(Search(with_sweep(suite, published=["again"])).points) == ["samp1000_lw5.0"]


def test_the_embedded_suite_starts_from_the_four_published_points():
    sweep = Search(load_suite("experiments/shapes.yaml"))
    assert {
        label: (p["loss_weight"], p["sampling"], p[p["sampling"]]) for label, p in sweep.points.items()
    } == {
        "samp1000_lw5.0": (5, "per_img", 1000),
        "max1000_lw5.0_periou30": (5, "per_iou", 30),
        "max1000_lw5.0_periou50": (5, "per_iou", 50),
        "max1000_lw10.0_periou50": (10, "per_iou", 50),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("space", "given", "expected"),
    [
        ({"loss_weight": [1, 20]}, {"loss_weight": 3.0}, {"loss_weight": 3.0}),
        ({"per_img": [10, 2000]}, {"per_img": 40}, {"per_img": 40}),
        (
            {"per_img": [10, 2000], "per_iou": [10, 100]},
            {"sampling": "per_iou", "per_iou": 20},
            {"sampling": "per_iou", "per_iou": 20},
        ),
    ],
)
def test_a_trial_suggests_what_the_space_names(suite, space, given, expected):
    searched = Search(with_sweep(suite, space=space, published=[]))
    assert searched.suggest(FixedTrial(given)) == expected


def test_parameters_are_mapped_by_the_suite_s_scale(sweep):
    cfg = sweep.config({"loss_weight": 7.0, "sampling": "per_iou", "per_iou": 200})
    head = cfg.model.roi_head
    assert (head.iou_head.loss_iou.loss_weight, head.roi_generator.per_iou) == (7.0, 6)  # rois: 0.03
    assert head.roi_generator.sample_num is None
    assert cfg.mapped.per_iou == {"published": 200, "actual": 6}
    assert cfg.runner.max_epochs == 2


def test_the_base_s_own_point_trains_what_the_base_trains(sweep, suite):
    params = sweep.points["samp1000_lw5.0"]
    own = resolve_config(suite, "samp1000_lw5.0", {"runner.max_epochs": 2})
    assert training_hash(sweep.config(params)) == training_hash(own)


def test_folders_follow_from_what_is_trained(sweep, suite):
    params = sweep.points["periou"]
    assert sweep.trial_folder(params) == Search(suite).trial_folder(dict(params))
    assert sweep.trial_folder(params) != sweep.trial_folder({**params, "per_iou": 51})
    longer = Search(with_sweep(suite, epochs=3))
    assert sweep.trial_folder(params) != longer.trial_folder(params)


def test_the_grid_is_mapped_and_zero_is_no_refinement(sweep):
    assert [(published_step(setting), setting.name) for setting in sweep.grid][:3] == [
        (0, "rank"),
        (0.5, "rank_refine0.25"),
        (2, "rank_refine1"),
    ]
    assert {setting.num_steps for setting in sweep.grid} == {0, 2}


def test_budget_and_workers_do_not_make_another_study(sweep, suite):
    more = Search(with_sweep(suite, trials=50, workers=4))
    assert more.identity() == sweep.identity()
    assert more.fingerprint() != sweep.fingerprint()
    assert Search(with_sweep(suite, step_sizes=[1])).identity() != sweep.identity()


def test_the_suite_is_left_as_it_was(suite):
    before = suite.text
    Search(suite).config({"loss_weight": 2.0})
    assert suite.text == before


def test_trials_train_without_the_images_that_decide():
    block = {"base": "samp1000_lw5.0", "space": {"loss_weight": [1, 20]}, "epochs": 6}
    suite = load_suite("experiments/coco.yaml").changed(sweep=block)
    sweep = Search(suite)
    cfg = sweep.config({"loss_weight": 5.0})
    assert cfg.data.train.ann_file == "trainwithouttune.json"
    assert (cfg.runner.max_epochs, cfg.lr_config.step) == (6, [4, 6])  # the steps move with the length
    assert resolve_config(suite, "samp1000_lw5.0").data.train.ann_file == "train.json"


def test_a_study_of_this_recipe_goes_on():
    """Else its trials would be set aside, and trained again in other folders."""
    search = Search(load_suite("experiments/shapes.yaml"))
    assert search.fingerprint() == "04267f0b858f3cc2"
    assert search.trial_folder({}).path.as_posix() == "results/shapes/sweep/trials/fc485c9533ce1f14_seed0"
    steps = ("", "_refine0.15", "_refine0.3", "_refine0.6", "_refine0.9")
    assert search.identity() == {
        "base": "fc485c9533ce1f14",
        "space": {"loss_weight": [1, 20], "per_img": [250, 2000], "per_iou": [10, 100]},
        "epochs": 2,
        "seed": 0,
        "split": "tune",
        "settings": [f"{guide}{step}" for guide in ("none", "rank", "weight") for step in steps],
        "num_steps": 5,
    }


def test_a_parameter_takes_one_entry_of_the_table(suite, monkeypatch):
    """Also one that `scale:` does not know."""
    added = {"lr": SearchParameter("optimizer.lr", "learning rate")}
    monkeypatch.setattr(space, "PARAMETERS", PARAMETERS | added)
    monkeypatch.setattr("suite.suite.PARAMETERS", PARAMETERS | added)
    own = resolve_config(suite, "samp1000_lw5.0").optimizer.lr
    search = Search(with_sweep(suite, space={"loss_weight": [1, 20], "lr": [own / 10, own * 10]}, published=[]))
    assert search.points["samp1000_lw5.0"] == {"loss_weight": 5.0, "lr": own}
    params = search.suggest(FixedTrial({"loss_weight": 2.0, "lr": own / 2}))
    assert search.config(params).optimizer.lr == own / 2
    assert search.config(params).model.roi_head.roi_generator.sample_num == 30

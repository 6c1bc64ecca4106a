"""The section on the hyper-parameter search: its numbers against their definition, what it says, what it refuses."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from reports.build import build
from reports.errors import MissingResult, ReportError
from reports.figures import sweep_figures
from reports.figures.style import styled
from reports.results.collect import collect
from reports.results.matches import average_precision, draw_image_weights
from reports.results.sweep import (
    comparison_table,
    conclusion,
    difference,
    expected_range,
    load_sweep,
    parameters_text,
    trials_table,
)
from reports.suite import load_suite
from tests.reports.synthetic_sweep import BEST, DEFAULT, WINNER, make_sweep, profile


@pytest.fixture(scope="module")
def searched(made, tmp_path_factory):
    """Results with a search: the shared ones, in a folder of their own."""
    folder = tmp_path_factory.mktemp("searched")
    root = folder / "results/shapes"
    for part in ("runs", "evaluations", "data"):
        (root / part).parent.mkdir(parents=True, exist_ok=True)
        (root / part).symlink_to(made / "results/shapes" / part)
    shutil.copyfile(made / "shapes.yaml", folder / "shapes.yaml")
    make_sweep(root)
    return collect(load_suite(folder / "shapes.yaml"), root)


@pytest.fixture(scope="module")
def sweep(searched):
    return load_sweep(searched)


def with_values(sweep, values):
    """The search, its complete trials having other APs."""
    complete = sweep.trials["state"] == "complete"
    trials = sweep.trials.assign(value=np.where(complete, np.resize(values, len(sweep.trials)), np.nan))
    return dataclasses.replace(sweep, trials=trials)


def test_without_a_search_there_is_none(results):
    assert load_sweep(results) is None


def test_values_are_in_points_and_none_is_a_guide(sweep):
    assert sweep.trial(WINNER)["value"] == pytest.approx(100 * profile(WINNER)["weight", 2])
    assert set(sweep.profiles["guide"]) == {"rank", "weight", "none"}
    assert sweep.trials["source"].tolist()[:4] == [
        "samp1000_lw5.0", "max1000_lw5.0_periou30", "max1000_lw10.0_periou50", "sampler",
    ]  # fmt: skip


def test_the_difference_is_paired_over_images(sweep):
    left, right = ("winner", BEST), ("default", DEFAULT)
    found = difference(sweep, left, right, resamples=200)
    assert found.mean == pytest.approx(
        100 * (sweep.evaluations[left]["metrics"]["AP"] - sweep.evaluations[right]["metrics"]["AP"])
    )
    weights = draw_image_weights(16, 200)
    ap = [100 * average_precision(sweep.matches[side], weights).mean(axis=1) for side in (left, right)]
    assert found.images == pytest.approx(np.quantile(ap[0] - ap[1], [0.025, 0.975]))
    assert difference(sweep, left, left, resamples=50).images == (0, 0)
    assert difference(sweep, left, right, resamples=0).images is None


def test_comparison_separates_training_and_inference(sweep):
    table = comparison_table(sweep, resamples=50)
    assert [row.label for row in table.rows] == [
        "Default",
        "Default, guide and λ of the winner",
        "Winner, guide and λ of the default",
        "Winner",
    ]
    first, last = table.rows[0], table.rows[-1]
    assert "difference" not in first.cells
    assert last.cells["difference"].value == pytest.approx(last.cells["AP"].value - first.cells["AP"].value)
    assert last.cells["difference"].sources[0].file == f"sweep/val/winner/{BEST}.json"


def test_comparison_in_one_setting_has_two_rows(sweep):
    same = dataclasses.replace(sweep, summary={**sweep.summary, "settings": {"winner": DEFAULT, "default": DEFAULT}})
    assert [row.label for row in comparison_table(same, resamples=0).rows] == ["Default", "Winner"]


def test_trials_table_shows_every_trial(sweep):
    rows = {row.label: row for row in trials_table(sweep).rows}
    assert list(rows) == ["0", "1", "2", "3", "4", "5", "6"]
    assert [label for label, row in rows.items() if row.emphasis] == [str(WINNER)]
    assert rows["0"].cells["from"].value == "`samp1000_lw5.0`"
    assert rows["1"].cells["RoIs"].value == "30 per IoU bin"
    assert rows["3"].cells["from"].value == "sampler"
    assert rows["6"].cells["from"].value == "retry of 5"
    assert rows["6"].cells["AP"].value is None


def test_conclusion_says_effort_choice_and_difference(searched, sweep):
    effort, choice, verdict, _ = conclusion(searched, sweep, resamples=50)
    assert (
        "**5 complete trials** of 2 of 6 epochs (and 1 pruned, 1 failed), 5 min 30 s of wall time added up; budget 5"
        in effort
    )
    assert "Published points among them: 3; the sampler's: 2 (TPESampler, random until 3 trials are done)" in effort
    assert "MedianPruner stopped 1 early, by validation AP after an epoch." in effort
    assert "9 inference settings on `tune`" in effort
    assert "trial 3 (of the sampler): loss weight 2.5, RoIs per image 400; guide `weight`, λ = 2: AP 65.4" in choice
    assert "The default has 62.1, in its best setting 63.4." in choice
    assert "On `val`, winner minus default: **+" in verdict and "guide and λ alone +" in verdict


def test_conclusion_says_why_nothing_was_pruned(searched, sweep):
    summary = {**sweep.summary, "states": {"complete": 5}, "pruner": {"name": "MedianPruner", "startup_trials": 10}}
    effort = conclusion(searched, dataclasses.replace(sweep, summary=summary), 0)[0]
    assert "None was pruned: MedianPruner begins after 10 complete trials." in effort


def test_conclusion_when_the_default_wins(searched, sweep):
    winner = {key: {**data, "checkpoint_sha256": "same"} for key, data in sweep.evaluations.items()}
    own = dataclasses.replace(sweep, evaluations=winner)
    assert "is the default's checkpoint in another inference setting" in conclusion(searched, own, 0)[2]
    same = dataclasses.replace(own, summary={**own.summary, "settings": {"winner": DEFAULT, "default": DEFAULT}})
    assert "chose the default itself" in conclusion(searched, same, 0)[2]


def test_a_spread_that_seeds_explain_proves_nothing(searched, sweep):
    text = conclusion(searched, with_values(sweep, [60.0, 60.01]), 0)[3]
    assert "cannot be told apart" in text and "over 3 seeds of `samp1000_lw5.0`" in text


def test_a_large_spread_over_few_trials_proves_little(searched, sweep):
    text = conclusion(searched, with_values(sweep, [40.0, 60.0]), 0)[3]
    assert "cannot be told apart" not in text
    assert "With 5 trials of one seed each, a search of this size proves little" in text


def test_a_large_spread_over_many_trials_does_not_say_so(searched, sweep):
    number = 40
    trials = pd.concat([sweep.trials.head(5)] * (number // 5), ignore_index=True).assign(number=range(number))
    many = with_values(dataclasses.replace(sweep, trials=trials), [40.0, 60.0])
    text = conclusion(searched, many, 0)[3]
    assert "proves little" not in text and "larger than chance alone" in text


def test_expected_range_of_normal_values():
    assert expected_range(1) == 0
    assert expected_range(2) == pytest.approx(2 / np.sqrt(np.pi), rel=0.02)


def test_parameters_that_a_trial_does_not_have_are_not_named(sweep):
    assert parameters_text(sweep.trial(1)) == "loss weight 5, RoIs per IoU bin 30"


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


@pytest.mark.parametrize("make", sweep_figures.FIGURES.values())
def test_figures_are_drawn(sweep, make, tmp_path):
    with styled():
        make(sweep).draw().savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").stat().st_size > 2000


def test_importance_without_parameters_draws_the_rest(sweep):
    few = dataclasses.replace(sweep, importance={**sweep.importance, "parameters": None})
    figure = sweep_figures.importance_figure(few)
    assert figure.caption.startswith("5 complete trials do not tell one training parameter from another")
    with styled():
        assert len(figure.draw().axes) == 1


def test_the_report_has_the_section_with_and_without_a_search(copy, tmp_path):
    suite, results = copy / "shapes.yaml", copy / "results/shapes"
    build(suite, results, tmp_path / "without", resamples=0)
    assert "Not run: `snakemake sweep`" in (tmp_path / "without/README.md").read_text()
    make_sweep(results)
    build(suite, results, tmp_path / "with", resamples=20, example=tmp_path / "example")
    text = (tmp_path / "with/README.md").read_text()
    assert "## Hyper-parameter search" in text and "Not run" not in text
    assert {p.stem for p in (tmp_path / "with/figures").glob("sweep_*.png")} == {
        "sweep_history", "sweep_importance", "sweep_slices", "sweep_pairs", "sweep_profiles",
    }  # fmt: skip
    traces = json.loads((tmp_path / "with/provenance.json").read_text())
    assert traces["files"][f"sweep/val/winner/{BEST}.json"]["variant"] == "sweep_winner"
    assert (tmp_path / f"example/sweep/val/winner/{BEST}.json").is_file()
    assert (tmp_path / "example/sweep/trials.csv").is_file()


@pytest.mark.parametrize(
    ("file", "change", "error", "message"),
    [
        ("sweep.json", {"suite": "other"}, ReportError, "key 'suite' is 'other', expected 'shapes'"),
        ("sweep.json", {"dataset_fingerprint": "0"}, ReportError, "key 'dataset_fingerprint' is '0'"),
        ("sweep.json", {"settings": {"winner": "rank", "default": "rank"}}, MissingResult, "rank.json: no such file"),
        (f"val/winner/{BEST}.json", {"split": "tune"}, ReportError, "key 'split' is not 'val'"),
        (f"val/winner/{BEST}.json", {"metrics": {}}, ReportError, "key 'metrics.AP' is missing"),
    ],
)
def test_what_does_not_belong_is_refused(searched, tmp_path, file, change, error, message):
    (tmp_path / "data").symlink_to(searched.root / "data")
    folder = make_sweep(tmp_path)
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **change}))
    with pytest.raises(error, match=message):
        load_sweep(dataclasses.replace(searched, root=tmp_path))


def test_matches_that_are_not_the_evaluation_s_are_refused(searched, tmp_path):
    (tmp_path / "data").symlink_to(searched.root / "data")
    folder = make_sweep(tmp_path) / "val"
    shutil.copyfile(folder / f"default/{DEFAULT}.matches.json.gz", folder / f"winner/{BEST}.matches.json.gz")
    with pytest.raises(ReportError, match="from the matches, but metrics.AP"):
        load_sweep(dataclasses.replace(searched, root=tmp_path))


@pytest.mark.parametrize("damage", ["", "number,state\n0,complete\n"])
def test_a_damaged_table_is_named(searched, tmp_path, damage):
    (tmp_path / "data").symlink_to(searched.root / "data")
    (make_sweep(tmp_path) / "trials.csv").write_text(damage)
    with pytest.raises(ReportError, match=r"trials\.csv: (damaged|column 'published' is missing)"):
        load_sweep(dataclasses.replace(searched, root=tmp_path))

"""What is said of the search."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from reports.build import build
from reports.document.search import conclusion, expected_range
from tests.reports.synthetic_sweep import BEST, DEFAULT, make_sweep


def with_values(sweep, values):
    """The search, its complete trials having other APs."""
    complete = sweep.trials["state"] == "complete"
    trials = sweep.trials.assign(value=np.where(complete, np.resize(values, len(sweep.trials)), np.nan))
    return dataclasses.replace(sweep, trials=trials)


def test_conclusion_says_effort_choice_and_difference(searched, sweep):
    effort, choice, verdict, _ = conclusion(searched, sweep)
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
    effort = conclusion(searched, dataclasses.replace(sweep, summary=summary))[0]
    assert "None was pruned: MedianPruner begins after 10 complete trials." in effort


def test_conclusion_when_the_default_wins(searched, sweep):
    winner = {key: {**data, "checkpoint_sha256": "same"} for key, data in sweep.evaluations.items()}
    own = dataclasses.replace(sweep, evaluations=winner)
    assert "is the default's checkpoint in another inference setting" in conclusion(searched, own)[2]
    same = dataclasses.replace(own, summary={**own.summary, "settings": {"winner": DEFAULT, "default": DEFAULT}})
    assert "chose the default itself" in conclusion(searched, same)[2]


def test_a_spread_that_seeds_explain_proves_nothing(searched, sweep):
    text = conclusion(searched, with_values(sweep, [60.0, 60.01]))[3]
    assert "cannot be told apart" in text and "over 3 seeds of `samp1000_lw5.0`" in text


def test_a_large_spread_over_few_trials_proves_little(searched, sweep):
    text = conclusion(searched, with_values(sweep, [40.0, 60.0]))[3]
    assert "cannot be told apart" not in text
    assert "With 5 trials of one seed each, a search of this size proves little" in text


def test_a_large_spread_over_many_trials_does_not_say_so(searched, sweep):
    number = 40
    trials = pd.concat([sweep.trials.head(5)] * (number // 5), ignore_index=True).assign(number=range(number))
    many = with_values(dataclasses.replace(sweep, trials=trials), [40.0, 60.0])
    text = conclusion(searched, many)[3]
    assert "proves little" not in text and "larger than chance alone" in text


def test_expected_range_of_normal_values():
    assert expected_range(1) == 0
    assert expected_range(2) == pytest.approx(2 / np.sqrt(np.pi), rel=0.02)


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

"""The search: its numbers against their definition, and what it refuses."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from reports.errors import MissingResult, ReportError
from reports.results.matches import average_precision, draw_image_weights
from reports.results.search import difference, load_search, parameters_text
from tests.reports.synthetic_sweep import BEST, DEFAULT, WINNER, make_sweep, profile


def test_without_a_search_there_is_none(results):
    assert load_search(results) is None


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
    half = 1.959964 * np.std(ap[0] - ap[1])
    assert found.bounds == pytest.approx((found.mean - half, found.mean + half))
    assert found.covers == "images" and not found.decides
    assert difference(sweep, left, left, resamples=50).bounds == (0, 0)
    assert difference(sweep, left, right, resamples=0).bounds is None


def test_parameters_that_a_trial_does_not_have_are_not_named(sweep):
    assert parameters_text(sweep.trial(1)) == "loss weight 5, RoIs per IoU bin 30"


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
        load_search(dataclasses.replace(searched, root=tmp_path))


def test_matches_that_are_not_the_evaluation_s_are_refused(searched, tmp_path):
    (tmp_path / "data").symlink_to(searched.root / "data")
    folder = make_sweep(tmp_path) / "val"
    shutil.copyfile(folder / f"default/{DEFAULT}.matches.json.gz", folder / f"winner/{BEST}.matches.json.gz")
    with pytest.raises(ReportError, match="from the matches, but metrics.AP"):
        load_search(dataclasses.replace(searched, root=tmp_path))


@pytest.mark.parametrize("damage", ["", "number,state\n0,complete\n"])
def test_a_damaged_table_is_named(searched, tmp_path, damage):
    (tmp_path / "data").symlink_to(searched.root / "data")
    (make_sweep(tmp_path) / "trials.csv").write_text(damage)
    with pytest.raises(ReportError, match=r"trials\.csv: (damaged|column 'published' is missing)"):
        load_search(dataclasses.replace(searched, root=tmp_path))

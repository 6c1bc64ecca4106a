"""Trainings that came to nothing: a report says so first, tests no claim on them, and draws nothing empty."""

import json

import pytest

from reports.build import build
from reports.errors import NothingToShow
from reports.figures.figure import require_some
from reports.results.blank import blank_notes, blank_trainings, blank_variants
from reports.results.collect import collect
from suite.suite import load_suite
from tests.reports import synthetic
from tests.reports.synthetic_sweep import make_sweep

VARIANTS = ("faster_rcnn", "samp1000_lw5.0", "samp1000_lw5.0_bce")
ALL = [(variant, seed) for variant in VARIANTS for seed in (0, 1)]


def made(folder, blank):
    """A folder with a suite of three variants and two seeds, and its results."""
    synthetic.make_results(folder / "results/shapes", images=8, variants=VARIANTS, seeds=(0, 1), blank=blank)
    synthetic.write_suite(folder / "shapes.yaml", variants=synthetic.variants_of(VARIANTS), seeds=[0, 1])
    return folder


@pytest.fixture(scope="module")
def nothing(tmp_path_factory):
    return made(tmp_path_factory.mktemp("nothing"), ALL)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """The BCE variant came to nothing, and one training of the first version."""
    blank = [("samp1000_lw5.0_bce", 0), ("samp1000_lw5.0_bce", 1), ("samp1000_lw5.0", 1)]
    return made(tmp_path_factory.mktemp("mixed"), blank)


def built(folder, **options):
    report = build(folder / "shapes.yaml", folder / "results/shapes", folder / "report", resamples=20, **options)
    return report, (folder / "report/README.md").read_text(encoding="utf-8")


def results_of(folder):
    return collect(load_suite(folder / "shapes.yaml"), folder / "results/shapes", resamples=0)


def section(text, title):
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_a_report_without_any_result_says_so_first(nothing):
    _, text = built(nothing)
    first, *_ = section(text, "In short").strip().splitlines()
    assert "**Nothing was found: AP on `val` is 0 in every training and every inference setting.**" in first
    assert "runs/faster_rcnn/seed0/train.log" in first and "learning rate" in first and "training.epochs" in first
    assert "reproduced" not in section(text, "In short")
    assert not (nothing / "report/verdicts.json").exists(), "no claim is tested"
    assert "NaN" not in text and "nan" not in text.replace("provenance", "")


def test_its_empty_figures_are_left_out_with_a_sentence_each(nothing):
    report, text = built(nothing)
    assert {figure.key for figure in report.illustrations} == {"speed", "losses"}
    left_out = section(text, "Left out")
    for title in ("Improvement", "AP by IoU threshold", "AP by epoch", "Sample detections", "Survivors of NMS"):
        assert f"Figure “{title}”: " in left_out
    assert "Claim “" in left_out and "found nothing, AP is 0" in left_out
    assert "cannot be told: no IoU-Net has boxes near objects" in section(text, "Why it works")


def test_a_part_of_a_report_says_it_too(nothing):
    report, text = built(nothing, only=["main"])
    assert "**Nothing was found:" in text.split("\n## ")[0]
    assert report.illustrations == []


def test_one_variant_and_one_training_are_named_and_the_rest_is_compared(mixed):
    report, text = built(mixed)
    first, second, third, *_ = section(text, "In short").strip().splitlines()
    assert "**`samp1000_lw5.0`, seed 1, found nothing: AP on `val` is 0 in every setting.**" in first
    assert "part of its variant's means" in first
    assert "**`samp1000_lw5.0_bce`, seeds 0, 1, found nothing" in second and "are not tested" in second
    assert "runs/samp1000_lw5.0/seed1/train.log" in third
    claims = json.loads((mixed / "report/verdicts.json").read_text())
    assert claims and all("bce" not in claim["id"] for claim in claims)
    assert "samp1000_lw5.0_bce found nothing, AP is 0" in section(text, "Left out")
    assert {"improvement", "thresholds", "samples", "validation", "confidence"} <= {
        figure.key for figure in report.illustrations
    }


def test_what_is_blank(nothing, mixed, results):
    assert blank_trainings(results) == {} and blank_notes(results) == []
    assert blank_variants(results_of(nothing)) == list(VARIANTS)
    found = results_of(mixed)
    assert blank_trainings(found) == {"samp1000_lw5.0": [1], "samp1000_lw5.0_bce": [0, 1]}
    assert blank_variants(found) == ["samp1000_lw5.0_bce"]


def test_a_search_that_found_nothing_says_so_and_draws_nothing(tmp_path):
    folder = made(tmp_path, [])
    sweep = make_sweep(folder / "results/shapes")
    for name, column in (("trials.csv", "value"), ("profiles.csv", "AP"), ("curves.csv", "AP")):
        header, *rows = (line.split(",") for line in (sweep / name).read_text().splitlines())
        place = header.index(column)
        lines = [[*row[:place], "0.0" if row[place] else "", *row[place + 1 :]] for row in rows]
        (sweep / name).write_text("\n".join(map(",".join, [header, *lines])) + "\n")
    report, text = built(folder)
    said = section(text, "Hyper-parameter search")
    assert "**No trial found anything: AP is 0 in every trial and every setting.**" in said
    assert not [figure.key for figure in report.illustrations if figure.key.startswith("sweep_")]
    assert "Figure “Trials of the search”: AP of every trial is 0" in section(text, "Left out")


@pytest.mark.parametrize("values", [[], [0.0, 0], [None, float("nan")], [[0, 0], [0, 0]]])
def test_nothing_is_drawn_of_zeros_and_gaps(values):
    with pytest.raises(NothingToShow, match="why"):
        require_some(values, "why")
    require_some([*[0] * 3, -0.1], "why")

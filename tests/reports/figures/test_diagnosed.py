"""The figures of “Why it works”: their data, what their captions say, and a report without them."""

import copy
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from reports.build import build
from reports.errors import NothingToShow
from reports.figures import ascent, confidence, refinement, survivors
from reports.figures.style import styled
from reports.results.collect import collect
from suite.suite import load_suite

FILE = "evaluations/samp1000_lw5.0/seed1/val/diagnostics.json"
FIGURES = {
    "confidence": confidence.make,
    "survivors": survivors.make,
    "refinement": refinement.make,
    "ascent": ascent.make,
}


def data_of(results, variant="samp1000_lw5.0"):
    frame = results.diagnostics
    return list(frame.loc[frame["variant"] == variant, "data"])


def test_density_pools_the_seeds(results):
    frame = confidence.frame(results)
    files = data_of(results)
    assert (frame.groupby("confidence")["boxes"].sum() == sum(data["confidence"]["boxes"] for data in files)).all()
    histogram = np.sum([data["confidence"]["class_score"]["histogram"] for data in files], axis=0)
    own = frame[(frame["confidence"] == "class score") & np.isclose(frame["true_iou"], 0.975)]
    assert own.sort_values("value")["boxes"].tolist() == histogram[-1].tolist()
    centres = np.arange(0.0125, 1, 0.025)
    assert own["mean"].iloc[0] == pytest.approx(np.average(centres, weights=histogram[-1]))


def test_survivors_share_of_the_boxes_before_nms(results):
    frame = survivors.frame(results)
    own = frame[(frame["variant"] == "samp1000_lw5.0") & (frame["seed"] == 0)].set_index(["nms", "true_iou"])
    assert own.loc[("regular NMS", 0.95), ["boxes", "share"]].tolist() == [25, 5]
    assert (own.loc["before NMS", "share"] == 100).all()


def test_refinement_by_step_and_by_start(results):
    frame = refinement.frame(results)
    steps = frame[(frame["part"] == "by step") & (frame["variant"] == "samp1000_lw5.0") & (frame["seed"] == 2)]
    np.testing.assert_allclose(steps["value"], [0, 0.2, 0.4, 0.6, 0.8, 1.0])
    starts = frame[frame["part"] == "by true IoU before"]
    np.testing.assert_allclose(starts.loc[starts["series"] == "lost", "value"], 10)
    change = frame[frame["part"] == "change"]
    assert change["value"].sum() == pytest.approx(100)
    assert change.loc[change["value"] > 0, "x"].tolist() == pytest.approx(np.arange(0, 2.5, 0.25))


def test_ascent_is_relative_to_the_start(results):
    frame = ascent.frame(results)
    own = frame[(frame["variant"] == "samp1000_lw5.0") & (frame["step_size"] == 2) & (frame["seed"] == 0)]
    np.testing.assert_allclose(own.loc[own["iou"] == "true", "change"], [0, -0.2, -0.4, -0.6, -0.8, -1.0])
    assert own.loc[own["iou"] == "predicted", "value"].iloc[0] == pytest.approx(90)


def test_captions_say_what_the_data_say(results):
    captions = {name: make(results).caption for name, make in FIGURES.items()}
    pearson = np.mean([data["confidence"]["predicted_iou"]["pearson"] for data in data_of(results)])
    assert f"{pearson:.2f} (Pearson)" in captions["confidence"]
    assert "All 12000 positive boxes before NMS (`samp1000_lw5.0`, seeds 0, 1, 2)" in captions["confidence"]
    assert (
        "From a true IoU of 0.9 on, IoU-guided NMS keeps 233 boxes and regular NMS 85, of 1700"
        in (captions["survivors"])
    )
    assert "of 900 boxes 50 % gain more than 0.5, 10 % lose more than that" in captions["refinement"]
    assert "20 % stop after the first step, 20 % take all 5" in captions["refinement"]
    assert "predicted IoU has changed by +4.00 at λ = 2 (most) to +0.50 at λ = 0.25 (least)" in captions["ascent"]
    assert "true IoU has changed by +0.75 at λ = 0.25 (most) to −1.00 at λ = 2 (least)" in captions["ascent"]


@pytest.fixture
def nothing(results):
    """The diagnostics of a model that finds nothing."""
    data = copy.deepcopy(data_of(results)[0])
    for key in ("class_score", "predicted_iou"):
        part = data["confidence"][key]
        part.update(pearson=None, spearman=None, histogram=np.zeros((20, 40), dtype=int).tolist())
    for key in ("no_nms", "regular", "guided"):
        data["survivors"][key] = [0] * 10
    refined = data["refinement"]
    for key in ("true_iou", "gained", "lost", "unchanged"):
        refined["by_step"][key] = [None] * 6
    refined["by_start"].update({key: [None] * 10 for key in ("change", "gained", "lost", "unchanged")})
    refined.update(boxes=0, steps=[0] * 6)
    refined["by_start"]["boxes"], refined["change"]["boxes"] = [0] * 10, [0] * 40
    for curve in data["ascent"]:
        curve.update(boxes=0, predicted=[None] * 6, true=[None] * 6)
    return data


def with_diagnostics(results, *seeds):
    rows = [{"variant": "samp1000_lw5.0", "seed": n, "stale": "", "data": data} for n, data in enumerate(seeds)]
    return dataclasses.replace(results, diagnostics=pd.DataFrame(rows))


@pytest.mark.parametrize("name", FIGURES)
def test_of_a_model_that_finds_nothing_nothing_is_drawn(results, nothing, name):
    with pytest.raises(NothingToShow, match="`samp1000_lw5.0` has no box whose IoU with an object"):
        FIGURES[name](with_diagnostics(results, nothing))


@pytest.mark.parametrize("name", FIGURES)
def test_a_seed_that_finds_nothing_beside_one_that_does(results, nothing, name):
    figure = FIGURES[name](with_diagnostics(results, data_of(results)[0], nothing))
    with styled():
        figure.draw().savefig("/dev/null", format="png", dpi=30)
    assert "nan" not in figure.caption + figure.alt


def test_diagnostics_of_another_checkpoint_are_marked(copy):
    path = copy / "results" / "shapes" / FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "checkpoint_sha256": "0" * 64}))
    results = collect(load_suite(copy / "shapes.yaml"), copy / "results" / "shapes")
    assert "(`samp1000_lw5.0`, seeds 0, 1, 2 †)" in survivors.make(results).caption


def test_a_report_without_diagnostics_says_so_in_one_line(copy, monkeypatch):
    monkeypatch.setattr("reports.writing.write_figures", lambda report, folder, dpi, svg: None)
    monkeypatch.setattr("reports.writing.html_page", lambda report, links, image: "")
    root = copy / "results" / "shapes"
    (root / FILE).unlink()
    report = build(copy / "shapes.yaml", root, copy / "out", resamples=0)
    line = "- Diagnostics (“Why it works”): no diagnostics.json for samp1000_lw5.0 (seed {})."
    assert line.format("1") in (copy / "out" / "README.md").read_text()
    assert set(FIGURES) < {figure.key for figure in report.illustrations}
    for seed in (0, 2):
        (root / FILE.replace("seed1", f"seed{seed}")).unlink()
    report = build(copy / "shapes.yaml", root, copy / "out", resamples=0)
    text = (copy / "out" / "README.md").read_text()
    assert line.format("0, 1, 2") in text
    assert "## Why it works" not in text
    assert not set(FIGURES) & {figure.key for figure in report.illustrations}

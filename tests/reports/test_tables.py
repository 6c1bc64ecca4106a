"""Tables and verdicts on hand-made numbers: every value here can be checked with pencil and paper."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from reports.claims import judge, judge_claims, load_claims, metric_of, scoreboard
from reports.document.summary import summary
from reports.errors import MissingResult, NotInSuite, ReportError
from reports.results.collect import METRICS, Results
from reports.results.published import load_published
from reports.suite import Suite, load_suite
from reports.tables.accuracy import (
    ablation_table,
    bce_table,
    guide_table,
    improved_table,
    loss_weight_table,
    main_table,
    step_size_table,
)
from reports.tables.cells import Side, difference_cell, mean_cell
from reports.tables.table import MINUS, Cell, Row, Source, Table, format_cell, format_number, format_range
from tests.reports.synthetic import write_suite

PUBLISHED = load_published()
T2 = 4.302653  # t(0.975) with 2 degrees of freedom: 3 seeds


def results_of(values: dict[tuple[str, str], tuple[float, ...]], suite: Suite, stale: str = "") -> Results:
    """Results from AP in points by (variant, setting), one per seed; AP90 is 40 below, everything else equals AP."""
    rows = [
        {
            "variant": variant,
            "seed": seed,
            "split": "val",
            "setting": setting,
            **dict.fromkeys(METRICS, ap / 100),
            "AP90": (ap - 40) / 100,
            "source": f"evaluations/{variant}/seed{seed}/val/{setting}.json",
            "stale": stale if variant == "faster_rcnn" else "",
        }
        for (variant, setting), aps in values.items()
        for seed, ap in enumerate(aps)
    ]
    return Results(suite, Path("results/shapes"), pd.DataFrame(rows), pd.DataFrame(), pd.DataFrame(), None)


@pytest.fixture
def suite(tmp_path):
    return load_suite(write_suite(tmp_path / "shapes.yaml"))


ABLATION = {
    ("faster_rcnn", "off"): (70.0, 71.0, 72.0),
    ("samp1000_lw5.0", "off"): (70.5, 71.5, 72.5),
    ("samp1000_lw5.0", "rank"): (71.0, 72.0, 74.0),
    ("samp1000_lw5.0", "rank_refine0.25"): (73.0, 72.0, 74.0),
}


def test_main_table(suite):
    table = main_table(results_of(ABLATION, suite), PUBLISHED)
    assert [(row.group, row.label) for row in table.rows] == [
        ("Paper", "Faster R-CNN"),
        ("Paper", "Faster R-CNN + IoU-Net"),
        ("Paper", "Improvement"),
        ("Published reproduction", "Faster R-CNN (retrained)"),
        ("Published reproduction", "Faster R-CNN + IoU-Net"),
        ("Published reproduction", "Improvement"),
        ("This run", "Faster R-CNN"),
        ("This run", "Faster R-CNN + IoU-Net"),
        ("This run", "Improvement"),
    ]
    assert [table.rows[2].cells[c].value for c in table.columns] == [1.7, -1.7, -0.7, 1.4, 3.9, 5.7]
    baseline, ours, improvement = (row.cells["AP"] for row in table.rows[-3:])
    assert baseline.value == pytest.approx(71.0)
    assert baseline.half_width == pytest.approx(T2 / math.sqrt(3), rel=1e-6)
    assert ours.value == pytest.approx(73.0)
    # paired differences 3, 1, 2: mean 2, standard deviation 1
    assert improvement.value == pytest.approx(2.0)
    assert improvement.half_width == pytest.approx(T2 / math.sqrt(3), rel=1e-6)
    assert format_cell(improvement) == "+2.0 ± 2.5"
    assert {source.file for source in improvement.sources} == {
        f"evaluations/{variant}/seed{seed}/val/{setting}.json"
        for variant, setting in (("faster_rcnn", "off"), ("samp1000_lw5.0", "rank_refine0.25"))
        for seed in range(3)
    }


def test_improvement_is_a_mean_of_paired_differences_not_of_intervals(suite):
    results = results_of({("faster_rcnn", "off"): (10, 50, 90), ("samp1000_lw5.0", "off"): (11, 51, 91)}, suite)
    cell = difference_cell(results, Side("samp1000_lw5.0"), Side("faster_rcnn"), "AP")
    assert cell.value == pytest.approx(1.0)
    assert cell.half_width == pytest.approx(0.0, abs=1e-9)


def test_one_seed_has_no_interval(tmp_path):
    suite = load_suite(write_suite(tmp_path / "s.yaml"), seeds=[0])
    table = main_table(results_of({key: value[:1] for key, value in ABLATION.items()}, suite), PUBLISHED)
    assert format_cell(table.rows[-1].cells["AP"]) == "+3.0"
    assert "AP half width" not in table.frame().columns


def test_ablation_table(suite):
    table = ablation_table(results_of(ABLATION, suite), PUBLISHED)
    columns = {
        name: [row.cells[name].value if name in row.cells else None for row in table.rows] for name in table.columns
    }
    assert columns["paper AP"] == [36.4, 37.0, 37.6, 38.1]
    assert columns["reproduction AP"] == [37.6, 37.8, 38.7, 39.3]
    assert columns["AP"] == pytest.approx([71.0, 71.5, 217 / 3, 73.0])
    assert columns["step"][1:] == pytest.approx([0.5, 2.5 / 3, 2 / 3])
    assert columns["total"][1:] == pytest.approx([0.5, 4 / 3, 2.0])
    assert columns["step"][0] is None


def test_step_size_table_keeps_every_lambda_of_both(suite):
    variants = list(PUBLISHED["reproduction"].table("lambda")["rows"])
    values = {(v, f"rank_refine{s}"): (70.0, 70.0, 70.0) for v in variants for s in ("0.25", "1", "2")}
    table = step_size_table(results_of(values, suite), PUBLISHED)
    assert table.columns == ("0.25", "0.5", "1", "2", "3")
    assert set(table.rows[0].cells) == {"0.5", "1", "2", "3"}
    assert set(table.rows[-1].cells) == {"0.25", "1", "2"}


def test_loss_weight_table_keeps_the_label_and_shows_what_was_used(results):
    rows = {(row.group, row.label): row.cells for row in loss_weight_table(results, PUBLISHED).rows}
    published = rows["Published reproduction", "max1000_lw10.0_periou50"]
    assert (published["loss weight"].value, published["training RoIs"].value) == (10.0, "per_iou=50")
    ours = rows["This run", "max1000_lw10.0_periou50"]
    assert (ours["loss weight"].value, ours["training RoIs"].value) == ("10", "per_iou=12, at most 250")
    assert rows["This run", "samp1000_lw5.0"]["training RoIs"].value == "per_img=250"


def test_guide_and_improved_tables_use_the_mapped_step(suite):
    variants = list(PUBLISHED["reproduction"].table("guide")["rows"])
    values = {(v, "rank_refine1"): (70.0, 70.0, 70.0) for v in variants}
    values |= {(v, "weight_refine1"): (71.0, 70.5, 70.0) for v in variants}
    row = guide_table(results_of(values, suite), PUBLISHED).rows[-1]
    assert row.cells["difference"].value == pytest.approx(0.5)
    values = {("faster_rcnn", "off"): (70.0,) * 3, ("samp1000_lw5.0", "rank_refine0.25"): (71.0,) * 3}
    bce = {"rank_refine0.25": 72.0, "rank_refine1": 72.5, "weight_refine1": 73.0}
    values |= {("samp1000_lw5.0_bce", setting): (ap,) * 3 for setting, ap in bce.items()}
    rows = improved_table(results_of(values, suite), PUBLISHED).rows
    assert [row.cells["gain"].value for row in rows[1:]] == pytest.approx([1.0, 2.0, 2.5, 3.0])


def test_missing_variant_and_missing_file_are_different_errors(tmp_path, suite):
    with pytest.raises(MissingResult, match=r"results/shapes/evaluations/samp1000_lw5.0/seed0/val/off.json: no such"):
        ablation_table(results_of({("faster_rcnn", "off"): (70.0,) * 3}, suite), PUBLISHED)
    small = load_suite(write_suite(tmp_path / "small.yaml", variants={"faster_rcnn": {"family": "baseline"}}))
    with pytest.raises(NotInSuite, match=r"not in suite 'shapes': samp1000_lw5.0_bce"):
        bce_table(results_of({("faster_rcnn", "off"): (70.0,) * 3}, small), PUBLISHED)


def test_stale_inputs_mark_the_cells_that_use_them(suite):
    results = results_of(ABLATION, suite, stale="evaluated from another checkpoint")
    assert format_cell(mean_cell(results, Side("faster_rcnn"), "AP")).endswith(" †")
    assert not mean_cell(results, Side("samp1000_lw5.0"), "AP").stale
    assert difference_cell(results, Side("samp1000_lw5.0"), Side("faster_rcnn"), "AP").stale


def test_undefined_metric_is_a_dash(suite):
    results = results_of({("faster_rcnn", "off"): (70.0, math.nan, 71.0)}, suite)
    assert format_cell(mean_cell(results, Side("faster_rcnn"), "AP")) == "–"


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (1.25, True, "+1.2"),
        (-0.04, True, "0.0"),
        (0.04, True, "0.0"),
        (-1.7, True, f"{MINUS}1.7"),
        (-1.7, False, f"{MINUS}1.7"),
        (74.06, False, "74.1"),
    ],
)
def test_numbers(value, signed, text):
    assert format_number(value, signed=signed) == text


def test_range():
    assert format_range(-0.31, 2.0) == f"{MINUS}0.3 to +2.0"


def test_csv_frame_keeps_precision_intervals_and_files():
    sources = (Source("a/off.json", "metrics.AP"), Source("a/off.json", "metrics.AP50"))
    cells = {"AP": Cell(71.23456789, 0.5, 3, sources=sources), "AP50": Cell(90.0, None, 3, sources=sources)}
    frame = Table("t", "T", "", ("AP", "AP50"), (Row("", "x", cells),)).frame()
    assert frame.to_dict("records") == [
        {
            "model": "x",
            "AP": 71.234568,
            "AP half width": 0.5,
            "AP50": 90.0,
            "seeds": 3,
            "stale": False,
            "files": "a/off.json",
        }
    ]


@pytest.mark.parametrize(
    ("interval", "expected", "verdict"),
    [
        ((0.1, 2.0), "+", "reproduced"),
        ((0.1, 2.0), "-", "contradicted"),
        ((-2.0, -0.1), "-", "reproduced"),
        ((-2.0, -0.1), "+", "contradicted"),
        ((-0.1, 2.0), "+", "inconclusive"),
        ((0.0, 2.0), "+", "inconclusive"),
        (None, "+", "inconclusive"),
    ],
)
def test_verdicts(interval, expected, verdict):
    assert judge(interval, expected) == verdict


def test_claims_are_judged_on_paired_differences(suite):
    clear = dict(ABLATION)
    clear[("samp1000_lw5.0", "rank_refine0.25")] = (72.0, 73.1, 74.0)  # differences 2, 2.1, 2 to the baseline
    clear[("samp1000_lw5.0", "rank")] = (73.0, 74.0, 75.1)  # refinement: -1, -0.9, -1.1
    results = results_of(clear, suite)
    wanted = [claim for claim in load_claims() if claim.id in ("iounet_ap", "refine", "iounet_ap50")]
    verdicts, left_out = judge_claims(results, PUBLISHED, wanted, None)
    assert not left_out
    by_id = {verdict.claim.id: verdict for verdict in verdicts}
    assert by_id["iounet_ap"].verdict == "reproduced"
    assert by_id["iounet_ap"].published == {"paper": 1.7, "reproduction": 1.7}
    assert by_id["refine"].verdict == "contradicted"
    assert by_id["refine"].interval.mean == pytest.approx(-1.0)
    assert by_id["iounet_ap50"].verdict == "contradicted"
    lines = "\n".join(summary(results, PUBLISHED, verdicts))
    assert "**1 are reproduced at this scale, 2 contradicted and 0 inconclusive**" in lines
    assert f"Refinement raises AP on top of IoU-guided NMS – AP {MINUS}1.0 here (95 % interval" in lines
    table = scoreboard(verdicts, PUBLISHED)
    assert [row.cells["verdict"].value for row in table.rows] == ["reproduced", "contradicted", "contradicted"]


def test_a_claim_about_several_experiments_is_judged_on_their_mean(suite):
    four = ("samp1000_lw5.0", "max1000_lw5.0_periou30", "max1000_lw5.0_periou50", "max1000_lw10.0_periou50")
    variants = {variant: {"family": "iounet"} for variant in four}
    gains = ((1.0, 2.0), (1.0, 2.0), (-2.0, -1.0), (4.0, 5.0))  # by experiment and seed; their mean: 1 and 2
    values = {(variant, "rank_refine0.25"): (70.0, 71.0) for variant in four}
    values |= {
        (variant, "rank_refine1"): (70.0 + first, 71.0 + second)
        for variant, (first, second) in zip(four, gains, strict=True)
    }
    results = results_of(values, replace(suite, variants=variants, seeds=(0, 1)))
    wanted = [claim for claim in load_claims() if claim.id == "step_size"]
    [verdict], left_out = judge_claims(results, PUBLISHED, wanted, None)
    assert not left_out
    assert verdict.interval.mean == pytest.approx(1.5)
    assert verdict.interval.n == 2
    assert verdict.published == {"reproduction": pytest.approx(0.15)}  # of 0.1, 0.2, 0.1 and 0.2
    assert len(verdict.sources) == 2 * 4 * 2


def test_claims_outside_the_suite_are_left_out(tmp_path):
    small = load_suite(write_suite(tmp_path / "small.yaml", variants={"faster_rcnn": {"family": "baseline"}}))
    verdicts, left_out = judge_claims(results_of({}, small), PUBLISHED, load_claims(), None)
    assert not verdicts
    assert len(left_out) == len(load_claims())
    assert left_out[0][1] == "not in suite 'shapes': samp1000_lw5.0"


def test_bad_claims_file_is_named(tmp_path):
    path = tmp_path / "claims.yaml"
    entry = "id: x, text: t, short: s, metric: AP, expected: up, left: {variant: a}, right: {variant: a}, published: {}"
    path.write_text(f"claims: [{{{entry}}}]")
    with pytest.raises(ReportError, match=r"claims.yaml: claim x: 'expected' must be '\+' or '-', found 'up'"):
        load_claims(path)
    path.write_text("claims: [{id: x}]")
    with pytest.raises(ReportError, match=r"claims.yaml: claim x: 'text'"):
        load_claims(path)


def test_metric_of_thresholds():
    import numpy as np

    ap = np.array([[0.8, 0.4]])
    assert metric_of(ap, (0.5, 0.9), "AP") == pytest.approx([0.6])
    assert metric_of(ap, (0.5, 0.9), "AP90") == pytest.approx([0.4])
    with pytest.raises(ReportError, match="metric AP75 cannot be computed"):
        metric_of(ap, (0.5, 0.9), "AP75")

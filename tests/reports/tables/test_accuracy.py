"""Tables and verdicts on hand-made numbers: every value here can be checked with pencil and paper."""

import math

import pytest
from scipy import stats

from reports.errors import MissingResult
from reports.results.published import load_published
from reports.results.sides import Side
from reports.tables.accuracy import (
    NO_REFINEMENT,
    ablation_table,
    bce_table,
    guide_table,
    improved_table,
    loss_weight_table,
    main_table,
    step_size_table,
)
from reports.tables.cells import difference_cell, mean_cell
from reports.tables.table import format_cell
from suite.errors import NotInSuite
from suite.suite import load_suite
from tests.reports.hand_made import ABLATION, results_of
from tests.reports.synthetic import variants_of, write_suite

PUBLISHED = load_published()
T2 = 4.302653  # t(0.975) with 2 degrees of freedom: 3 seeds


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
    # variances 1 and 1 of three trainings each, with 2 and, as a peer steadies the baseline's, 3 degrees of freedom
    degrees = (2 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (1 / 3) ** 2 / 3)
    assert improvement.value == pytest.approx(2.0)
    assert improvement.half_width == pytest.approx(stats.t.ppf(0.975, degrees) * math.sqrt(2 / 3), rel=1e-6)
    assert format_cell(improvement) == "+2.0 ± 2.1"
    assert {source.file for source in improvement.sources} == {
        f"evaluations/{variant}/seed{seed}/val/{setting}.json"
        for variant, setting in (("faster_rcnn", "off"), ("samp1000_lw5.0", "rank_refine0.25"))
        for seed in range(3)
    }


def test_trainings_are_not_paired_by_seed_and_settings_of_a_checkpoint_are(suite):
    values = {
        ("faster_rcnn", "off"): (10, 50, 90),
        ("samp1000_lw5.0", "off"): (11, 51, 91),
        ("samp1000_lw5.0", "rank"): (12, 52, 92),
    }
    results = results_of(values, suite)
    cell = difference_cell(results, Side("samp1000_lw5.0"), Side("faster_rcnn"), "AP")
    assert cell.value == pytest.approx(1.0) and cell.half_width > 70
    cell = difference_cell(results, Side("samp1000_lw5.0", "rank"), Side("samp1000_lw5.0"), "AP")
    assert cell.value == pytest.approx(1.0) and cell.half_width == pytest.approx(0.0, abs=1e-9)


def test_one_seed_has_no_interval(tmp_path):
    suite = load_suite(write_suite(tmp_path / "s.yaml")).changed(seeds=[0])
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


def test_the_parts_of_the_refinement_are_set_beside_the_nms_before_it(suite):
    parted = suite.changed(inference={**suite.raw["inference"], "parts": {"rank": 0.5}})
    own = {"rank_refine0.25_movement": (72.0, 73.0, 74.0), "rank_score": (72.0, 72.0, 72.0)}
    values = ABLATION | {("samp1000_lw5.0", name): value for name, value in own.items()}
    rows = {row.key: row for row in ablation_table(results_of(values, parted), PUBLISHED).rows}
    assert list(rows)[-3:] == ["refine", "movement", "score"]
    nms = rows["nms"].cells["AP"].value
    assert rows["movement"].cells["step"].value == pytest.approx(73.0 - nms)
    assert rows["score"].cells["step"].value == pytest.approx(72.0 - nms)
    assert "paper AP" not in rows["movement"].cells


def test_step_size_table_has_every_setting_and_every_published_lambda(results):
    table = step_size_table(results, PUBLISHED)
    assert table.columns == (NO_REFINEMENT, "0.25", "0.5", "1", "2", "3")
    assert set(table.rows[0].cells) == {"0.5", "1", "2", "3"}
    own = {(row.group, row.label): set(row.cells) for row in table.rows if row.group.startswith("This run")}
    assert len(own) == 3 * 5  # guides, and IoU-Nets
    assert own["This run, rank", "samp1000_lw5.0_bce"] == {NO_REFINEMENT, "0.25", "1", "2"}


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
    small = load_suite(write_suite(tmp_path / "small.yaml", variants=variants_of(["faster_rcnn"])))
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

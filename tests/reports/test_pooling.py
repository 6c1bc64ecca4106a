"""The page on RoI poolings, from made-up results."""

import copy
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reports.comparison import difference
from reports.document.pooling import (
    accuracy_sentence,
    conventions,
    gradient_sentence,
    time_sentence,
    two_sided,
    values_sentence,
)
from reports.errors import MissingResult, NothingToShow, ReportError
from reports.figures import pooling_accuracy, pooling_errors, pooling_path
from reports.pooling import build, main
from reports.results.collect import collect
from reports.results.pooling import EXACT, MeasuredPooling, with_poolings
from reports.results.sides import FIRST_VERSION
from reports.statistics import Interval
from reports.tables import pooling as tables
from suite.suite import load_suite
from tests.reports.pages import check_parts
from tests.reports.synthetic import linked_results, variants_of, write_suite
from tests.reports.synthetic_pooling import COUNTS, ROWS, SAMPLES, SETTINGS, VARIANT, make_measured, make_pooling


@pytest.fixture(scope="module")
def measured_folder(made, tmp_path_factory) -> Path:
    """The shared results with what was measured of poolings, in a folder of their own."""
    folder = tmp_path_factory.mktemp("pooling")
    root = linked_results(made, folder)
    make_pooling(root)
    return folder


@pytest.fixture(scope="module")
def loaded(measured_folder):
    """Results and the file."""
    suite, root = load_suite(measured_folder / "shapes.yaml"), measured_folder / "results/shapes"
    return with_poolings(collect(suite, root, [VARIANT], 100))


@pytest.fixture(scope="module")
def page(measured_folder):
    """The report, its folder, and its example."""
    out, example = measured_folder / "results/shapes/pooling", measured_folder / "example"
    place = (measured_folder / "shapes.yaml", measured_folder / "results/shapes", out)
    return build(*place, example=example, resamples=100), out, example


def changed(**keys) -> MeasuredPooling:
    """The file with other contents at dotted keys of each seed."""
    data = copy.deepcopy(make_measured())
    for key, value in keys.items():
        node, *path = key.split("__")
        places = data[node] if isinstance(data[node], list) else [data[node]]
        for place in places:
            for part in path[:-1]:
                place = place[part]
            place[path[-1]] = value
    return MeasuredPooling(data, "pooling_data/measured.json", ())


def test_the_page_has_its_tables_and_figures(page):
    report, out, _ = page
    assert [table.key for table in report.tables] == [
        *("pooling_values", "pooling_existing", "pooling_gradients", "pooling_direction", "pooling_times"),
        *("pooling_ap", "pooling_ap90"),
    ]
    assert [f.key for f in report.illustrations] == ["pooling_errors", "pooling_path", "pooling_accuracy"]
    text = check_parts(report, out)
    assert text.startswith("# Isn't it RoIAlign with more samples?\n")


@pytest.mark.parametrize("which", [1, 2], ids=["page", "example"])
def test_every_link_leads_to_a_file(page, which):
    folder = page[which]
    text = (folder / "README.md").read_text()
    local = [t for t in re.findall(r"\]\(([^()\s]+)\)", text) if not t.startswith("https://")]
    assert any("measured.json" in target for target in local)
    assert any(target.endswith("pooling_data/align2/seed1/val/") for target in local)
    assert f"[0]({'../' * (which == 1)}pooling_data/align8/seed0/val/) " in text
    (row,) = [line for line in text.splitlines() if line.startswith("| **Difference") and "align1" in line][:1]
    assert row.count(" − [") == 1  # the two sides, whatever the number of settings
    for target in local:
        assert (folder / target).exists(), target
    if which == 2:
        assert not [target for target in local if target.startswith("..")]


def test_every_cell_is_traced(page):
    report, out, _ = page
    traces = json.loads((out / "provenance.json").read_text())
    shown = sum(c.value is not None for table in report.tables for row in table.rows for c in row.cells.values())
    assert len(traces["cells"]) == shown
    assert traces["files"]["pooling_data/measured.json"]["seed"] == [0, 1, 2]
    assert traces["files"]["pooling_data/align4/seed2/val/off.json"]["setting"] == "off@align4"
    assert all(cell["sources"] for cell in traces["cells"])


def test_values_are_means_of_the_seeds_in_percent(loaded):
    table = tables.values_table(loaded[1])
    rows = {row.key: row.cells for row in table.rows}
    assert list(rows) == ["own", "0 to 0.5", "0.5 to 1", "1 to 2", "2 to 4", "border"]  # none over 4
    cell = rows["own"]["RoIAlign, 2 × 2"]
    assert cell.value == pytest.approx(1.01)
    assert cell.half_width == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-5)
    assert rows["own"]["boxes"].value == 3 * COUNTS[ROWS.index("own")]
    assert rows["border"]["RoIAlign, 8 × 8"].value == pytest.approx(20)
    assert rows["own"]["PrRoIPool, float32"].value == "1e-05"
    assert table.columns == (
        *("boxes", "RoIAlign, 1 × 1", "RoIAlign, 2 × 2", "RoIAlign, 4 × 4", "RoIAlign, 8 × 8"),
        *("RoIAlign, adaptive", "PrRoIPool, float32"),
    )


def test_accuracy_is_the_projects_difference(loaded):
    results, measured = loaded
    table = tables.accuracy_table(results, measured)
    assert table.columns == ("branch off", "guided NMS", "refined, λ = 0.5", "refined, λ = 2")
    rows = {row.key: row.cells for row in table.rows}
    expected = difference(results, replace(FIRST_VERSION, pooling="align1"), FIRST_VERSION, "AP")
    cell = rows["align1 difference"]["refined, λ = 0.5"]
    assert (cell.value, cell.half_width) == (expected.mean, expected.half_width)
    assert expected.mean < 0
    assert rows["align8 difference"]["guided NMS"].value == 0
    assert rows["align8"]["branch off"].value == rows[EXACT]["branch off"].value
    assert [c.setting for c in cell.sources] == ["rank_refine0.25@align1"] * 3 + ["rank_refine0.25"] * 3


def test_the_conclusion_follows_from_the_values():
    text = values_sentence(changed())
    assert "4.0 % (1 × 1), 1.0 % (2 × 2), 0.25 % (4 × 4), 0.06 % (8 × 8) and 1.0 % (adaptive)" in text
    assert "Each doubling of the samples divides that by 4.0 to 4.0: inside the map" in text
    assert "border 20.0 % remain with RoIAlign, 8 × 8" in text
    worse = changed(values__error__align8=[0.5] * 7)
    assert "More samples do not always bring it closer." in values_sentence(worse)
    assert "border" not in values_sentence(worse)
    alike = changed(values__error__align8=[0.001] * 7)
    assert "border" not in values_sentence(alike)


def test_the_conclusion_follows_from_the_gradients():
    text = gradient_sentence(changed())
    assert "`torchvision.ops.roi_align` and `mmcv.ops.roi_align` pass none on to the coordinates" in text
    assert "cosine between the two is 0.960 (RoIAlign, 1 × 1) to 0.999 (RoIAlign, 8 × 8)" in text
    assert "That is 10.0 to 10.0 times the error of the values." in text
    assert "2.0 % (8 × 8) and 2.0 % (adaptive) of the places, there by 30.0 % (1 × 1)" in text
    assert text.endswith("and 30.0 % (adaptive) (medians); with PrRoIPool at 0.00 %.")
    smooth = changed(jumps__share=dict.fromkeys((EXACT, *SAMPLES), 0.0), jumps__size=dict.fromkeys(SAMPLES))
    assert gradient_sentence(smooth).endswith(" No shift by 0.001 pixels changes it by more than 1 %.")
    one = changed()
    one.data["existing"]["mmcv.ops.roi_align"] = True
    assert "`torchvision.ops.roi_align` passes none on" in gradient_sentence(one)
    one.data["existing"]["torchvision.ops.roi_align"] = True
    assert gradient_sentence(one).startswith("Every operator passes one on")


def test_the_conclusion_follows_from_the_times():
    text = time_sentence(changed())
    assert "0.50 times (1 × 1), 1.50 times (2 × 2)" in text
    assert "as long as PrRoIPool here, 2 × 2, 4 × 4, 8 × 8 and adaptive longer." in text
    assert "1.00 times (1 × 1), 2.00 times (2 × 2)" in text
    assert "plain torch takes 4.0 times as long as its kernel" in text
    fast = changed()
    for own in fast.data["times"]["timed"]["forward"].values():
        own["ratio"] = {"median": 0.5, "q1": 0.4, "q3": 1.2}
    assert ", none longer." in time_sentence(fast)
    for own in fast.data["times"]["timed"]["forward"].values():
        own["ratio"]["q1"] = 1.1
    assert ", all of them longer." in time_sentence(fast)


def test_the_conclusion_follows_from_ap(loaded):
    results, measured = loaded
    text = accuracy_sentence(results, measured, "AP")
    assert text.startswith("Of 20 differences to PrRoIPool ")
    assert "0.00 with RoIAlign, 8 × 8" in text
    suite = results.suite.changed(seeds=[0])
    single = accuracy_sentence(replace(results, suite=suite, intervals={}), measured, "AP")
    assert single.startswith("One training decides nothing")


def test_two_sided_p_values():
    assert two_sided(Interval(2.0, 3, error=1.0, degrees=float("inf"), trainings=1.0)) == pytest.approx(
        0.0455, abs=1e-4
    )
    assert two_sided(Interval(0.0, 3, error=1.0, degrees=4, trainings=1.0)) == 1
    assert two_sided(Interval(2.0, 1)) == 1


def test_conventions_say_what_was_seen():
    first, second, third = conventions(changed())
    assert "at most 1e-15 of the largest" in first
    assert "at most 2e-15" in second
    equal = {"aligned_false": 0.0, "plain_torch": 0.0, "unmoved": 0.1}
    assert conventions(changed(values__conventions=equal))[0].endswith("the two are equal to the last digit.")
    assert "off by 15.0 % with 2 × 2 samples" in third
    none = {"aligned_false": 0.0, "plain_torch": 0.0, "unmoved": None}
    assert len(conventions(changed(values__conventions=none))) == 2


def test_a_path_is_of_steps_or_not():
    data = pooling_path.frame(changed())
    shares = {label: pooling_path.steps(own["derivative"].to_numpy()) for label, own in data.groupby("label")}
    assert shares["RoIAlign, 1 × 1"] == 1
    assert shares["PrRoIPool"] == 0
    without = changed()
    without.data["scan"] = None
    with pytest.raises(NothingToShow, match="no box .* had room"):
        pooling_path.make(without)


def test_frames_of_figures(loaded):
    results, measured = loaded
    errors = pooling_errors.frame(measured)
    assert len(errors) == 2 * 5 * 5 * 3  # parts, rows with boxes, poolings, seeds
    own = errors[(errors["part"] == "gradients") & (errors["row"] == "border")]
    assert set(own["error"]) == {200.0}
    assert len(pooling_accuracy.frame(results, measured)) == 2 * len(SETTINGS) * 5


def copied(measured_folder, tmp_path) -> Path:
    """Results that a test may damage."""
    shutil.copytree(measured_folder / "results/shapes/pooling_data", tmp_path / "results/shapes/pooling_data")
    for part in ("runs", "evaluations", "data"):
        (tmp_path / "results/shapes" / part).symlink_to(measured_folder / "results/shapes" / part)
    return tmp_path / "results/shapes"


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("measured.json", r"measured.json: no such file; run `python -m experiments pooling`"),
        (
            "align4/seed1/val/rank.json",
            r"rank.json: no such file; run `.* swap --pooling align4 --seed 1`",
        ),
        ("align4/seed1/val/rank.matches.json.gz", r"align4/seed1/val/rank.matches.json.gz: no such file"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(measured_folder, tmp_path, remove, message):
    root = copied(measured_folder, tmp_path)
    (root / "pooling_data" / remove).unlink()
    with pytest.raises(MissingResult, match=message):
        build(measured_folder / "shapes.yaml", root, tmp_path / "out", resamples=20)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("suite", "other", r"measured.json: belongs to another place: key 'suite' is 'other'"),
        ("seeds", [0, 1], r"measured.json: key 'seeds' is \[0, 1\].*`python -m experiments pooling` again"),
        (
            "settings",
            ["off", "rank_refine7"],
            r"key 'settings' has 'rank_refine7'.*experiments pooling` again",
        ),
        ("dataset_fingerprint", "0" * 64, r"measured.json: made with another dataset"),
    ],
)
def test_a_file_of_another_place_is_refused(measured_folder, tmp_path, key, value, message):
    root = copied(measured_folder, tmp_path)
    path = root / "pooling_data/measured.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ReportError, match=message):
        with_poolings(collect(load_suite(measured_folder / "shapes.yaml"), root, [VARIANT], 0))


def test_a_key_that_is_missing_is_named(measured_folder, tmp_path):
    root = copied(measured_folder, tmp_path)
    path = root / "pooling_data/measured.json"
    data = json.loads(path.read_text())
    del data["times"]
    path.write_text(json.dumps(data))
    with pytest.raises(ReportError, match=r"measured.json: key 'times' is missing"):
        with_poolings(collect(load_suite(measured_folder / "shapes.yaml"), root, [VARIANT], 0))


def test_what_was_made_of_other_checkpoints_is_stale(measured_folder, tmp_path):
    root = copied(measured_folder, tmp_path)
    path = root / "pooling_data/measured.json"
    data = json.loads(path.read_text())
    data["checkpoints"]["1"]["sha256"] = "0" * 64
    path.write_text(json.dumps(data))
    swapped = root / "pooling_data/align2/seed0/val/rank.json"
    swapped.write_text(json.dumps({**json.loads(swapped.read_text()), "checkpoint_sha256": "1" * 64}))
    results, measured = with_poolings(collect(load_suite(measured_folder / "shapes.yaml"), root, [VARIANT], 0))
    assert "seed 1 measured with checkpoint 000000000000…" in measured.stale
    assert all(c.stale for c in tables.gradients_table(measured).rows[0].cells.values() if c.half_width is not None)
    rows = {row.key: row for row in tables.accuracy_table(results, measured).rows}
    assert rows["align2"].cells["guided NMS"].stale and not rows["align4"].cells["guided NMS"].stale
    assert not rows[EXACT].cells["guided NMS"].stale


def test_a_suite_without_an_iou_net_is_refused_in_a_line(measured_folder, tmp_path, capsys):
    suite = write_suite(tmp_path / "alone.yaml", variants=variants_of(["faster_rcnn"]))
    out = ["--results", str(measured_folder / "results/shapes"), "--out", str(tmp_path / "out")]
    assert main(["--suite", str(suite), *out]) == 1
    assert "error: not in suite 'shapes': samp1000_lw5.0 (role `main`)" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(measured_folder, tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ReportError, match=r"holds 'mine.txt'"):
        build(measured_folder / "shapes.yaml", measured_folder / "results/shapes", tmp_path)

"""Figures are tested on the data they are drawn from, and on being the same file twice."""

import json

import numpy as np
import pytest

from reports.figures import charts as figures
from reports.figures import curves
from reports.figures.charts import draw_improvement
from reports.figures.sample_sheet import PER_BAND, SCORE_SHOWN, box_iou, evenly, images_with_mistakes, load_sheet
from reports.figures.style import colours, save, styled
from reports.results.matches import Matches
from reports.results.published import load_published
from reports.tables.accuracy import main_table, step_size_table

PUBLISHED = load_published()


def test_loss_curves_separate_the_branch(results):
    frame = curves.loss_curves(results)
    assert set(frame.loc[frame["variant"] == "faster_rcnn", "series"]) == {"detection"}
    assert set(frame.loc[frame["variant"] == "samp1000_lw5.0", "series"]) == {
        "detection",
        "IoU branch",
        "IoU error",
    }
    own = frame[(frame["variant"] == "samp1000_lw5.0") & (frame["seed"] == 0)]
    history = results.histories[
        (results.histories["variant"] == "samp1000_lw5.0") & (results.histories["seed"] == 0)
    ].dropna(subset="loss")
    # equal stretches: the mean over the curve is the mean over the training
    total = own.groupby("series")["value"].mean()
    assert total["IoU branch"] == pytest.approx(history["loss_iou"].mean())
    assert total["IoU branch"] + total["detection"] == pytest.approx(history["loss"].mean())
    assert total["IoU error"] == pytest.approx(history["iou_error"].mean())
    assert len(own) == 3 * curves.LOSS_POINTS


def test_validation_curves_are_points_per_epoch(results):
    frame = curves.validation_curves(results)
    assert set(frame["metric"]) == {"AP", "AP90"}
    assert sorted(frame["epoch"].unique()) == [1, 2, 3]
    assert len(frame) == 2 * 3 * 6 * 3
    assert frame["value"].between(1, 100).all()


def test_threshold_curves_agree_with_the_evaluation_files(results):
    frame = curves.threshold_curves(results)
    own = frame[(frame["step"] == "refine") & (frame["threshold"] == 0.9)].iloc[0]
    files = [results.evaluation("samp1000_lw5.0", seed, "rank_refine0.25")["AP90"] for seed in range(3)]
    base = [results.evaluation("faster_rcnn", seed, "off")["AP90"] for seed in range(3)]
    assert own["AP"] == pytest.approx(100 * np.mean(files))
    assert own["difference"] == pytest.approx(100 * (np.mean(files) - np.mean(base)))
    assert (frame.loc[frame["step"] == "faster_rcnn", "difference"] == 0).all()


def test_improvement_frame_is_the_tables_rows(results):
    main = main_table(results, PUBLISHED)
    frame = curves.improvement_by_threshold(main, PUBLISHED)
    assert list(frame["source"].unique()) == ["Paper", "Published reproduction", "This run"]
    assert frame.loc[frame["source"] == "Paper", "value"].tolist() == [1.7, -1.7, -0.7, 1.4, 3.9, 5.7]
    assert frame.loc[frame["source"] == "This run", "value"].tolist() == [
        cell.value for cell in main.rows[-1].cells.values()
    ]


def test_optimum_of_each_lambda_curve(results):
    frame = curves.step_size_curves(step_size_table(results, PUBLISHED))
    best = frame[frame["best"] & (frame["source"] == "Published reproduction")]
    assert best[best["variant"] == "max1000_lw10.0_periou50"]["step_size"].tolist() == [2.0]
    assert best[best["variant"] == "samp1000_lw5.0"]["step_size"].tolist() == [1.0, 2.0]


def test_median_box_side(results, tmp_path):
    index = json.loads((results.root / "data" / "val.json").read_text())
    sides = sorted((a["bbox"][2] * a["bbox"][3]) ** 0.5 for a in index["annotations"] if not a["iscrowd"])
    assert sides[(len(sides) - 1) // 2] <= curves.median_box_side(results) <= sides[len(sides) // 2]


def test_evenly_spaced():
    assert evenly(range(100), 4) == [12, 37, 62, 87]
    assert evenly([3, 5], 4) == [3, 5]
    assert evenly([], 4) == []


def test_images_with_mistakes():
    def matches(score, matched):
        return Matches(
            image_ids=(10, 11, 12),
            category_ids=(1,),
            iou_thresholds=(0.5, 0.75),
            image=np.arange(3),
            category=np.zeros(3, dtype=int),
            score=np.asarray(score),
            matched=np.asarray(matched),
            ignored=np.zeros((3, 2), dtype=bool),
            ground_truth=np.ones((3, 1), dtype=int),
        )

    good = [[True, True]] * 3
    assert images_with_mistakes(matches([0.9, 0.9, 0.9], good)) == []
    assert images_with_mistakes(matches([0.9, 0.9, SCORE_SHOWN / 2], good)) == [12]  # missed among those shown
    assert images_with_mistakes(matches([0.9, 0.9, 0.9], [[True, False], *good[1:]])) == [10]  # badly placed


def test_box_iou_by_hand():
    boxes = np.array([[0.0, 0.0, 2.0, 2.0]])
    others = np.array([[1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 1.0, 1.0]])
    np.testing.assert_allclose(box_iou(boxes, others), [[1 / 7, 1, 0]])


def test_sheet_follows_its_rule(results):
    sheet = load_sheet(results)
    assert [sample.image_id for sample in sheet.typical] == [3, 7, 11, 15]  # of 16 images
    assert len(sheet.failures) <= PER_BAND
    assert not {s.image_id for s in sheet.failures} & {s.image_id for s in sheet.typical}
    sample = sheet.typical[1]
    assert sample.pixels.shape == (96, 96, 3)
    assert all("IoU" in label for label in sample.iounet.labels)
    assert not any("IoU" in label for label in sample.baseline.labels)


def test_files_are_deterministic(results, tmp_path):
    frame = curves.improvement_by_threshold(main_table(results, PUBLISHED), PUBLISHED)
    written = []
    for name in ("one", "two"):
        with styled():
            figure = draw_improvement(frame)
        written.append([path.read_bytes() for path in save(figure, tmp_path / name, dpi=60)])
    assert written[0] == written[1]
    assert b"<dc:date>" not in written[0][1]


def test_colours_are_distinct_and_stable():
    palette = colours(["faster_rcnn", "samp1000_lw5.0", "mine", "yours"])
    assert len(set(palette.values())) == 4
    assert palette["samp1000_lw5.0"] == colours(["samp1000_lw5.0"])["samp1000_lw5.0"]


def test_labels_of_a_logarithmic_axis_have_room():
    assert figures._apart([0.15, 0.3, 0.5, 0.6, 0.9, 1, 2, 3]) == [0.15, 0.3, 0.5, 0.9, 2, 3]
    assert figures._apart([0.5, 1, 2, 3]) == [0.5, 1, 2, 3]
    assert figures._apart([]) == []

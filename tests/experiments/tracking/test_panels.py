"""The data behind an evaluation's charts and sample images."""

import json

import pytest

from experiments.tracking import panels
from suite.files import read_json
from suite.layout import DataFolder, EvaluationFolder
from tests.experiments.tracking.tracked import CONFIDENCE, RESULTS, result, write_data, write_detections


def test_a_threshold_without_an_ap_has_no_point():
    assert panels.threshold_curves({"rank": RESULTS["rank"]}) == {"rank": [(0.5, 0.625), (0.75, 0.375)]}


def test_lambda_curves_start_at_no_refinement_and_go_up():
    results = {**RESULTS, "rank_refine0.25": result("rank", 0.25, 0.4375), "none": result("none", None, 0.1)}
    results["rank_score"] = result("rank", None, 0.2)  # a part of a refinement is no λ
    results["rank_score"]["setting"]["part"] = "score"
    assert panels.lambda_curves(results) == {"rank": [(0.0, 0.375), (0.25, 0.4375), (0.5, 0.5)]}


def test_calibration_is_the_mean_true_iou_of_each_prediction_that_occurs():
    # of four boxes predicted in [0.5, 0.75) three lie in the lower bin of the true IoU, at 0.625, one at 0.875
    assert panels.calibration_curve(CONFIDENCE) == [(0.625, 0.6875), (0.875, 0.75)]


@pytest.fixture
def samples(tmp_path):
    data, evaluation = DataFolder(tmp_path), EvaluationFolder(tmp_path / "evaluation")
    write_data(data)
    write_detections(evaluation)
    settings = [RESULTS[name]["setting"] for name in ("off", "rank", "rank_refine0.5")]
    annotations, detections = read_json(data.annotations("val")), read_json(evaluation.detections)
    return panels.sample_images(annotations, data.images("val"), detections, settings)


def test_ground_truth_without_crowds(samples):
    assert [len(sample["ground_truth"]) for sample in samples] == [1, 0]
    (box,) = samples[0]["ground_truth"]
    assert box["position"] == {"minX": 1, "maxX": 11, "minY": 2, "maxY": 22}
    assert (box["class_id"], box["box_caption"], box["domain"]) == (7, "cat", "pixel")
    assert "scores" not in box


def test_predictions_carry_class_score_and_predicted_iou(samples):
    scores = {name: [box["scores"] for box in boxes] for name, boxes in samples[0]["predictions"].items()}
    assert scores["off"] == [{"class_score": 0.9}], "the box with score 0.1 is not shown"
    assert scores["rank"] == [{"class_score": 0.9, "predicted_iou": 0.8}]
    assert scores["rank_refine0.5"] == [{"class_score": 0.9, "predicted_iou": 0.8}], "its score is 0.72 = 0.9 x 0.8"
    assert samples[0]["predictions"]["rank"][0]["box_caption"] == "cat 0.90 0.80"


@pytest.mark.parametrize(("part", "class_score"), [("movement", 0.72), ("score", 0.9)])
def test_the_class_score_of_a_part_of_a_refinement(samples, tmp_path, part, class_score):
    setting = {**RESULTS["rank_refine0.5"]["setting"], "part": part}
    annotations, detections = read_json(tmp_path / "val.json"), read_json(tmp_path / "evaluation/detections.json.gz")
    (box,) = panels.sample_images(annotations, tmp_path, detections, [setting])[0]["predictions"]["rank_refine0.5"]
    assert box["scores"] == {"class_score": class_score, "predicted_iou": 0.8}


def test_only_the_best_boxes_of_few_images_are_shown(samples, tmp_path):
    count = panels.SHOWN + 5
    columns = {"image_id": [1] * count, "category_id": [7] * count, "bbox": [[0, 0, 1, 1]] * count}
    columns |= {"score": [round(0.31 + i / 100, 2) for i in range(count)], "iou": [None] * count}
    annotations = json.loads((tmp_path / "val.json").read_text())
    annotations["images"] += [{"id": i, "file_name": f"{i}.png"} for i in range(3, 30)]
    detections = {"images": list(range(1, 30)), "settings": {"off": columns}}
    shown = panels.sample_images(annotations, tmp_path, detections, [RESULTS["off"]["setting"]])
    assert [sample["id"] for sample in shown] == list(range(1, panels.SAMPLES + 1))
    scores = [box["scores"]["class_score"] for box in shown[0]["predictions"]["off"]]
    assert scores == sorted(columns["score"], reverse=True)[: panels.SHOWN]

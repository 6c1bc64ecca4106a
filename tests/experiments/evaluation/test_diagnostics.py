"""Diagnostics: the pure functions by hand, and one pass over the tiny suite."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmcv import ConfigDict
from scipy import stats

from experiments.config import default_setting, resolve_config
from experiments.data.datasets import build_split
from experiments.evaluation.batch import Batch
from experiments.evaluation.diagnostics import (
    NMS,
    UNCHANGED,
    Diagnostics,
    confidence_summary,
    nearest_iou,
    refinement_summary,
    survivor_summary,
)
from experiments.evaluation.inference import detect
from experiments.models import build_model
from iounet.models.detections import Candidates
from iounet.models.iou_head import Prediction
from iounet.models.iou_roi_head import IoURoIHead
from suite.layout import DataFolder
from suite.settings import Setting, StepSize


def test_nearest_ground_truth_of_the_same_class_and_image():
    truth = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 6], [20, 20, 30, 30]])
    # the second box is of another class than the first object, the last of an image without objects
    iou, index = nearest_iou(boxes, torch.tensor([0, 1, 1, 7]), truth, torch.tensor([0, 1, 0]))
    assert iou.tolist() == pytest.approx([1, 0.5, 5 / 6, 0])
    assert index[:3].tolist() == [0, 1, 1]


def test_no_ground_truth_at_all():
    boxes, keys = torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0])
    iou, _ = nearest_iou(boxes, keys, boxes[:0], keys[:0])
    assert iou.tolist() == [0]


def test_correlations_and_histogram():
    true = np.array([0.5, 0.6, 0.7, 1.0])
    squared = np.array([0.01, 0.04, 0.09, 1.2])  # rises with the true IoU, not in a line; one value above 1
    found = confidence_summary({"a": squared, "b": true[::-1]}, true)
    assert found["boxes"] == 4
    assert found["a"]["spearman"] == 1
    assert found["a"]["pearson"] == pytest.approx(np.corrcoef(squared, true)[0, 1], abs=1e-5)
    assert found["b"]["spearman"] == -1
    histogram = np.array(found["a"]["histogram"])
    assert histogram.shape == (len(found["true_iou_edges"]) - 1, len(found["edges"]) - 1)
    assert histogram.sum() == 4
    assert histogram[0, 0] == 1 and histogram[-1, -1] == 1


def test_spearman_with_ties_is_scipys():
    rng = np.random.default_rng(0)
    true, confidence = rng.integers(5, 10, 200) / 10, rng.integers(0, 5, 200) / 5
    found = confidence_summary({"a": confidence}, true)["a"]["spearman"]
    assert found == pytest.approx(stats.spearmanr(confidence, true).statistic, abs=1e-5)


@pytest.mark.parametrize("values", [[], [0.7], [0.7, 0.7]])
def test_undefined_correlations_are_none(values):
    found = confidence_summary({"a": np.array(values)}, np.linspace(0.6, 0.8, len(values)))
    assert found["a"]["pearson"] is None
    assert found["a"]["spearman"] is None


def test_survivors_by_true_iou():
    found = survivor_summary({"guided": np.array([0.5, 0.54, 0.95, 1.0]), "regular": np.array([])})
    assert found["edges"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0]
    assert found["guided"] == [2, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert sum(found["regular"]) == 0


def test_refinement_shares_by_hand():
    # four boxes, two steps: one gains in both, one gains and falls back, one loses, one stays within the tolerance
    start = np.array([0.52, 0.71, 0.72, 0.95])
    true = start + np.array([[0, 0, 0, 0], [0.02, 0.02, -0.01, 0.004], [0.04, 0, -0.1, -0.004]])
    found = refinement_summary(true, np.array([2, 2, 1, 0]))
    assert found["boxes"] == 4
    assert found["by_step"]["gained"] == [0, 0.5, 0.25]
    assert found["by_step"]["lost"] == [0, 0.25, 0.25]
    assert found["by_step"]["unchanged"] == [1, 0.25, 0.5]
    assert found["by_step"]["true_iou"] == pytest.approx(true.mean(axis=1).round(5))
    by_start = found["by_start"]
    assert by_start["boxes"] == [1, 0, 0, 0, 2, 0, 0, 0, 0, 1]
    assert by_start["change"][0] == pytest.approx(0.04)
    assert by_start["change"][1] is None
    assert (by_start["gained"][4], by_start["lost"][4], by_start["unchanged"][4]) == (0, 0.5, 0.5)
    assert sum(found["change"]["boxes"]) == 4
    assert found["change"]["boxes"][0] == 1, "a change beyond the outer edge counts in the outer bin"
    assert found["steps"] == [1, 1, 2]
    assert found["unchanged_below"] == UNCHANGED


def test_refinement_of_no_boxes():
    found = refinement_summary(np.zeros((3, 0)), np.zeros(0, dtype=int))
    assert found["by_step"]["true_iou"] == [None, None, None]
    assert found["steps"] == [0, 0, 0]
    json.dumps(found, allow_nan=False)


def test_a_setting_without_refinement_is_refused():
    with pytest.raises(ValueError, match="setting 'rank' has no refinement"):
        Diagnostics(None, [1], Setting("rank"), [StepSize(0.5, 0.5)])


@pytest.fixture(scope="module")
def passed(tiny_suite, tiny_data):
    """One pass with random weights and, so that some boxes are positive, ground truth where boxes are found.

    The network sees the images at twice their size, the ground truth does not.
    """
    cfg = resolve_config(tiny_suite, "samp1000_lw5.0")
    cfg.data.test.pipeline[1].scale_factor = 2.0
    torch.manual_seed(0)
    model = build_model(cfg, initialize=True)
    dataset = build_split(cfg, DataFolder(tiny_data), "val")
    settings = [Setting(), Setting("rank"), Setting("none")]
    found = detect(model, dataset, settings, batch_size=5)
    for image_id in dataset.img_ids:
        rows = [i for i, other in enumerate(found["none"].image_id) if other == image_id]
        for i, entry in zip(rows, dataset.coco.imgToAnns[image_id], strict=False):
            entry.update(bbox=found["none"].bbox[i], category_id=found["none"].category_id[i])
    dataset.coco.imgToAnns[dataset.img_ids[0]][0]["iscrowd"] = 1
    diagnostics = Diagnostics(
        dataset.coco, dataset.cat_ids, default_setting(cfg), [StepSize(0.5, 0.25), StepSize(2.0, 1.0)]
    )
    again = detect(model, dataset, settings, batch_size=5, diagnostics=diagnostics)
    return dataset, found, again, diagnostics.summary()


def test_a_pass_leaves_detections_alone(passed):
    _, found, again, _ = passed
    assert {name: value.columns() for name, value in found.items()} == {
        name: value.columns() for name, value in again.items()
    }


def test_a_refinement_is_computed_once(tiny_suite, tiny_data, monkeypatch):
    cfg = resolve_config(tiny_suite, "samp1000_lw5.0")
    model, dataset = build_model(cfg, initialize=True), build_split(cfg, DataFolder(tiny_data), "val")
    own, larger = default_setting(cfg), StepSize(2.0, 1.0)
    settings = [Setting("rank"), own, replace(own, part="movement"), Setting("none", own.step_size, own.num_steps)]
    moved = []
    move = IoURoIHead.move
    monkeypatch.setattr(IoURoIHead, "move", lambda *a, **options: moved.append(options["lamb"]) or move(*a, **options))
    diagnostics = Diagnostics(dataset.coco, dataset.cat_ids, own, [own.step_size, larger])
    detect(model, dataset, settings, batch_size=len(dataset), diagnostics=diagnostics)
    assert sorted(moved) == [0.25, 0.25, 1.0], "with the guide rank by two λ, with the guide none by one"


def test_confidence_after_nms_is_that_of_the_boxes_that_regular_nms_keeps():
    # two objects of one class; each has a box of the higher class score and one of the better place, which regular NMS
    # drops; a box of another class is near none; the class score falls with the true IoU, the predicted IoU rises
    truth = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    boxes = torch.tensor([[0.0, 0, 10, 7], [0, 0, 10, 10], [20, 0, 30, 8], [20, 0, 30, 10], [50, 50, 60, 60]])
    scores = torch.tensor([[0.91, 0.0], [0.3, 0.0], [0.81, 0.0], [0.2, 0.0], [0.0, 0.7]])
    ious = torch.tensor([[0.71, 0.0], [0.99, 0.0], [0.81, 0.0], [0.98, 0.0], [0.0, 0.5]])
    annotations = [{"bbox": [x, y, u - x, v - y], "category_id": 7} for x, y, u, v in truth.tolist()]
    diagnostics = Diagnostics(
        SimpleNamespace(imgToAnns={3: annotations}), [7, 8], Setting("rank", StepSize(0.5, 0.25)), []
    )
    refine = {"pre_refine": 100, "lamb": 0.25, "t": 5}
    candidates = Candidates(boxes, scores, torch.zeros(5, dtype=torch.long), 1)
    head = SimpleNamespace(
        test_cfg=ConfigDict(score_thr=0.05, iou=ConfigDict(nms={"iou_threshold": 0.5}, refine=refine)),
        iou_head=SimpleNamespace(cast=lambda dtype: None),
        candidates=lambda *_: candidates,
        score=lambda *_: Prediction(ious, [], None),
        move=lambda features, kept, image, *, t, trace, **_: (
            trace.extend([(kept.boxes, kept.ious)] * (t + 1)) or (kept, image)
        ),
    )
    diagnostics.add(Batch(head, [], [], [{"scale_factor": np.ones(4, np.float32)}]), [3])
    summary = diagnostics.summary()
    assert summary["confidence"]["boxes"] == 4
    after = summary["confidence_after_nms"]
    assert after["boxes"] == 2
    assert (after["class_score"]["pearson"], after["predicted_iou"]["pearson"]) == (-1, 1)
    for name, expected in (("class_score", [0.81, 0.91]), ("predicted_iou", [0.71, 0.81])):
        _, columns = np.nonzero(after[name]["histogram"])
        assert sorted(columns) == [int(value / 0.025) for value in expected]


def test_a_pass_over_the_tiny_suite(passed):
    dataset, _, _, summary = passed
    assert summary["setting"] == {"guide": "rank", "step_size": 0.25, "num_steps": 5}
    assert summary["images"] == 12
    annotations = [entry for image_id in dataset.img_ids for entry in dataset.coco.imgToAnns[image_id]]
    assert summary["objects"] == len(annotations) - 1, "a crowd is no object"
    confidence = summary["confidence"]
    assert confidence["boxes"] > 20
    for name in ("class_score", "predicted_iou"):
        assert np.sum(confidence[name]["histogram"]) == confidence["boxes"]
    survivors = {name: sum(summary["survivors"][name]) for name in NMS}
    after = summary["confidence_after_nms"]
    assert after["boxes"] == survivors["regular"]
    assert (
        np.sum(after["class_score"]["histogram"], axis=1).reshape(-1, 2).sum(1).tolist()
        == (summary["survivors"]["regular"])
    ), "the boxes that regular NMS keeps, by their true IoU"
    assert after["class_score"]["histogram"] != after["predicted_iou"]["histogram"]
    assert 0 < survivors["guided"] <= survivors["no_nms"]
    assert 0 < survivors["regular"] <= survivors["no_nms"]
    assert summary["survivors"]["regular"][-1] > 0, "regular NMS keeps the boxes that ground truth was put on"
    refinement = summary["refinement"]
    assert refinement["boxes"] == survivors["guided"] == sum(refinement["steps"])
    assert refinement["by_start"]["boxes"] == summary["survivors"]["guided"]
    assert [ascent["step_size"] for ascent in summary["ascent"]] == [0.25, 1.0]
    assert summary["ascent"][0]["true"] == refinement["by_step"]["true_iou"]
    assert all(len(ascent[name]) == 6 for ascent in summary["ascent"] for name in ("predicted", "true"))
    assert summary["ascent"][0]["true"][0] == summary["ascent"][1]["true"][0], "every ascent has the same start"
    assert len(json.dumps(summary, allow_nan=False)) < 400_000

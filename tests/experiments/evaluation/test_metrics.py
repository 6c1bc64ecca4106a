"""The COCO metric on awkward sets: pycocotools' own summary, and AP recomputed from the matches we keep."""

import json

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from experiments.evaluation.metrics import DetectionColumns, evaluate_detections, load_ground_truth

CATEGORIES = [{"id": 3, "name": "circle"}, {"id": 7, "name": "star"}, {"id": 11, "name": "never"}]


def annotation(identifier, image, category, box, crowd=0):
    return {
        "id": identifier,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": crowd,
    }


def ground_truth(tmp_path, annotations, images=4):
    data = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 200} for i in range(1, images + 1)],
        "categories": CATEGORIES,
        "annotations": annotations,
    }
    (tmp_path / "gt.json").write_text(json.dumps(data))
    return load_ground_truth(str(tmp_path / "gt.json"))


def awkward(tmp_path, seed=0):
    """Crowds, an image without objects, one without detections, objects of every size, ties in score."""
    rng = np.random.default_rng(seed)
    annotations, found = [], DetectionColumns()
    for image in (1, 2, 4):
        for k in range(6):
            box = [float(v) for v in (*rng.uniform(0, 90, 2), *rng.uniform(8, 130, 2))]
            category = 3 if k % 2 else 7
            annotations.append(annotation(len(annotations) + 1, image, category, box, crowd=int(k == 5)))
            for _ in range(3):
                jitter = rng.normal(0, 4, 4)
                found.image_id.append(image if image != 4 else 3)
                found.category_id.append(category)
                found.bbox.append([float(v) for v in np.maximum(np.array(box) + jitter, 1)])
                found.score.append(round(float(rng.uniform()), 1))
                found.iou.append(None)
    return ground_truth(tmp_path, annotations), found


def reference_stats(truth, found):
    rows = [
        {"image_id": i, "category_id": c, "bbox": b, "score": s}
        for i, c, b, s in zip(found.image_id, found.category_id, found.bbox, found.score, strict=True)
    ]
    reference = COCOeval(truth, truth.loadRes(rows), "bbox")
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    return reference.stats


def average_precision(matches, threshold):
    """AP at one threshold, the textbook way: sort by score, count, 101 recall points, mean over classes."""
    bit = 1 << matches["iou_thresholds"].index(threshold)
    detections, values = matches["detections"], []
    for k in range(len(matches["category_ids"])):
        total = sum(row[k] for row in matches["ground_truth"])
        if total == 0:
            continue
        rows = [i for i, c in enumerate(detections["category"]) if c == k and not detections["ignored"][i] & bit]
        rows.sort(key=lambda i: -detections["score"][i])
        hits = np.cumsum([bool(detections["matched"][i] & bit) for i in rows])
        precision = hits / np.arange(1, len(rows) + 1) if rows else np.zeros(0)
        recall = hits / total if rows else np.zeros(0)
        values.append(np.mean([max(precision[recall >= r], default=0.0) for r in np.linspace(0, 1, 101)]))
    return float(np.mean(values))


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_pycocotools(tmp_path, seed):
    truth, found = awkward(tmp_path, seed)
    result = evaluate_detections(truth, found, [1, 2, 3, 4]).metrics
    stats = reference_stats(truth, found)
    for name, index in {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5}.items():
        assert stats[index] > 0, "the set must exercise every area range"
        assert result[name] == pytest.approx(stats[index], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_matches_reproduce_every_threshold(tmp_path, seed):
    truth, found = awkward(tmp_path, seed)
    result = evaluate_detections(truth, found, [1, 2, 3, 4])
    for name, threshold in {"AP50": 0.5, "AP60": 0.6, "AP70": 0.7, "AP75": 0.75, "AP80": 0.8, "AP90": 0.9}.items():
        assert average_precision(result.matches, threshold) == pytest.approx(result.metrics[name], abs=1e-12)
    assert sum(map(sum, result.matches["ground_truth"])) == 15  # the three crowds do not count


def test_matches_are_plain_json(tmp_path):
    truth, found = awkward(tmp_path)
    assert json.loads(json.dumps(evaluate_detections(truth, found, [1, 2, 3, 4]).matches))["image_ids"] == [1, 2, 3, 4]


def test_no_detections_at_all(tmp_path):
    truth, _ = awkward(tmp_path)
    result = evaluate_detections(truth, DetectionColumns(), [1, 2, 3, 4])
    assert result.metrics["AP"] == 0.0
    assert result.per_class == {"circle": 0.0, "star": 0.0, "never": None}
    assert result.matches["detections"]["score"] == []


def test_no_ground_truth_is_undefined_not_zero(tmp_path):
    truth = ground_truth(tmp_path, [])
    found = DetectionColumns([1], [3], [[0, 0, 10, 10]], [0.9], [None])
    assert set(evaluate_detections(truth, found, [1, 2, 3, 4]).metrics.values()) == {None}


def test_perfect_detections(tmp_path):
    truth = ground_truth(tmp_path, [annotation(1, 1, 3, [10, 10, 20, 20]), annotation(2, 2, 3, [10, 10, 120, 120])])
    found = DetectionColumns([1, 2], [3, 3], [[10, 10, 20, 20], [10, 10, 120, 120]], [0.9, 0.8], [0.7, None])
    metrics = evaluate_detections(truth, found, [1, 2, 3, 4]).metrics
    assert [metrics[name] for name in ("AP", "AP90", "APs", "APl")] == pytest.approx([1.0] * 4, abs=1e-12)
    assert metrics["APm"] is None


def test_unknown_image_or_category_is_named(tmp_path):
    truth = ground_truth(tmp_path, [annotation(1, 1, 3, [10, 10, 20, 20])])
    with pytest.raises(ValueError, match="image id 9, which is not among the 4"):
        evaluate_detections(truth, DetectionColumns([9], [3], [[0, 0, 1, 1]], [0.5], [None]), [1, 2, 3, 4])
    with pytest.raises(ValueError, match="category id 4, which is not among the 3"):
        evaluate_detections(truth, DetectionColumns([1], [4], [[0, 0, 1, 1]], [0.5], [None]), [1, 2, 3, 4])

"""All images matched at once, against pycocotools, which matches one image after the other: equal to the last bit."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from experiments.evaluation.matching import BoxEval

CATEGORIES = (3, 7, 11)


def boxes(rng, on_grid):
    """A box; on the grid many IoUs are equal, and some are exactly a threshold."""
    box = [*rng.uniform(0, 90, 2), *rng.uniform(8, 130, 2)]
    return [10.0 * round(v / 10) + 10 for v in box] if on_grid else [float(v) for v in box]


def sample(rng, images, objects, detections, on_grid=False):
    """Ground truth with crowds, and detections near it and anywhere, some of another class, with ties in score."""
    annotations, rows = [], []
    for image in range(1, images + 1):
        for _ in range(rng.integers(objects + 1)):
            box = boxes(rng, on_grid)
            area, crowd = box[2] * box[3] * rng.uniform(0.5, 1), int(rng.random() < 0.15)
            own = {"image_id": image, "category_id": int(rng.choice(CATEGORIES)), "bbox": box}
            annotations.append({**own, "id": len(annotations) + 1, "area": area, "iscrowd": crowd})
            for _ in range(rng.integers(5)):
                near = (
                    np.array(box) + rng.choice([-10, 0, 10], 4) * on_grid + rng.normal(0, 5, 4) * (not on_grid)
                ).clip(1)
                category = own["category_id"] if rng.random() < 0.9 else 7
                rows.append(
                    {"image_id": image, "category_id": category, "bbox": near.tolist(), "score": round(rng.random(), 1)}
                )
        for _ in range(rng.integers(detections)):
            rows.append(
                {
                    "image_id": image,
                    "category_id": int(rng.choice(CATEGORIES)),
                    "bbox": boxes(rng, on_grid),
                    "score": rng.random(),
                }
            )
    return annotations, rows


def evaluated(annotations, rows, images, limits):
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image} for image in range(1, images + 1)],
        "categories": [{"id": category, "name": str(category)} for category in CATEGORIES],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = truth.loadRes(rows)
        for evaluation in (oracle := COCOeval(truth, found, "bbox"), fast := BoxEval(truth, found, "bbox")):
            evaluation.params.maxDets = [*limits]
            evaluation.evaluate()
            evaluation.accumulate()
    return oracle, fast


def require_equal(oracle, fast):
    assert len(oracle.evalImgs) == len(fast.evalImgs)
    assert any(oracle.evalImgs)
    for expected, entry in zip(oracle.evalImgs, fast.evalImgs, strict=True):
        assert (expected is None) == (entry is None)
        if expected is not None:
            shape = entry["dtMatches"].shape
            np.testing.assert_array_equal(entry["dtScores"], expected["dtScores"])
            np.testing.assert_array_equal(entry["dtMatches"] > 0, np.reshape(expected["dtMatches"], shape) > 0)
            np.testing.assert_array_equal(entry["dtIgnore"], np.reshape(expected["dtIgnore"], shape) > 0)
            assert sorted(entry["gtIgnore"]) == sorted(expected["gtIgnore"])
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(fast.eval[name], oracle.eval[name])


@pytest.mark.parametrize("on_grid", [False, True])
@pytest.mark.parametrize("limits", [(100,), (1, 10, 100), (3,)])
@pytest.mark.parametrize("size", [(1, 2, 2), (6, 8, 15), (40, 20, 40)])
def test_matches_are_those_of_pycocotools(size, limits, on_grid):
    for seed in range(12):
        rng = np.random.default_rng([seed, on_grid, *size])
        annotations, rows = sample(rng, *size, on_grid)
        if rows:
            require_equal(*evaluated(annotations, rows, size[0], limits))


def test_the_samples_hold_what_is_hard():
    """Several detections want one object, ignored objects are taken, a crowd takes several."""
    annotations, rows = sample(np.random.default_rng(0), 40, 20, 40, on_grid=True)
    oracle, _ = evaluated(annotations, rows, 40, (100,))
    entries = [entry for entry in oracle.evalImgs if entry is not None and entry["dtIds"]]
    several = [np.bincount(np.asarray(entry["dtMatches"])[0].astype(int))[1:].max(initial=0) for entry in entries]
    assert max(several) > 1
    assert any((np.asarray(entry["dtMatches"]) > 0)[entry["dtIgnore"] > 0].any() for entry in entries)
    scores = [row["score"] for row in rows]
    assert len(set(scores)) < len(scores)

"""AP of resampled image sets against pycocotools run on those sets."""

from pathlib import Path

import numpy as np
import pytest

from reports.errors import ReportError
from reports.results.matches import Matches, average_precision, draw_image_weights, whole
from tests.reports import synthetic

PATH = Path("a.matches.json.gz")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """14 images (one empty, one with a crowd), awkward detections: doubles, misses, equal scores."""
    rng = np.random.default_rng(7)
    coco = synthetic.make_dataset(tmp_path_factory.mktemp("boot"), 14, rng)
    found = synthetic.random_detections(coco, rng, noise=0.06, misses=0.3)
    for index, detection in enumerate(found):
        if index % 3:
            detection["score"] = round(detection["score"], 1)
    return coco, found, synthetic.evaluate(coco, found)


def pycocotools_ap(coco, found, weights):
    """AP by threshold of a resample: image i enters weights[i] times, as images of their own."""
    images, annotations, detections = [], [], []
    originals = sorted(coco.getImgIds())
    by_image = {i: [d for d in found if d["image_id"] == i] for i in originals}
    for original, count in zip(originals, weights, strict=True):
        for _ in range(count):
            number = len(images) + 1
            images.append({"id": number, "width": 96, "height": 96})
            annotations += [
                {**a, "image_id": number, "id": len(annotations) + k + 1}
                for k, a in enumerate(coco.imgToAnns[original])
            ]
            detections += [{**d, "image_id": number} for d in by_image[original]]
    resampled = synthetic.load_coco(
        {"images": images, "annotations": annotations, "categories": coco.dataset["categories"]}
    )
    precision = synthetic.evaluate(resampled, detections).eval["precision"][:, :, :, 0, -1]
    return [synthetic.mean_precision(p) for p in precision]


def test_whole_set_is_the_evaluation_itself(case):
    _, _, evaluation = case
    matches = Matches.from_json(synthetic.matches_of(evaluation), PATH)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    expected = [synthetic.mean_precision(p) for p in precision]
    np.testing.assert_allclose(average_precision(matches, whole(matches))[0], expected, atol=1e-12)


def test_resamples_equal_pycocotools_on_the_resampled_sets(case):
    coco, found, evaluation = case
    matches = Matches.from_json(synthetic.matches_of(evaluation), PATH)
    weights = draw_image_weights(14, 25, seed=3)
    assert (weights == 0).any()
    assert weights.max() > 2
    expected = [pycocotools_ap(coco, found, row) for row in weights]
    np.testing.assert_allclose(average_precision(matches, weights), expected, atol=1e-12)


def test_the_case_has_ignored_detections_and_ties(case):
    """Otherwise the comparison above would not cover them."""
    matches = Matches.from_json(synthetic.matches_of(case[2]), PATH)
    assert matches.ignored.any()
    assert len(np.unique(matches.score)) < len(matches.score)


def test_chunks_do_not_change_the_result(case, monkeypatch):
    matches = Matches.from_json(synthetic.matches_of(case[2]), PATH)
    weights = draw_image_weights(14, 50)
    expected = average_precision(matches, weights)
    monkeypatch.setattr("reports.results.matches.CHUNK", 1)
    np.testing.assert_array_equal(average_precision(matches, weights), expected)


def hand_made(**changes):
    """Two images, one class, two objects: a hit at all thresholds (score .9), a miss (.8), a hit (.7)."""
    data = {
        "image_ids": [7, 9],
        "category_ids": [1],
        "iou_thresholds": [0.5, 0.75],
        "detections": {
            "image": [0, 0, 1],
            "category": [0, 0, 0],
            "score": [0.9, 0.8, 0.7],
            "matched": [0b11, 0b00, 0b01],
            "ignored": [0, 0, 0],
        },
        "ground_truth": [[1], [1]],
    }
    data.update(changes)
    return data


def test_by_hand():
    matches = Matches.from_json(hand_made(), PATH)
    # threshold .5: precision 1 up to recall .5 (51 points), then 2/3 (50 points)
    # threshold .75: precision 1 up to recall .5, then 0
    assert average_precision(matches, whole(matches))[0] == pytest.approx([(51 + 50 * 2 / 3) / 101, 51 / 101])
    # the first image three times: 3 hits, then 3 misses, then 1 hit among 4 objects; recall .75 is 76 points
    ap = average_precision(matches, np.array([[3, 1]]))[0]
    assert ap == pytest.approx([(76 + 25 * 4 / 7) / 101, 76 / 101])


def test_a_class_without_objects_in_the_resample_does_not_count():
    two = hand_made(category_ids=[1, 2], ground_truth=[[1, 0], [1, 1]])
    matches = Matches.from_json(two, PATH)
    with_second = average_precision(matches, np.array([[1, 1]]))[0]
    without_second = average_precision(matches, np.array([[2, 0]]))[0]
    assert with_second[1] == pytest.approx(51 / 101 / 2)
    assert without_second == pytest.approx([1.0, 1.0])


def test_nothing_to_find_is_undefined_and_nothing_found_is_zero():
    empty = hand_made(ground_truth=[[0], [0]])
    assert np.isnan(average_precision(Matches.from_json(empty, PATH), np.array([[1, 1]]))).all()
    none = hand_made(detections={key: [] for key in ("image", "category", "score", "matched", "ignored")})
    assert (average_precision(Matches.from_json(none, PATH), np.array([[1, 1]])) == 0).all()


def test_draws_are_reproducible_and_as_large_as_the_set():
    weights = draw_image_weights(20, 100, seed=1)
    assert (weights.sum(axis=1) == 20).all()
    np.testing.assert_array_equal(weights, draw_image_weights(20, 100, seed=1))
    assert (weights != draw_image_weights(20, 100, seed=2)).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ground_truth": [[1]]}, "damaged: cannot reshape"),
        ({"detections": {"image": [0]}}, "key 'category' is missing"),
        (
            {"detections": {"image": [2], "category": [0], "score": [0.5], "matched": [0], "ignored": [0]}},
            r"'detections.image' has an index outside 0…1",
        ),
        (
            {"detections": {"image": [0, 1], "category": [0], "score": [0.5], "matched": [0], "ignored": [0]}},
            "differ in length",
        ),
    ],
)
def test_damaged_matches_are_refused(changes, message):
    with pytest.raises(ReportError, match=message) as caught:
        Matches.from_json(hand_made(**changes), PATH)
    assert "a.matches.json.gz" in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.array([[1, 1, 1]]), r"must be \[B, 2\], found \[1, 3\]"),
        (np.array([1, 1]), r"must be \[B, 2\], found \[2\]"),
        (np.array([[0.5, 1.5]]), "whole numbers"),
        (np.array([[-1, 3]]), "whole numbers"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(ReportError, match=message):
        average_precision(Matches.from_json(hand_made(), PATH), weights)

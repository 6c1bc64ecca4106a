import numpy as np

from reports.figures.samples.boxes import SCORE_SHOWN, box_iou
from reports.figures.samples.choose import PER_BAND, evenly, images_with_mistakes, load_sheet
from reports.results.matches import Matches
from reports.results.sides import BASELINE, FIRST_VERSION

MODELS = {"Faster R-CNN": BASELINE, "IoU-Net": FIRST_VERSION}


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
    sheet = load_sheet(results, MODELS, failures=True)
    assert [sample.image_id for sample in sheet.typical] == [3, 7, 11, 15]  # of 16 images
    assert len(sheet.failures) <= PER_BAND
    assert not {s.image_id for s in sheet.failures} & {s.image_id for s in sheet.typical}
    sample = sheet.typical[1]
    assert sample.pixels.shape == (96, 96, 3)
    baseline, iounet = sample.found
    assert iounet.labels and all("·" in label for label in iounet.labels)
    assert not any("·" in label for label in baseline.labels)

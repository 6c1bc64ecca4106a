from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reports.figures.samples.nms import ALIKE, PER_BAND, chosen, crop, frame, make
from reports.figures.style import save, styled
from reports.results.annotations import read_annotations
from suite.errors import NotInSuite


def changes(*values):
    return pd.DataFrame({"image_id": range(len(values)), "change": values})


def test_every_object_has_the_best_box_of_its_class_that_each_nms_left(results):
    data = frame(results)
    objects = [entry for entry in read_annotations(results)["annotations"] if not entry.get("iscrowd")]
    assert len(data) == len(objects)
    for name in ("regular", "guided"):
        none = data[name].isna()
        assert (data.loc[none, f"{name}_iou"] == 0).all()
        x, y, w, h = np.array(data.loc[~none, name].tolist()).T
        own = np.array(data.loc[~none, "object"].tolist()).T
        across = np.minimum(x + w, own[0] + own[2]) - np.maximum(x, own[0])
        down = np.minimum(y + h, own[1] + own[3]) - np.maximum(y, own[1])
        common = across * down
        np.testing.assert_allclose(data.loc[~none, f"{name}_iou"], common / (w * h + own[2] * own[3] - common))
    np.testing.assert_allclose(data["change"], data["guided_iou"] - data["regular_iou"])


def test_the_largest_changes_are_shown_one_of_an_image():
    data = changes(0.3, -0.4, 0.1, ALIKE / 2, 0.2)
    assert chosen(data, 1)["image_id"].tolist() == [0, 4, 2]
    assert chosen(data, -1)["image_id"].tolist() == [1]
    twice = pd.concat([data, data], ignore_index=True)
    assert chosen(twice, 1)["image_id"].tolist() == [0, 4, 2]
    assert len(chosen(changes(*[0.5] * 20), 1)) == PER_BAND


@pytest.mark.parametrize("box", [(0, 0, 30, 10), (80, 80, 20, 20), (40, 40, 5, 5), (0, 0, 100, 100)])
def test_a_crop_is_a_square_inside_the_image_that_has_the_boxes(box):
    pixels = np.arange(100 * 100 * 3, dtype=np.uint8).reshape(100, 100, 3)
    shown, moved = crop(pixels, {"object": box})
    assert shown.shape[0] == shown.shape[1] <= 100
    x, y, w, h = moved["object"]
    assert (w, h) == box[2:] and x >= 0 and y >= 0 and x + w <= shown.shape[1] and y + h <= shown.shape[0]
    own = pixels[box[1] : box[1] + h, box[0] : box[0] + w]
    np.testing.assert_array_equal(shown[y : y + h, x : x + w], own)


def test_the_figure_counts_what_it_shows(results, tmp_path):
    illustration = make(results)
    data = frame(results)
    better, worse = (data["change"] >= ALIKE).sum(), (data["change"] <= -ALIKE).sum()
    assert f"Of {len(data)} objects, {better} have a better box after IoU-guided NMS" in illustration.caption
    assert f"{worse} a worse one" in illustration.caption
    assert len(illustration.frame) == min(PER_BAND, better) + min(PER_BAND, worse)
    with styled():
        figure = illustration.draw()
    assert len(figure.axes) == len(illustration.frame)
    save(figure, tmp_path / "nms", dpi=30, svg=False)


def test_a_suite_without_both_kinds_of_nms_has_no_such_figure(results):
    bare = results.suite.changed(inference={"step_sizes": {"rank": [0.5]}})
    with pytest.raises(NotInSuite, match="none"):
        frame(replace(results, suite=bare))

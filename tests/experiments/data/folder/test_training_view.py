"""The tables hold what mmdet trains on, and what it leaves out is counted."""

import json

import pytest

from experiments.data.command import prepare_data
from experiments.data.folder import training_view
from experiments.data.folder.training_view import left_out_of_training
from suite.errors import SuiteError
from suite.layout import DataFolder
from suite.suite import check_suite
from tests.experiments.data.folders import change, coco_block, edit, read, suite


@pytest.fixture
def mine(copy):
    return check_suite(suite(coco_block(copy)))


def annotation(table, number=0):
    """An annotation of the first image, which has objects of every kind."""
    return [entry for entry in table["annotations"] if entry["image_id"] == 1000][number]


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"area": 0}, True),  # mmdet would not train on it
        ({"area": -3.0}, True),
        ({"area": None}, True),
        ({"bbox": [10, 10, 30, 0.5], "area": 15}, False),
        ({"bbox": [0.1, 0.1, 0.3, 0.2], "area": 0.06}, False),  # as parts of the image's sides
        ({"iscrowd": 1}, False),
        ({"iscrowd": "1"}, False),
        ({"iscrowd": "0"}, True),
        ({"ignore": 1}, False),
        ({"ignore": 0}, True),
    ],
)
def test_what_the_check_counts_is_what_training_sees(mine, copy, tmp_path, changes, kept):
    data = DataFolder(tmp_path / "out")
    edit(copy / "train.json", "annotations", bbox=[10, 10, 30, 20], area=600, iscrowd=0)
    prepare_data(mine, data, 1)
    before = learnt(data)
    edit(copy / "train.json", "annotations", **changes)
    prepare_data(mine, data, 1)  # compares with mmdet's own data set
    assert learnt(data) == before - (not kept)


def learnt(data):
    entries = read(data.annotations("train"))["annotations"]
    return sum(not entry["iscrowd"] for entry in entries)


@pytest.mark.parametrize("area", ["600", True, [1], float("nan")])
def test_an_area_that_is_no_number_is_refused(mine, copy, tmp_path, area):
    edit(copy / "train.json", "annotations", area=area)
    with pytest.raises(SuiteError, match="annotation 1: area is .*, expected a number"):
        prepare_data(mine, DataFolder(tmp_path / "out"), 1)


@pytest.mark.parametrize("key", ["iscrowd", "ignore"])
def test_a_flag_that_is_none_is_refused(mine, copy, tmp_path, key):
    edit(copy / "train.json", "annotations", **{key: "maybe"})
    with pytest.raises(SuiteError, match=f"annotation 1: {key} is 'maybe', expected 0 or 1"):
        prepare_data(mine, DataFolder(tmp_path / "out"), 1)


def test_images_that_mmdet_leaves_out_are_counted_and_said(mine, copy, tmp_path, capsys):
    from PIL import Image

    data = read(copy / "train.json")
    with_objects = {entry["image_id"] for entry in data["annotations"]}
    without = sum(image["id"] not in with_objects for image in data["images"])
    (small,) = [image for image in data["images"] if image["id"] == 1000]
    path = copy / "images/train" / small["file_name"]
    with Image.open(path) as image:
        image.crop((0, 0, small["width"], 31)).save(path)
    edit(copy / "train.json", "images", height=31)
    prepare_data(mine, DataFolder(tmp_path / "out"), 1)
    assert f"training leaves out images: {without} without boxes, 1 under 32 pixels" in capsys.readouterr().out


def test_boxes_of_which_mmdet_learns_none_are_refused(mine, copy, tmp_path):
    data = read(copy / "train.json")
    for entry in data["annotations"]:
        entry["bbox"] = [v / 100 for v in (1, 2, 3, 4)]
    change(copy / "train.json", **data)
    with pytest.raises(SuiteError, match="split `train` has no box to learn from"):
        prepare_data(mine, DataFolder(tmp_path / "out"), 1)


def test_a_difference_that_nothing_explains_is_refused(mine, tmp_path, monkeypatch):
    data = DataFolder(tmp_path / "out")
    prepare_data(mine, data, 1)
    built = training_view.build_training_set

    def lacking(what):
        def build(cfg, folder):
            dataset = built(cfg, folder)
            if what == "image":
                dataset.img_ids = dataset.img_ids[1:]
            else:
                own = dataset.get_ann_info
                dataset.get_ann_info = lambda i: {"bboxes": own(i)["bboxes"][1:]}
            return dataset

        return build

    for what, message in (("image", "out of training, for a reason unknown"), ("box", r"mmdet trains on \d")):
        monkeypatch.setattr(training_view, "build_training_set", lacking(what))
        with pytest.raises(SuiteError, match=message):
            left_out_of_training(mine, data)


def test_a_table_written_by_an_older_version_is_compared_too(mine, tmp_path):
    data = DataFolder(tmp_path / "out")
    prepare_data(mine, data, 1)
    table = read(data.annotations("train"))
    table["annotations"][0]["area"] = 0
    data.annotations("train").write_text(json.dumps(table))
    with pytest.raises(SuiteError, match="train.json: of the .* boxes of .*, mmdet trains on"):
        left_out_of_training(mine, data)

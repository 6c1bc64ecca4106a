"""A `dataset` block in a folder: its defaults, and what is said of one that does not fit its format."""

import pytest

from experiments.data.folder.source import missing
from experiments.data.formats import format_named
from suite.errors import SuiteError
from suite.reader import read_schema
from suite.suite import check_suite
from tests.experiments.data.folders import folder_data, suite


def block(**splits):
    base = {
        "train": {"annotations": "a.json", "images": "a"},
        "tune": {"from": "train", "take": 0.1},
        "val": {"annotations": "b.json", "images": "b"},
    }
    return {"format": "coco", "root": "x", "splits": {k: v for k, v in {**base, **splits}.items() if v}}


def test_a_folder_gets_its_own_defaults_and_none_of_the_generators():
    checked = check_suite(suite(block()))
    assert checked.raw["dataset"].keys() == {"format", "root", "splits", "masks"}
    assert checked.raw["dataset"]["splits"]["tune"]["held_out"] == "always"
    assert checked.dataset.splits["tune"].held_out == "always"


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({**block(), "image_size": 96}, "'image_size' was unexpected"),
        ({**block(), "format": "yolo"}, r"dataset.format: 'yolo' is not one of \['coco', 'voc'\]"),
        ({"root": "x", "splits": {}}, "'format' is a required property"),
        (block(train=None), "needs a split `train` with files of its own"),
        (block(tune={"from": "trian", "take": 3}), "tune.from is 'trian': name a split that has files of its own"),
        (block(tune={"from": "train", "take": 2.5}), "tune.take is 2.5: give a number of images, or a share"),
        (block(val={"from": "train", "take": 3, "held_out": "sweep"}), "the reported split must be held out `always`"),
    ],
)
def test_a_wrong_block_is_named(dataset, message):
    with pytest.raises(SuiteError, match=message):
        check_suite(suite(dataset))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            {"images": "a"},
            "^dataset.splits.train.annotations is missing: the COCO format has no default for it$",
        ),
        ({"annotations": "a"}, "^dataset.splits.train.images is missing: the COCO format has no default for it$"),
        ({"annotations": "a", "images": "a", "list": "c"}, "^dataset.splits.train.list: only Pascal VOC has lists; "),
    ],
)
def test_a_split_that_does_not_fit_the_format_is_named_before_anything_is_looked_for(train, message):
    with pytest.raises(SuiteError, match=message):
        missing(folder_data(block(train=train)))


def test_every_format_of_the_schema_has_a_module_that_knows_every_key_of_a_split():
    schema = read_schema()
    dataset = schema["properties"]["dataset"]["else"]["properties"]
    keys = schema["$defs"]["files"]["properties"].keys() - {"count"}
    for name in dataset["format"]["enum"]:
        module = format_named(name)
        known = [*(part.key for part in module.PARTS), *module.REFUSED]
        assert sorted(known) == sorted(keys)
        assert callable(module.read)

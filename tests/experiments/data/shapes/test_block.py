"""A suite's `dataset` block for generated images: what is said of a bad one."""

import pytest

from suite.errors import SuiteError
from tests.experiments.data.shapes.blocks import BLOCK, generated_data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": "coco"}, r"dataset\.generator: 'coco' is not one of \['shapes'\]"),
        (
            {"image_size": "big"},
            r"dataset\.image_size: 'big' is not of type 'integer'; expected 32 to 1024; for example image_size: 96",
        ),
        ({"image_size": True}, r"dataset\.image_size"),
        (
            {"seed": -1},
            r"dataset\.seed: -1 is less than the minimum of 0; expected 0 to 4294967295; for example seed: 0",
        ),
        (
            {"objects": [5, 2]},
            r"dataset\.objects: expected two integers, the smaller first, got \[5, 2\]; for example objects: \[2, 5\]",
        ),
        (
            {"objects": [2.5, 4]},
            r"dataset\.objects\.0: 2.5 is not of type 'integer'; expected 1 to 20; for example objects: \[3, 6\]",
        ),
        ({"objects": 3}, r"dataset\.objects: 3 is not of type 'array'; for example objects: \[3, 6\]"),
        (
            {"sizes": [16, 200]},
            r"dataset\.sizes: expected two numbers, the smaller first, from 12 to 96 .*"
            r"got \[16, 200\]; for example sizes: \[12, 96\]",
        ),
        ({"sizes": [2, 50]}, r"dataset\.sizes\.0: 2 is less than the minimum of 12; for example sizes: \[16, 44\]"),
        (
            {"classes": [4, 2]},
            r"dataset\.classes: expected two integers, the smaller first, got \[4, 2\]; for example classes: \[2, 4\]",
        ),
        ({"classes": [2, 7]}, r"dataset\.classes\.1: 7 is greater than the maximum of 6"),
        ({"neighbours": 1.5}, r"dataset\.neighbours: 1.5 is greater than the maximum of 1; expected 0 to 1"),
        ({"size": [16, 50]}, r"dataset: .*'size' was unexpected.*; did you mean 'sizes'\?"),
        ({"colour": 1}, r"dataset: .*'colour' was unexpected.*; known keys: .*image_size"),
        ({"splits": {}}, r"dataset\.splits: \{\} should be non-empty; for example splits: \{train: \{images: 2000\}, "),
        (
            {"splits": {"val": 500}},
            r"dataset\.splits\.val: 500 is not of type 'object'; for example val: \{images: 500\}",
        ),
        (
            {"splits": {"val": {}}},
            r"dataset\.splits\.val: 'images' is a required property; for example val: \{images: 500\}",
        ),
        (
            {"splits": {"val": {"images": 0}}},
            r"splits\.val\.images: 0 is less than the minimum of 1; expected 1 to 999999; for example images: 500",
        ),
        (
            {"splits": {"val": {"image": 5}}},
            r"dataset\.splits\.val: .*'image' was unexpected.*; did you mean 'images'\?",
        ),
        (
            {"splits": {"val": {"images": 5, "difficulty": "easy"}}},
            r"val\.difficulty: 'easy' is not one of \['normal', 'hard'\]; for example difficulty: normal",
        ),
        ({"splits": {"../x": {"images": 5}}}, r"dataset\.splits: '\.\./x' does not match .*letters, digits"),
        ({"splits": {"dataset": {"images": 5}}}, r"dataset\.splits: 'dataset' .*not 'dataset'"),
    ],
)
def test_a_bad_spec_is_named_with_a_remedy(change, message):
    with pytest.raises(SuiteError, match=message):
        generated_data({**BLOCK, **change})


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"image_size": 96, "seed": 0, "objects": [2, 5], "sizes": [12, 96]},
        {"splits": {"tune": {"images": 500}, "val": {"images": 500, "difficulty": "normal"}}},
    ],
)
def test_what_the_messages_suggest_works(change):
    generated_data({**BLOCK, **change})


def test_a_spec_that_is_no_block():
    with pytest.raises(
        SuiteError, match=r"dataset: \[1\] is not of type 'object'; for example dataset: \{generator: shapes, "
    ):
        generated_data([1])

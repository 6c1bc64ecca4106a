"""The catalogue: the command that fetches a missing file."""

import pytest

from experiments.data.download.catalogue import remedy, size_text, weights_remedy
from suite.errors import SuiteError


def test_the_real_catalogue_names_every_file_of_the_coco_suite():
    for wanted, archive in {
        "annotations/instances_train2017.json": "annotations_trainval2017.zip (252.9 MB)",
        "annotations/instances_val2017.json": "annotations_trainval2017.zip (252.9 MB)",
        "train2017/000000000009.jpg": "train2017.zip (19.3 GB)",
        "val2017": "val2017.zip (815.6 MB)",
    }.items():
        assert archive in remedy("coco2017", wanted)
    with pytest.raises(SuiteError, match="no 'coco2018' in downloads.yaml; it has bccd, coco2017"):
        remedy("coco2018", "val2017")


def test_the_real_catalogue_has_the_weights_of_the_configs():
    assert "--dataset resnet50` fetches them (102.5 MB)" in weights_remedy("resnet50-0676ba61.pth")


def test_sizes_in_words():
    assert [size_text(s) for s in (7, 1500, 252_907_541, 19_336_861_798)] == [
        "7 bytes",
        "1.5 kB",
        "252.9 MB",
        "19.3 GB",
    ]

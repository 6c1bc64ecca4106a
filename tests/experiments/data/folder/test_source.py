"""What of a folder is not there: named at once, with what to do."""

import pytest

from experiments.data.folder.index import index_folder
from experiments.data.folder.source import missing
from suite.errors import SuiteError
from suite.layout import DataFolder
from tests.experiments.data.folders import coco_block, folder_data


def test_the_remedy_names_the_archive_and_its_size(tmp_path):
    block = coco_block(tmp_path / "nowhere", download="coco2017")
    with pytest.raises(SuiteError, match=r"nowhere \(dataset.root\) is no folder. `python -m experiments download"):
        index_folder(folder_data(block), DataFolder(tmp_path))
    (tmp_path / "here/val2017").mkdir(parents=True)
    block = coco_block(tmp_path / "here", download="coco2017")
    block["splits"]["train"]["images"] = "train2017"
    with pytest.raises(SuiteError, match=r"train2017 \(.*\) is missing. It comes with http://.*zip \(19.3 GB\)"):
        index_folder(folder_data(block), DataFolder(tmp_path))


def test_the_remedy_fetches_into_the_folder_that_the_suite_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fetch = "`python -m experiments download --dataset coco2017"
    for root, command in [("data/coco", f"{fetch}`"), ("my coco", f"{fetch} --root 'my coco'`")]:
        (message,) = missing(folder_data(coco_block(root, download="coco2017")))
        assert command in message


def test_everything_that_is_not_there_is_named_at_once(coco, tmp_path):
    assert missing(folder_data(coco_block(coco))) == []
    (tmp_path / "set/images/train").mkdir(parents=True)
    names = ("train.json", "images/val", "val.json")
    found = missing(folder_data(coco_block(tmp_path / "set")))
    assert [message.split(" (")[0] for message in found] == [str(tmp_path / "set" / name) for name in names]

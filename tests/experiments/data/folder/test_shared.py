"""Splits that have images in common."""

import os
import shutil

import pytest

from experiments.data.folder.index import index_folder
from suite.errors import SuiteError
from suite.layout import DataFolder
from tests.experiments.data.folders import coco_block, folder_data


def index(block, out):
    return index_folder(folder_data(block), DataFolder(out))


def copied(one, other):
    shutil.copy(one, other)


@pytest.mark.parametrize("make", [copied, os.link, os.symlink])
def test_a_copy_or_a_link_in_another_split_is_refused(copy, tmp_path, make):
    one, other = copy / "images/train/000.png", copy / "images/val/000.png"
    one.unlink()
    make(other, one)
    data = (copy / "train.json").read_text()
    size = (copy / "val.json").read_text().split('"file_name": "000.png", ')[1].split("}")[0]
    old = data.split('"file_name": "000.png", ')[1].split("}")[0]
    (copy / "train.json").write_text(data.replace(old, size, 1))
    with pytest.raises(SuiteError, match=r"(?s)000.png of split 'train' and .*000.png of split 'val' are the same"):
        index(coco_block(copy), tmp_path / "out")
    assert not (tmp_path / "out/dataset.json").exists()


def test_two_tables_over_the_same_images_are_refused(copy, tmp_path):
    block = coco_block(copy)
    block["splits"]["val"] = dict(block["splits"]["train"])
    with pytest.raises(SuiteError, match="of split 'val' are the same file: nothing may be chosen or reported"):
        index(block, tmp_path / "out")


def test_equal_images_within_one_split_are_not_refused(copy, tmp_path):
    index(coco_block(copy), tmp_path / "out")

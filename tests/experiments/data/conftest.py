"""Folders of images, made once; tests must not change them."""

import shutil

import pytest

from tests.experiments.data.folders import write_coco, write_voc


@pytest.fixture(scope="session")
def coco(tmp_path_factory):
    """A COCO folder."""
    root = tmp_path_factory.mktemp("coco")
    write_coco(root)
    write_coco(root, images=8, seed=1, split="val")
    return root


@pytest.fixture(scope="session")
def voc(tmp_path_factory):
    """A VOC folder."""
    root = tmp_path_factory.mktemp("voc")
    write_voc(root)
    return root


@pytest.fixture
def copy(coco, tmp_path):
    """A COCO folder that a test may damage."""
    return shutil.copytree(coco, tmp_path / "copy")

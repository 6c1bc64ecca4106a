"""The suite `voc`, on small archives of the same shape: from the download to what a training reads."""

import tarfile

import numpy as np
import pytest
import yaml
from PIL import Image

from experiments.config import resolve_config, set_classes
from experiments.data.datasets import build_training_set, dataset_classes
from experiments.data.download import catalogue
from experiments.data.download.command import download
from experiments.data.folder.index import index_folder
from experiments.data.folder.source import missing
from experiments.data.folder.training_view import left_out_of_training
from suite.files import sha256
from suite.layout import DataFolder
from suite.suite import ROOT, check_suite, load_suite
from tests.experiments.data.folders import write_voc
from workflow.work import images_of

SUITE = yaml.safe_load((ROOT / "experiments/voc.yaml").read_text())
SMALL = {"voc2007": 16, "voc2012": 32, "val": 8}  # images of each list


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The archives of the catalogue's `voc`, with a few images in each, and a catalogue that knows them."""
    folder = tmp_path_factory.mktemp("voc_archives")
    entry = yaml.safe_load(catalogue.CATALOGUE.read_text())["voc"]
    entry["files"] = [file for file in entry["files"] if "unpack" in file]
    for number, file in enumerate(entry["files"]):
        year = file["unpack"][0].split("/")[1]
        tree = folder / str(number)
        write_voc(tree, images=48 if year == "VOC2012" else 24, seed=number)
        lists = tree / "ImageSets/Main"
        (lists / "train.txt").rename(lists / "trainval.txt")
        (lists / "val.txt").rename(lists / "test.txt")
        (tree / "SegmentationClass").mkdir()  # with images of the same names, which are no photographs
        for path in (tree / "JPEGImages").iterdir():
            Image.new("P", (5, 5)).save(tree / "SegmentationClass" / f"{path.stem}.png")
        path = folder / file["url"].rpartition("/")[2]
        with tarfile.open(path, "w") as packed:
            packed.add(tree, f"VOCdevkit/{year}")
        file |= {"bytes": path.stat().st_size, "sha256": sha256(path)}
    (folder / "downloads.yaml").write_text(yaml.safe_dump({"voc": entry}))
    return folder


def small(root, out):
    """The suite as it is, but for where its images are and how many."""
    splits = yaml.safe_load(yaml.safe_dump(SUITE["dataset"]["splits"]))
    for name, member in splits["train"]["join"].items():
        member["count"] = SMALL[name]
    splits["tune"]["take"], splits["val"]["count"] = 8, SMALL["val"]
    dataset = {**SUITE["dataset"], "root": str(root), "splits": splits, "num_categories": 3}
    return check_suite({**SUITE, "dataset": dataset, "results": str(out)})


def test_from_the_archives_to_what_a_training_reads(archives, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "CATALOGUE", archives / "downloads.yaml")
    suite = small(tmp_path / "voc", tmp_path)
    (message,) = missing(suite.dataset)
    assert "`python -m experiments download --dataset voc" in message
    assert images_of(suite, "train") == 48, "of both members; what is cut from it is not known yet"
    root = download("voc", tmp_path / "voc", source=archives)
    assert not missing(suite.dataset)
    assert not list(root.rglob("SegmentationClass")) and not list(root.glob("*.tar"))
    data = DataFolder(suite.layout.data.path)
    manifest = index_folder(suite.dataset, data)
    assert {name: split["images"] for name, split in manifest["splits"].items()} == {"train": 40, "val": 8, "tune": 8}
    assert left_out_of_training(suite, data).keys() == {"train"}
    cfg = resolve_config(suite, "samp1000_lw5.0")
    set_classes(cfg, dataset_classes(data))
    dataset = build_training_set(cfg, data)
    names = {info["filename"].partition("/")[0] for info in dataset.data_infos}
    assert names == {"voc2007", "voc2012"}
    sample = dataset[0]
    height, width = sample["img"].data.shape[1:]
    assert max(height, width) <= 1024 and np.isfinite(sample["img"].data.numpy()).all()
    assert len(sample["gt_bboxes"].data) == len(sample["gt_labels"].data) > 0


def test_a_lost_folder_is_fetched_with_its_archive(archives, tmp_path):
    suite = load_suite("experiments/voc.yaml")
    dataset = small(tmp_path, tmp_path).dataset
    (tmp_path / "trainval2007").mkdir()
    text = "\n".join(missing(dataset))
    assert "It comes with http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar (2.0 GB)" in text
    assert "dataset.splits.train.join.voc2012.images" in text
    assert images_of(suite, "train") == 5011 + 11540

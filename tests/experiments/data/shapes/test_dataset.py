"""The set of generated images: its files, what is made again, what identifies it."""

import hashlib
import json
import os
from dataclasses import replace

import cv2
import numpy as np
import pytest

from experiments.data.shapes import split as shapes
from experiments.data.shapes.dataset import fingerprint, write_dataset
from experiments.data.shapes.scene import CATEGORIES, render_scene
from experiments.data.shapes.split import (
    VERSION,
    scene_rng,
    scene_settings,
    split_fingerprint,
    split_is_complete,
    write_split,
)
from suite.blocks import GeneratedSplit
from suite.errors import SuiteError
from suite.layout import DataFolder
from tests.experiments.data.shapes.blocks import BLOCK, generated_data


def file_hashes(folder):
    return {
        p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*.*"))
        if p.name != ".lock"
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    assert write_dataset(generated_data(BLOCK), DataFolder(out), workers=1)
    return out


def test_the_result_does_not_depend_on_the_workers(dataset, tmp_path):
    write_dataset(generated_data(BLOCK), DataFolder(tmp_path), workers=2)
    assert file_hashes(tmp_path) == file_hashes(dataset)
    assert len(file_hashes(tmp_path)) == 40 + 6 + 3


def test_an_image_does_not_depend_on_the_others(dataset, tmp_path):
    write_split(DataFolder(tmp_path), "train", images=3, scene=scene_settings(generated_data(BLOCK), "train"))
    few, many = (json.loads((folder / "train.json").read_text()) for folder in (tmp_path, dataset))
    assert few["annotations"] == many["annotations"][: len(few["annotations"])]
    for number in (1, 2, 3):
        name = f"train/{number:06d}.png"
        assert (tmp_path / name).read_bytes() == (dataset / name).read_bytes()


def test_files_hold_what_was_drawn(dataset):
    image, annotations = render_scene(scene_rng(0, "train", 11))
    data = json.loads((dataset / "train.json").read_text())
    assert np.array_equal(cv2.imread(str(dataset / "train/000012.png"))[..., ::-1], image)
    assert data["images"][11] == {"id": 12, "file_name": "000012.png", "width": 96, "height": 96}
    rows = [a for a in data["annotations"] if a["image_id"] == 12]
    assert [CATEGORIES[a["category_id"] - 1] for a in rows] == [a.category for a in annotations]
    assert [a["bbox"] for a in rows] == [list(a.bbox) for a in annotations]
    assert [a["area"] for a in rows] == [a.area for a in annotations]
    assert all(a["iscrowd"] == 0 for a in rows)


def test_splits_and_seeds_share_no_image(dataset):
    pictures = [p.read_bytes() for p in dataset.glob("*/*.png")]
    assert len(set(pictures)) == len(pictures) == 46
    ids = [i["id"] for name in ("train", "val") for i in json.loads((dataset / f"{name}.json").read_text())["images"]]
    assert len(set(ids)) == 46
    states = [scene_rng(seed, split, 0).integers(2**62) for seed in (0, 1) for split in ("train", "val")]
    assert len(set(states)) == 4


def test_manifest(dataset):
    manifest = json.loads((dataset / "dataset.json").read_text())
    assert list(manifest) == ["generator", "version", "fingerprint", "spec", "splits", "categories"]
    assert manifest["fingerprint"] == fingerprint(generated_data(BLOCK))
    assert manifest["categories"] == list(CATEGORIES)
    for name, entry in manifest["splits"].items():
        text = (dataset / f"{name}.json").read_bytes()
        assert entry["sha256"] == hashlib.sha256(text).hexdigest()
        assert entry["images"] == len(json.loads(text)["images"]) == len(list((dataset / name).iterdir()))
        assert entry["annotations"] == len(json.loads(text)["annotations"])


def test_every_part_of_the_spec_changes_the_fingerprint(monkeypatch):
    spec = generated_data(BLOCK)
    others = [
        replace(spec, seed=1),
        replace(spec, image_size=64),
        replace(spec, objects=(2, 4)),
        replace(spec, sizes=(16.0, 40.0)),
        replace(spec, classes=(1, 3)),
        replace(spec, neighbours=0.5),
        replace(spec, splits={**spec.splits, "val": GeneratedSplit(7, "hard")}),
        replace(spec, splits={**spec.splits, "val": GeneratedSplit(6, "normal")}),
        replace(spec, splits=dict(reversed(spec.splits.items()))),  # ids go by the order
    ]
    fingerprints = {fingerprint(s) for s in [spec, *others]}
    assert len(fingerprints) == 1 + len(others)
    assert fingerprint(generated_data(json.loads(json.dumps(BLOCK)))) == fingerprint(spec)
    monkeypatch.setattr("experiments.data.shapes.dataset.VERSION", VERSION + 1)
    assert fingerprint(spec) not in fingerprints


def mtimes(folder):
    return {p.name: p.stat().st_mtime_ns for p in folder.rglob("*.json")}


def test_a_complete_set_is_left_alone(dataset, capsys):
    before = mtimes(dataset)
    assert not write_dataset(generated_data(BLOCK), DataFolder(dataset), verbose=True)
    assert mtimes(dataset) == before
    assert "nothing to do" in capsys.readouterr().err


def test_only_what_is_missing_or_changed_is_made_again(tmp_path, capsys):
    spec = generated_data({"generator": "shapes", "splits": {"a": {"images": 3}, "b": {"images": 4}}})
    write_dataset(spec, DataFolder(tmp_path), workers=1)
    for path in tmp_path.rglob("*.json"):
        os.utime(path, (0, 0))  # what is written from here on is newer, however coarse the file system's clock
    before, hashes = mtimes(tmp_path), file_hashes(tmp_path)

    (tmp_path / "b/000002.png").unlink()
    (tmp_path / ".b.part").mkdir()
    (tmp_path / ".b.part/000001.png").write_bytes(b"left by a killed run")
    assert write_dataset(spec, DataFolder(tmp_path), workers=1, verbose=True)
    assert "a: 3 images kept" in capsys.readouterr().err
    assert file_hashes(tmp_path) == hashes
    assert not (tmp_path / ".b.part").exists()
    assert mtimes(tmp_path)["a.json"] == before["a.json"]
    assert mtimes(tmp_path)["b.json"] > before["b.json"]

    (tmp_path / "dataset.json").write_text("{")  # damaged
    assert write_dataset(spec, DataFolder(tmp_path), workers=1)
    assert file_hashes(tmp_path) == hashes
    (tmp_path / "a.json").write_text("[]")
    assert write_dataset(spec, DataFolder(tmp_path), workers=1)
    assert file_hashes(tmp_path) == hashes

    fewer = replace(spec, splits={"a": GeneratedSplit(3, "normal"), "b": GeneratedSplit(2, "normal")})
    os.utime(tmp_path / "a.json", (0, 0))
    kept = mtimes(tmp_path)["a.json"]
    assert write_dataset(fewer, DataFolder(tmp_path), workers=1)
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["000001.png", "000002.png"]
    assert mtimes(tmp_path)["a.json"] == kept


def test_an_interrupted_split_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    spec = generated_data({"generator": "shapes", "splits": {"a": {"images": 2}, "b": {"images": 40}}})
    original = shapes._write_images

    def fail_late(indices, **kwargs):
        if indices.start >= shapes.CHUNK:
            raise KeyboardInterrupt
        return original(indices, **kwargs)

    monkeypatch.setattr(shapes, "_write_images", fail_late)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(spec, DataFolder(tmp_path), workers=1)
    assert {p.name for p in tmp_path.iterdir()} == {".lock", "a", "a.json", ".b.part"}
    monkeypatch.undo()
    assert write_dataset(spec, DataFolder(tmp_path), workers=1)
    assert len(list((tmp_path / "b").iterdir())) == 40


def test_other_peoples_files_are_not_deleted(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val/holiday.jpg").write_bytes(b"mine")
    with pytest.raises(SuiteError, match=r"holds 'holiday\.jpg'.*choose another --out"):
        write_split(DataFolder(tmp_path), "val", images=2, scene={})
    assert (tmp_path / "val/holiday.jpg").read_bytes() == b"mine"


def test_pycocotools_reads_it(dataset):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(dataset / "train.json"))
    keys = ("image_id", "category_id", "bbox")
    found = [{**{k: a[k] for k in keys}, "score": 1.0} for a in truth.dataset["annotations"]]
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    small, medium, large = evaluation.stats[3:6]
    assert (small, medium, large) == (pytest.approx(1), pytest.approx(1), -1)


def test_mmdet_reads_it(dataset):
    datasets = pytest.importorskip("mmdet.datasets", reason="mmdet is not installed")
    loaded = datasets.CocoDataset(
        str(dataset / "val.json"), [], classes=CATEGORIES, img_prefix=str(dataset / "val"), test_mode=False
    )
    assert len(loaded) == 6
    _, annotations = render_scene(scene_rng(0, "val", 0), difficulty="hard")
    info = loaded.get_ann_info(0)
    x, y, w, h = np.array([a.bbox for a in annotations]).T
    np.testing.assert_array_equal(info["bboxes"], np.stack([x, y, x + w, y + h], 1))
    assert [CATEGORIES[label] for label in info["labels"]] == [a.category for a in annotations]
    assert len(info["bboxes_ignore"]) == 0


def test_split_fingerprint_is_what_decides(dataset):
    settings = {"scene": scene_settings(generated_data(BLOCK), "train"), "seed": 0, "first_id": 1}
    right = split_fingerprint("train", images=40, **settings)
    other = split_fingerprint("train", images=41, **settings)
    assert split_is_complete(DataFolder(dataset), "train", right)
    assert not split_is_complete(DataFolder(dataset), "train", other)
    assert not split_is_complete(DataFolder(dataset), "test", right)

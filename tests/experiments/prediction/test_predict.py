"""`python -m experiments predict`: what it draws and writes is what the evaluation finds."""

import json

import cv2
import numpy as np
import pytest
import torch

from experiments.__main__ import main
from experiments.config import default_setting, resolve_config, self_contained, set_classes
from experiments.data.datasets import build_split, dataset_classes
from experiments.evaluation.inference import detect
from experiments.models import build_model
from experiments.prediction.command import distinct
from suite.layout import DataFolder, Layout
from suite.settings import Setting

BASELINE, IOUNET = "faster_rcnn", "samp1000_lw5.0"


@pytest.fixture(scope="module")
def trained(tiny_suite, tiny_data, tmp_path_factory):
    """Two trainings by hand, with random weights."""
    layout, models = Layout(tmp_path_factory.mktemp("results")), {}
    for variant in (BASELINE, IOUNET):
        cfg = resolve_config(tiny_suite, variant)
        set_classes(cfg, classes := dataset_classes(DataFolder(tiny_data)))
        torch.manual_seed(5)
        model, run = build_model(cfg, initialize=True), layout.run(variant, 0)
        model.roi_head.bbox_head.fc_cls.weight.data *= 30  # else all scores would be alike
        if variant == IOUNET:
            model.roi_head.iou_head.fc_iou.weight.data *= 100  # else no box would move
        run.path.mkdir(parents=True)
        run.config.write_text(self_contained(cfg, "By hand."))
        torch.save({"meta": {"CLASSES": classes}, "state_dict": model.state_dict()}, run.checkpoint)
        models[variant] = (cfg, model)
    return layout, models


@pytest.fixture(scope="module")
def images(tiny_data):
    return sorted((tiny_data / "val").iterdir())[:3]


@pytest.fixture(scope="module")
def written(trained, images, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    run = trained[0].run(IOUNET, 0).path
    assert main(["predict", "--run", str(run), "--out", str(out), "--score", "0", *map(str, images)]) == 0
    return out


def test_it_finds_what_the_evaluation_finds(written, trained, images, tiny_data):
    for variant, (cfg, model) in trained[1].items():
        rows = json.loads((written / f"{variant}_seed0.json").read_text())
        dataset = build_split(cfg, DataFolder(tiny_data), "val", len(images))
        setting = default_setting(cfg)
        expected = detect(model, dataset, [setting], batch_size=1)[setting.name]
        assert len(rows) == len(expected.score) > 20
        assert [dataset.img_ids[row["image_id"] - 1] for row in rows] == expected.image_id
        assert [row["category_id"] for row in rows] == expected.category_id
        assert [row["score"] for row in rows] == pytest.approx(expected.score)
        np.testing.assert_allclose([row["bbox"] for row in rows], expected.bbox, atol=1e-4)
        assert [row.get("iou") for row in rows] == pytest.approx(expected.iou)
        assert rows[0]["file_name"] == images[0].name
        assert rows[0]["category"] == dataset_classes(DataFolder(tiny_data))[rows[0]["category_id"] - 1]


def test_boxes_before_refinement_are_those_of_nms(written, trained, images, tiny_data):
    cfg, model = trained[1][IOUNET]
    rows = json.loads((written / f"{IOUNET}_seed0.json").read_text())
    kept = detect(model, build_split(cfg, DataFolder(tiny_data), "val", len(images)), [Setting("rank")], batch_size=1)
    found = kept["rank"]
    places = zip(found.image_id, found.category_id, found.bbox, strict=True)
    by_nms = {(image, category, *np.round(box, 2)) for image, category, box in places}
    ids = sorted(set(found.image_id))
    before = {(ids[row["image_id"] - 1], row["category_id"], *np.round(row["bbox_before"], 2)) for row in rows}
    assert before <= by_nms
    assert any(row["bbox"] != row["bbox_before"] for row in rows)


def test_the_baseline_of_the_seed_is_drawn_beside(written, images):
    names = {path.name for path in written.iterdir()}
    pictures = {f"{image.stem}.png" for image in images}
    assert names == pictures | {f"{BASELINE}_seed0.json", f"{IOUNET}_seed0.json"}
    height, width = cv2.imread(str(written / f"{images[0].stem}.png")).shape[:2]
    assert width > 1.6 * height  # two panels of a square image


def test_trainings_by_name(trained, images, tmp_path):
    run = trained[0].run(BASELINE, 0).path
    assert main(["predict", "--run", str(run), "--out", str(tmp_path), str(images[0])]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {f"{images[0].stem}.png", f"{BASELINE}_seed0.json"}


@pytest.mark.parametrize("missing", ["image", "config", "checkpoint"])
def test_what_is_missing_is_named(trained, images, tmp_path, missing):
    run, image = trained[0].run(BASELINE, 0).path, images[0]
    if missing == "image":
        image, expected = tmp_path / "none.png", "none.png: no such image"
    else:
        run, expected = tmp_path, f"{tmp_path}: no config.py.* A training that is done gets it"
    if missing == "checkpoint":
        (tmp_path / "config.py").write_text((trained[0].run(BASELINE, 0).config).read_text())
        expected = "checkpoint.pth is missing: train it first"
    with pytest.raises(SystemExit, match=expected):
        main(["predict", "--run", str(run), "--out", str(tmp_path / "out"), str(image)])
    assert not (tmp_path / "out").exists()


def test_a_training_twice_is_refused(trained, images, tmp_path):
    run = str(trained[0].run(BASELINE, 0).path)
    with pytest.raises(SystemExit, match="two trainings would both be called faster_rcnn seed0"):
        main(["predict", "--run", run, "--run", run, "--out", str(tmp_path / "out"), str(images[0])])


def test_pictures_of_equal_names(tmp_path):
    assert distinct([tmp_path / "a/1.png", tmp_path / "b/1.jpg", tmp_path / "2.png"]) == ["1", "1-2", "2"]

"""The coco suite's full-size models through the real path, once: R-50-FPN on two images at 1333 × 800."""

import json

import numpy as np
import pytest
import torch
import yaml
from mmdet.models import build_backbone
from PIL import Image

from experiments.config import resolve_config
from experiments.data.folder import prepare
from experiments.evaluation.evaluate import evaluate
from experiments.training.train import train
from suite.files import sha256
from suite.layout import DataFolder, RunFolder
from suite.suite import ROOT, check_suite

pytestmark = pytest.mark.slow
SUITE = yaml.safe_load((ROOT / "experiments/coco.yaml").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two images that the pipeline enlarges to 1333 × 800, of 80 classes, with masks; random weights of a ResNet-50."""
    folder = tmp_path_factory.mktemp("full")
    rng = np.random.default_rng(0)
    categories = [{"id": n, "name": f"class {n}"} for n in range(1, 81)]
    for split in ("train", "tune", "val"):
        (folder / split).mkdir()
        images, annotations = [], []
        for number in (1, 2):
            pixels = rng.integers(0, 80, (300, 500, 3), dtype=np.uint8)
            for x, y, w, h in ((20, 30, 120, 90), (200, 100, 60, 150), (330, 40, 150, 220)):
                pixels[y : y + h, x : x + w] += 100
                entry = {"id": len(annotations) + 1, "image_id": number, "category_id": len(annotations) * 13 + 1}
                outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
                annotations.append({**entry, "bbox": [x, y, w, h], "segmentation": outline})
            Image.fromarray(pixels).save(folder / split / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": 500, "height": 300})
        data = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(data))
    torch.manual_seed(0)
    backbone = build_backbone({**resolve_config(check_suite(SUITE), "faster_rcnn").model.backbone, "init_cfg": None})
    path = folder / "resnet50.pth"
    torch.save({**backbone.state_dict(), "fc.weight": torch.zeros(1000, 2048)}, path)
    path.rename(folder / f"resnet50-{sha256(path)[:8]}.pth")
    return folder


@pytest.mark.parametrize("variant", ["samp1000_lw5.0", "cascade_rcnn", "mask_rcnn"])
def test_one_iteration_one_inference_with_refinement(variant, folder, tmp_path, monkeypatch):
    config = {**SUITE["variants"], **SUITE["untrained"]}[variant]["config"]
    # Nothing is learnt in one iteration: without a threshold there still is something to refine, one class per box.
    changes = "score_thr=0.0, iou=dict(nms=dict(multiclass=False))"
    lines = f"_base_ = ['{ROOT / config}']\nmodel = dict(test_cfg=dict(rcnn=dict({changes})))\n"
    (tmp_path / "config.py").write_text(lines)
    (weights,) = folder.glob("resnet50-*.pth")
    splits = {name: {"annotations": f"{name}.json", "images": name, "count": 2} for name in ("train", "tune", "val")}
    suite = check_suite(
        {
            **SUITE,
            "results": str(tmp_path / "results"),
            "dataset": {"format": "coco", "root": str(folder), "masks": True, "num_categories": 80, "splits": splits},
            "variants": {variant: {"family": "iounet", "config": str(tmp_path / "config.py")}},
            "training": {"epochs": 1, "backbone_weights": str(weights)},
            "validation": {"split": "tune", "images": 1},
            "inference": {"guides": {"rank": [0.5]}, "num_steps": 5, "batch_size": 1},
        }
    )
    cfg = resolve_config(suite, variant)
    assert cfg.model.backbone.depth == 50 and cfg.data.train.pipeline[2].img_scale == (1333, 800)
    data = suite.layout.root / "data"
    prepare(suite.dataset, data)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    work = tmp_path / "run"
    train(suite, variant, 0, folder=RunFolder(work), data=DataFolder(data), pretraining=None, threads=2)
    run = json.loads((work / "run.json").read_text())
    assert (run["epochs"], run["iterations"]) == (1, 1)
    assert run["mapped"]["lr"]["actual"] == 0.0025
    rows = [json.loads(line) for line in (work / "metrics.jsonl").read_text().splitlines()]
    (losses,) = [row for row in rows if "loss" in row]
    assert np.isfinite([losses["loss"], losses["loss_iou"]]).all() and losses["loss_iou"] > 0
    if variant == "mask_rcnn":
        assert np.isfinite(losses["loss_mask"])
    out = tmp_path / "out"
    place = {"checkpoint": work / "checkpoint.pth", "data_dir": data, "out": out, "threads": 2}
    results = evaluate(suite, variant, 0, "val", **place)
    assert {name: result["images"] for name, result in results.items()} == {"off": 2, "rank": 2, "rank_refine0.5": 2}
    assert results["rank_refine0.5"]["detections"] == 200  # 100 of each image
    assert json.loads((out / "diagnostics.json").read_text())["setting"]["num_steps"] == 5

"""Folders of one's own through the stages: a COCO folder with all that is awkward, and a VOC folder by snakemake."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from experiments.config import resolve_config, set_classes
from experiments.data.datasets import require_unseen
from experiments.data.folder.index import index_folder
from experiments.evaluation.evaluate import evaluate
from experiments.models import load_model
from experiments.speed.rows import timed_settings
from experiments.speed.timing import time_inference
from experiments.training.train import train
from suite.errors import SuiteError
from suite.layout import EvaluationFolder, RunFolder
from suite.suite import check_suite
from tests.experiments.data.folders import coco_block, voc_block, write_coco, write_voc

IDENTITY = {"sha256": "checkpoint_sha256", "config_hash": "config_hash"}
ROOT = Path(__file__).resolve().parents[2]


def own_suite(dataset, **changes):
    return {**yaml.safe_load((ROOT / "tests/workflow/own.yaml").read_text()), "dataset": dataset, **changes}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An IoU-Net trained on the awkward COCO folder, its suite and results."""
    folder = tmp_path_factory.mktemp("own")
    write_coco(folder / "set")
    write_coco(folder / "set", images=8, seed=1, split="val")
    suite = check_suite(own_suite(coco_block(folder / "set"), results=str(folder / "results")))
    data, run = suite.layout.data, suite.layout.run("samp1000_lw5.0", 0)
    index_folder(suite.dataset, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        train(suite, "samp1000_lw5.0", 0, folder=run, data=data, pretraining=None)
        out = folder / "out"
        place = {"checkpoint": run.checkpoint, "data": data, "out": EvaluationFolder(out)}
        results = evaluate(suite, "samp1000_lw5.0", 0, "val", **place)
    return suite, run.path, results, out


def test_it_is_trained_on_the_classes_of_the_data(finished):
    _, work, _, _ = finished
    checkpoint = torch.load(work / "checkpoint.pth", weights_only=True)
    assert checkpoint["meta"]["CLASSES"] == ["square", "circle", "Dreieck é"]
    assert checkpoint["state_dict"]["roi_head.bbox_head.fc_cls.weight"].shape[0] == 4
    assert checkpoint["state_dict"]["roi_head.iou_head.fc_iou.weight"].shape[0] == 3
    run = json.loads((work / "run.json").read_text())
    assert run["epochs"] == 2 and run["mapped"]["lr"] == {"published": 0.02, "actual": 0.0025}
    assert run["trained_on"]["split"] == "train" and run["trained_on"]["images"] < 24  # those without an object are not


def test_the_log_states_the_learning_rate_and_the_warm_up(finished):
    log = (finished[1] / "train.log").read_text()
    assert "learning rate 0.0025: 0.02 for 16 images, scaled to 1 process × 2 images" in log
    assert re.search(r"warm-up of \d iterations, a tenth of the training, in place of 500", log)


def test_every_image_is_evaluated_and_named_by_its_own_ids(finished):
    _, _, results, out = finished
    assert set(results) == {"off", "rank", "rank_refine0.5"}
    assert all(result["images"] == 8 and result["metrics"]["AP"] is not None for result in results.values())
    assert set(results["off"]["per_class"]) == {"square", "circle", "Dreieck é"}
    import gzip

    found = json.loads(gzip.decompress((out / "detections.json.gz").read_bytes()))
    assert set(found["settings"]["rank"]["category_id"]) <= {7, 3, 90}
    assert set(found["settings"]["rank"]["image_id"]) <= {1000 - 7 * n for n in range(8)}


def test_what_is_timed_has_the_identity_of_what_is_evaluated(finished, tmp_path, monkeypatch):
    """On classes that are not the config's own; else a report would call every time stale."""
    suite, work, results, _ = finished
    monkeypatch.setattr("experiments.speed.timing._time_block", lambda *_: {})
    rows = [row for row in timed_settings(suite) if row.variant == "samp1000_lw5.0"]
    monkeypatch.setattr("experiments.speed.timing.timed_settings", lambda suite: rows)
    monkeypatch.setattr("experiments.speed.timing.timed_variants", lambda suite: ("samp1000_lw5.0",) * 2)
    place = {"checkpoints": {"samp1000_lw5.0": work / "checkpoint.pth"}, "data": suite.layout.data}
    timed = time_inference(suite, device="cpu", out=tmp_path / "speed" / "cpu.json", **place)
    evaluated = {name: results["rank"][key] for name, key in IDENTITY.items()}
    assert timed["checkpoints"]["samp1000_lw5.0"] == evaluated
    assert timed["reduced_precision"] is None  # it is not measured on one's own images unless it is asked for


def test_nothing_is_chosen_on_images_that_the_training_saw(finished):
    suite, work, _, _ = finished
    run = json.loads((work / "run.json").read_text())
    assert run["trained_on"]["seen"] == ["train", "tune"]
    with pytest.raises(SuiteError, match="was trained on the images of split 'tune': λ must not be chosen there"):
        require_unseen(run, "tune", "λ")
    require_unseen(run, "val", "λ")
    assert suite.dataset.without("train", "tune") == "trainwithouttune"


def test_the_split_without_them_can_be_trained_on(finished, tmp_path, monkeypatch):
    suite = finished[0]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    trial = suite.changed(training={**suite.raw["training"], "epochs": 1, "split": "trainwithouttune"})
    train(trial, "faster_rcnn", 0, folder=RunFolder(tmp_path), data=suite.layout.data, pretraining=None)
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["trained_on"]["seen"] == ["trainwithouttune"]
    require_unseen(run, "tune", "λ")


def test_a_checkpoint_of_mmdet_is_evaluated_too(finished, tmp_path):
    suite, work, _, _ = finished
    own = torch.load(work / "checkpoint.pth", weights_only=True)
    state = {**own["state_dict"], "roi_head.roi_generator.delta": torch.zeros(7)}  # as the published ones have it
    torch.save(
        {"meta": {"CLASSES": own["meta"]["CLASSES"], "epoch": 12}, "state_dict": state}, tmp_path / "epoch_12.pth"
    )
    cfg = resolve_config(suite, "samp1000_lw5.0")
    set_classes(cfg, own["meta"]["CLASSES"])
    detector = load_model(cfg, tmp_path / "epoch_12.pth")
    assert own["meta"]["CLASSES"] == detector.CLASSES
    assert torch.equal(detector.roi_head.iou_head.fc_iou.weight, state["roi_head.iou_head.fc_iou.weight"])


def test_a_dry_run_without_the_data_says_so_and_still_prints_the_plan(tmp_path):
    snakemake = Path(sys.executable).with_name("snakemake")
    command = [snakemake, "all", "-n", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path]
    environment = {**os.environ, "PATH": f"{snakemake.parent}:{os.environ['PATH']}", "TORCH_HOME": str(tmp_path)}

    def plan():
        done = subprocess.run(
            [*map(str, command), "--configfile", str(ROOT / "experiments/coco.yaml")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "rule train:" in done.stdout + done.stderr
        return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("not there yet: ")]

    data, weights = plan()
    assert "data/coco (dataset.root) is no folder. `python -m experiments download --dataset coco2017`" in data
    assert "resnet50-0676ba61.pth is missing" in weights and "--dataset resnet50` fetches them" in weights
    for name in ("annotations", "train2017", "val2017", "../../hub/checkpoints"):
        (tmp_path / "data/coco" / name).mkdir(parents=True)
    (tmp_path / "hub/checkpoints/resnet50-0676ba61.pth").touch()
    assert [line.split(" (")[0].rsplit("/", 1)[1] for line in plan()] == [
        "instances_train2017.json",
        "instances_val2017.json",
    ]


@pytest.mark.slow
def test_a_voc_folder_by_snakemake(tmp_path):
    """The whole workflow, and the report, on Pascal VOC's folders."""
    write_voc(tmp_path / "set")
    suite = own_suite(voc_block("set"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(suite, allow_unicode=True))
    snakemake = Path(sys.executable).with_name("snakemake")
    command = [snakemake, "all", "--cores", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path]
    done = subprocess.run(
        [*map(str, command), "--configfile", str(tmp_path / "mine.yaml")],
        env={**os.environ, "PATH": f"{snakemake.parent}:{os.environ['PATH']}", "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=600,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = (tmp_path / "results/mine/report/README.md").read_text()
    assert report.startswith("# IoU-Net on my images")
    assert "miniature" not in report and "3 classes" in report
    for variant in ("faster_rcnn", "samp1000_lw5.0"):
        assert (tmp_path / f"results/mine/evaluations/{variant}/seed0/val/off.json").is_file()

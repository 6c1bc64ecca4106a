"""`python -m experiments train-refiner`: what it writes, that it goes on where it was stopped, what it refuses."""

import csv
import json
import shutil

import pytest
import torch

from experiments.__main__ import main
from experiments.refinement.train import train_refiner
from experiments.training.runner import MetricsHook
from experiments.training.start import start
from experiments.training.training import pretraining_of
from iounet.refiner import IoURefiner
from suite.errors import SuiteError
from suite.files import sha256
from suite.layout import DataFolder, RefinerFolder

BASELINE, IOUNET = "faster_rcnn", "samp1000_lw5.0"


class Stopped(Exception):  # noqa: N818
    """In place of a kill."""


@pytest.fixture(scope="module")
def pretrained(tiny_suite, tiny_data, tmp_path_factory):
    """A pretraining with random weights."""
    from experiments.config import resolve_config, set_classes
    from experiments.data.datasets import dataset_classes

    cfg = resolve_config(tiny_suite, "pretraining")
    set_classes(cfg, dataset_classes(DataFolder(tiny_data)))
    model, dataset = start(cfg, 11, DataFolder(tiny_data), pretraining=None, backbone=None)
    path = tmp_path_factory.mktemp("pretraining") / "checkpoint.pth"
    torch.save({"meta": {"CLASSES": list(dataset.CLASSES)}, "state_dict": model.state_dict()}, path)
    return path


def train(suite, folder, data, pretraining, seed=0, **options):
    train_refiner(suite, seed, folder=RefinerFolder(folder), data=DataFolder(data), pretraining=pretraining, **options)
    return RefinerFolder(folder)


@pytest.fixture(scope="module")
def trained(tiny_suite, tiny_data, pretrained, tmp_path_factory):
    return train(tiny_suite, tmp_path_factory.mktemp("refiner"), tiny_data, pretrained)


def test_it_leaves_a_refiner_and_where_it_comes_from(trained, tiny_suite, pretrained):
    names = {path.name for path in trained.path.iterdir()}
    assert names == {"refiner.pth", "run.json", "history.csv", "metrics.jsonl", "train.log", ".lock", ".result"}
    refiner = IoURefiner.load(trained.checkpoint)
    assert refiner.categories == ["circle", "triangle", "cross", "bar", "ring"]
    assert refiner.config["base_channels"] == 16
    assert refiner.config["roi_generator"]["sample_num"] == 30  # 1000 × scale.rois
    assert refiner.step_size == 0.25  # 0.5 × scale.step_size
    run = json.loads(trained.run.read_text())
    assert (run["variant"], run["seed"], run["epochs"], run["iterations"]) == (IOUNET, 0, 2, 8)
    assert run["checkpoint"]["sha256"] == sha256(trained.checkpoint)
    assert run["inputs"]["pretraining_sha256"] == sha256(pretrained)
    assert run["trained_on"]["seen"] == ["train"]
    with trained.history.open() as file:
        rows = list(csv.DictReader(file))
    assert {"step", "epoch", "loss_iou", "iou_error", "lr", "val/iou_error", "val/correlation"} <= set(rows[0])
    assert "loss_cls" not in rows[0]
    assert sum(bool(row["val/iou_error"]) for row in rows) == 2
    said = (trained.path / "train.log").read_text()
    assert "epoch 1/2, iteration 1/8" in said
    assert "s left: loss" in said


def test_it_starts_from_the_pretraining_with_its_statistics(trained, pretrained):
    state, weights = IoURefiner.load(trained.checkpoint).state_dict(), torch.load(pretrained)["state_dict"]
    assert torch.equal(state["backbone.bn1.running_mean"], weights["backbone.bn1.running_mean"])
    own, start = state["backbone.layer1.0.conv1.weight"], weights["backbone.layer1.0.conv1.weight"]
    assert 0 < (own - start).abs().max() < 0.1
    own, start = state["fpn.inner_blocks.0.0.weight"], weights["neck.lateral_convs.0.conv.weight"]
    assert 0 < (own - start).abs().max() < 0.1


def test_once_it_is_trained_nothing_is_done(trained, tiny_suite, tiny_data, pretrained, capfd):
    before = trained.checkpoint.stat().st_mtime_ns
    train(tiny_suite, trained.path, tiny_data, pretrained)
    assert "already trained: nothing to do" in capfd.readouterr().err
    assert trained.checkpoint.stat().st_mtime_ns == before
    trained.checkpoint.unlink()  # as Snakemake deletes it
    train(tiny_suite, trained.path, tiny_data, pretrained)
    assert trained.checkpoint.stat().st_mtime_ns >= before
    assert "already trained" in capfd.readouterr().err


def test_a_stopped_training_goes_on_to_the_same_weights(trained, tiny_suite, tiny_data, pretrained, tmp_path, capfd):
    log, first_step = MetricsHook.log, 6  # in the second epoch

    def log_and_stop(hook, runner):
        log(hook, runner)
        if runner.iter + 1 == first_step:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MetricsHook, "log", log_and_stop)
        with pytest.raises(Stopped):
            train(tiny_suite, tmp_path, tiny_data, pretrained)
    folder = RefinerFolder(tmp_path)
    assert [path.name for path in folder.states()] == ["epoch_1.pth"]
    assert not folder.checkpoint.exists()
    torch.manual_seed(99)  # a new process has other generators
    train(tiny_suite, tmp_path, tiny_data, pretrained)
    assert "continuing after epoch 1" in capfd.readouterr().err
    assert folder.checkpoint.read_bytes() == trained.checkpoint.read_bytes()
    steps = [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines()]
    assert steps == [json.loads(line)["step"] for line in trained.metrics.read_text().splitlines()]
    assert folder.states() == []


def test_another_seed_is_another_training(trained, tiny_suite, tiny_data, pretrained, tmp_path):
    other = train(tiny_suite, tmp_path, tiny_data, pretrained, seed=1)
    own, weights = (IoURefiner.load(folder.checkpoint).state_dict() for folder in (trained, other))
    assert not torch.equal(own["iou_head.fc_iou.weight"], weights["iou_head.fc_iou.weight"])


def test_what_cannot_be_the_start_is_refused(tiny_suite, tiny_data, pretrained, tmp_path):
    with pytest.raises(SuiteError, match=r"checkpoint.pth is missing: train it first"):
        train(tiny_suite, tmp_path / "a", tiny_data, tmp_path / "checkpoint.pth")
    weights = torch.load(pretrained)
    weights["state_dict"].pop("neck.fpn_convs.0.conv.bias")
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(SuiteError, match=r"other.pth does not fit the refiner: fpn.layer_blocks.0.0.bias differs"):
        train(tiny_suite, tmp_path / "b", tiny_data, tmp_path / "other.pth")


def test_another_step_size_of_the_suite_makes_another_file(trained, tiny_suite, tiny_data, pretrained, tmp_path):
    folder = RefinerFolder(shutil.copytree(trained.path, tmp_path / "refiner"))
    scale = {**tiny_suite.raw["scale"], "step_size": 1.0}
    train(tiny_suite.changed(scale=scale), folder.path, tiny_data, pretrained)
    assert IoURefiner.load(folder.checkpoint).step_size == 0.5
    assert IoURefiner.load(trained.checkpoint).step_size == 0.25


def test_the_suites_folder_is_for_refiners_of_its_own_iounet(tmp_path):
    with pytest.raises(SystemExit, match=r"--variant samp1000_lw5.0_bce: .* is for refiners of 'samp1000_lw5.0'; name"):
        main(["train-refiner", "--suite", "experiments/shapes.yaml", "--variant", "samp1000_lw5.0_bce"])


def test_a_variant_without_iou_branch_is_refused(tiny_suite, tiny_data, tmp_path):
    with pytest.raises(SuiteError, match=r"variant 'faster_rcnn' has no IoU branch: .*--variant"):
        train(tiny_suite, tmp_path, tiny_data, None, variant=BASELINE)
    assert list(tmp_path.iterdir()) == []


def test_without_data_it_says_what_to_do(tiny_suite, tmp_path):
    suite = tmp_path / "suite.yaml"
    suite.write_text(tiny_suite.changed(results=str(tmp_path / "results")).text)
    with pytest.raises(SystemExit, match=r"dataset.json is missing: make or check the data first"):
        main(["train-refiner", "--suite", str(suite)])


def test_its_place_is_beside_the_runs(tiny_suite):
    assert pretraining_of(tiny_suite, IOUNET) == tiny_suite.layout.pretraining.checkpoint
    assert tiny_suite.layout.refiner("per_class", 3).path == tiny_suite.layout.root / "refiners/per_class/seed3"

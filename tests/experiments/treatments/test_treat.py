"""The command: its files, that it does nothing twice, and what it refuses."""

import gzip
import json

import pytest
import torch

from experiments.__main__ import main
from experiments.training.train import train
from experiments.treatments.rows import treatments_of
from suite.errors import SuiteError
from suite.files import sha256
from suite.layout import RunFolder
from suite.settings import StepSize
from suite.suite import ROOT
from suite.treatments import CLASS_AGNOSTIC, GUIDED, PLAIN, REFINEMENT, SOFT_GAUSSIAN, Treatment
from tests.refiner.conftest import build


def words(there, detector, **changed):
    return ["treat", "--suite", str(there.file), "--detector", detector, "--seed", str(changed.get("seed", 0))]


def test_every_treatment_has_its_files(there, capsys):
    assert main(words(there, "cascade_rcnn")) == 0
    folder = there.layout.treated("cascade_rcnn", 0, "val")
    index = json.loads(folder.index.read_text())
    expected = treatments_of(there.suite, "cascade_rcnn")
    assert list(index["AP"]) == [one.name for one in expected]
    assert len(expected) == 11 + 15
    for one in expected:
        file = json.loads(folder.setting(one.name).read_text())
        assert file["treatment"] == one.described()
        assert Treatment.of_description(file["treatment"]) == one
        assert file["refiner_sha256"] == (sha256(there.refiners[one.head]) if one.head else None)
        assert (file["variant"], file["seed"], file["split"]) == ("cascade_rcnn", 0, "val")
        assert file["metrics"]["AP"] == index["AP"][one.name]
        assert folder.matches(one.name).is_file()
        assert folder.setting_of(folder.setting(one.name)) == one.name
    assert index["refiners"] == {head: {"sha256": sha256(path)} for head, path in there.refiners.items()}
    assert index["images"] == 12
    assert index["candidates"] > 12 * 10
    assert set(index["seconds"]) == {"detect", "maps", "predict", "guided_nms", "refine"}
    assert all(seconds > 0 for seconds in index["seconds"].values())
    shown = json.loads(gzip.decompress(folder.detections.read_bytes()))["settings"]
    assert list(shown) == [
        "hard0.5",
        "guided0.5",
        "guided0.5_refined5_step0.25",
        "guided0.5_refined5_step0.25_rescored",
    ]
    assert set(shown["hard0.5"]["iou"]) == {None}
    assert folder.foreign() == []

    written = folder.index.stat().st_mtime_ns
    capsys.readouterr()
    assert main(words(there, "cascade_rcnn")) == 0
    assert "already evaluated: nothing to do" in capsys.readouterr().out
    assert folder.index.stat().st_mtime_ns == written

    path = there.refiners[CLASS_AGNOSTIC]
    own = path.read_bytes()
    try:  # another refiner: its treatments are made anew
        build(seed=5, categories=list(torch.load(path)["config"]["categories"]), class_agnostic=True).save(path)
        assert main(words(there, "cascade_rcnn")) == 0
        assert json.loads(folder.index.read_text())["refiners"][CLASS_AGNOSTIC]["sha256"] == sha256(path)
    finally:
        path.write_bytes(own)


def test_the_first_detector_is_compared_further(there):
    names = [[one.name for one in treatments_of(there.suite, own)] for own in there.suite.treated]
    assert all(len(set(own)) == len(own) for own in names)
    assert set(names[1]) < set(names[0])
    assert {"soft_gaussian", "soft_linear0.3", "guided0.7", "hard0.4"} <= set(names[0]) - set(names[1])


@pytest.mark.parametrize(
    ("detector", "change", "message"),
    [
        ("cascade_rcnn", "rcnn=dict(nms=dict(type='soft_nms'))", r"model.test_cfg.rcnn.nms=\{.*'soft_nms'"),
        ("cascade_rcnn", "rcnn=dict(max_per_img=20)", r"model.test_cfg.rcnn.max_per_img=20: .* compared after 100"),
        ("torchvision_faster_rcnn", "nms=dict(iou_threshold=0.7)", r"model.test_cfg.nms=\{.*0.7"),
    ],
)
def test_a_detector_with_another_nms_is_refused(there, tmp_path, detector, change, message):
    config = tmp_path / "mine.py"
    config.write_text(
        f"_base_ = ['{ROOT / there.suite.detectors[detector].config}']\nmodel = dict(test_cfg=dict({change}))"
    )
    suite = there.suite.changed(detectors={"mine": {"label": "Mine", "config": str(config)}})
    with pytest.raises(SuiteError, match=f"detector 'mine', {config}: {message}"):
        treatments_of(suite, "mine")


def test_a_detector_that_gives_no_boxes_before_nms_is_not_trained(there, tmp_path):
    config = tmp_path / "retina.py"
    base = there.suite.variants["faster_rcnn"].config
    config.write_text(
        f"_base_ = ['{ROOT / base}']\n"
        "shape = dict(num_stages=3, out_indices=(0, 1, 2), strides=(1, 2, 2), dilations=(1, 1, 1))\n"
        "model = dict(_delete_=True, type='RetinaNet', train_cfg=None, test_cfg=dict(nms_pre=100),\n"
        "    backbone=dict(type='ResNet', depth=18, base_channels=16, **shape),\n"
        "    neck=dict(type='FPN', in_channels=[16, 32, 64], out_channels=32, num_outs=3),\n"
        "    bbox_head=dict(type='RetinaHead', num_classes=5, in_channels=32, stacked_convs=1, feat_channels=32))\n"
    )
    suite = there.suite.changed(detectors={"mine": {"label": "Mine", "config": str(config)}}, pretraining=None)
    with pytest.raises(SuiteError, match=r"detector 'mine', .*retina.py: .* has neither a roi_head nor a method"):
        train(suite, "mine", 0, folder=RunFolder(tmp_path / "run"), data=there.layout.data, pretraining=None)


@pytest.mark.parametrize(
    ("treatment", "name"),
    [
        (PLAIN, "hard0.5"),
        (Treatment(SOFT_GAUSSIAN, None), "soft_gaussian"),
        (
            Treatment(GUIDED, 0.3, CLASS_AGNOSTIC, REFINEMENT, 5, StepSize(2.0, 0.6), True),
            "guided0.3_refined5_step0.6_rescored_class_agnostic",
        ),
    ],
)
def test_names(treatment, name):
    assert treatment.name == name


def test_what_is_missing_or_does_not_fit_is_named(there, tmp_path):
    with pytest.raises(SystemExit, match=r"error: suite 'tiny' has no detector 'yolo'; it has faster_rcnn, cascade"):
        main(words(there, "yolo"))
    with pytest.raises(
        SystemExit,
        match=r"per_class/seed7/refiner.pth is missing: .*train-refiner --head per_class --seed 7, or snakemake any",
    ):
        main(words(there, "faster_rcnn", seed=7))
    path = there.refiners[CLASS_AGNOSTIC]
    own = path.read_bytes()
    try:
        build(categories=["ant", "bee"]).save(path)
        with pytest.raises(SystemExit, match=r"refiner.pth: its classes are ant, bee, those of the data circle, "):
            main(words(there, "faster_rcnn"))
        path.write_bytes(b"no weights")
        with pytest.raises(SystemExit, match=r"(?s)refiner.pth is not a readable file of weights .*Move it away"):
            main(words(there, "faster_rcnn"))
    finally:
        path.write_bytes(own)
    assert not there.layout.treated("faster_rcnn", 0, "val").index.exists()


def test_a_folder_with_other_files_is_left_alone(there):
    folder = there.layout.treated("faster_rcnn", 0, "tune")
    folder.path.mkdir(parents=True)
    (folder.path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit, match=r"holds 'notes.txt', which is no part of an evaluation"):
        main([*words(there, "faster_rcnn"), "--split", "tune"])

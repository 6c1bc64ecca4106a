"""The command: its files, that it does nothing twice, and what it refuses."""

import gzip
import json

import pytest
import torch

from experiments.__main__ import main
from experiments.treatments.rows import treatments_of
from suite.files import sha256
from suite.settings import StepSize
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

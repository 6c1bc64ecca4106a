import importlib.util
import json
import zipfile

import onnx
import pytest
import torch

from iounet.export.check import check, difference, program_of, session_of
from iounet.export.graph import OPSET, random_inputs, save_onnx, save_program

# Sizes that were not traced, and those where a dimension would be taken for a constant, or broadcast.
SIZES = ((3, 30, (130, 90)), (1, 17, (64, 200)), (2, 1, (96, 128)), (1, 1, (30, 30)), (1, 5, (8, 8)))


def saved(save, refiner, path):
    save(refiner, path)
    assert list(path.parent.iterdir()) == [path]
    return path


@pytest.fixture(scope="module")
def onnx_file(refiner, tmp_path_factory):
    return saved(save_onnx, refiner, tmp_path_factory.mktemp("onnx") / "refiner.onnx")


@pytest.fixture(scope="module")
def program_file(refiner, tmp_path_factory):
    return saved(save_program, refiner, tmp_path_factory.mktemp("program") / "refiner.pt2")


@pytest.fixture(scope="module", params=["onnx", "torch.export"])
def run(request, refiner):
    if request.param == "onnx":
        return session_of(request.getfixturevalue("onnx_file"), refiner, threads=1)
    return program_of(request.getfixturevalue("program_file"))


def test_the_graph_is_the_detector_at_every_size(run, roi_head, refiner):
    generator = torch.Generator().manual_seed(2)
    moved = 0.0
    for size in SIZES:
        inputs = random_inputs(refiner, *size, generator)
        found = difference(run, roi_head, refiner, inputs)
        assert found.boxes <= 1e-4
        assert found.ious <= 1e-5
        assert found.compared >= size[1] - 1  # at most one that hangs on a rounding
        moved = max(moved, float((run(*inputs)[0] - inputs[0][:, 1:]).abs().max()))
    assert moved > 0.5


def test_no_boxes(run, refiner):
    boxes, ious = run(*random_inputs(refiner, 1, 0, (96, 128), torch.Generator().manual_seed(2)))
    assert boxes.shape == (0, 4)
    assert ious.shape == (0,)


def test_the_onnx_file_says_what_it_is(onnx_file, refiner):
    model = onnx.load(onnx_file)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert shapes == {
        "rois": ["K", 5],
        "labels": ["K"],
        "level0": ["N", 4, "H0", "W0"],
        "level1": ["N", 4, "H1", "W1"],
        "boxes": ["K", 4],
        "ious": ["K"],
    }
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["opset"] == str(OPSET)
    assert (said["num_steps"], said["step_size"], said["num_classes"]) == ("2", "2.0", "3")
    assert json.loads(said["strides"]) == [4, 8]
    assert json.loads(said["level_areas"]) == list(refiner.level_areas)


def test_the_onnx_file_names_no_file_of_this_machine(onnx_file):
    content = onnx_file.read_bytes()
    assert b".py" not in content
    assert b"site-packages" not in content


def test_the_program_says_what_it_is(program_file, refiner):
    with zipfile.ZipFile(program_file) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("iounet.json")]
        said = json.loads(archive.read(name))
    assert (said["num_steps"], said["step_size"]) == ("2", "2.0")


@pytest.mark.parametrize("error", [3e-4, float("nan")])
def test_a_graph_that_is_off_is_found(roi_head, refiner, error):
    def run(rois, labels, maps):
        with torch.no_grad():
            boxes, ious = refiner(rois, labels, maps)
        boxes[0, 2] += error
        return boxes, ious

    with pytest.raises(RuntimeError, match="the exported graph differs from torch by"):
        check(run, roi_head, refiner)


def test_the_refiner_itself_passes_the_check(roi_head, refiner):
    def run(rois, labels, maps):
        with torch.no_grad():
            return refiner(rois, labels, maps)

    found = check(run, roi_head, refiner)
    assert found.boxes <= 1e-4
    assert found.compared + found.ties == 141
    assert found.ties < 14


@pytest.mark.parametrize("name", ["onnx", "onnxscript"])
def test_a_missing_package_is_named(refiner, tmp_path, monkeypatch, name):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None if wanted == name else there(wanted))
    with pytest.raises(ModuleNotFoundError, match=rf"{name} is not installed: pip install 'iounet\[export\]'"):
        save_onnx(refiner, tmp_path / "refiner.onnx")
    assert list(tmp_path.iterdir()) == []

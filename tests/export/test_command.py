import importlib.util

import pytest
import torch
from mmcv import Config

import iounet.export.__main__ as command
from tests.export.conftest import small_config
from tests.models.tiny import build


def write(folder, config, name="config.py"):
    path = folder / name
    Config({"model": config, "custom_imports": {"imports": ["iounet"], "allow_failed_imports": False}}).dump(str(path))
    return path


@pytest.fixture
def files(tmp_path):
    """A config and a checkpoint, as arguments."""
    checkpoint = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": build(small_config()).state_dict(), "meta": {}}, checkpoint)
    return {"config": write(tmp_path, small_config()), "checkpoint": checkpoint, "out": tmp_path / "refiner.pt2"}


def arguments(files, *more):
    return [*(word for name, value in files.items() for word in (f"--{name}", str(value))), *more]


def test_it_writes_a_checked_file(files, capsys):
    command.main(arguments(files, "--steps", "1", "--step-size", "0.25"))
    said = capsys.readouterr().out
    assert f"{files['out']}  torch.export" in said
    assert "1 steps, step size 0.25" in said
    assert "greatest difference to torch" in said
    module = torch.export.load(files["out"]).module()
    boxes, ious = module(torch.tensor([[0, 1.0, 2, 30, 40]]), torch.tensor([0]), [torch.rand(1, 4, 9, 9)] * 2)
    assert boxes.shape == (1, 4) and ious.shape == (1,)
    assert sorted(path.name for path in files["out"].parent.iterdir()) == ["checkpoint.pth", "config.py", "refiner.pt2"]


def test_a_file_that_fails_the_check_is_not_left(files, monkeypatch):
    def fail(*_):
        raise RuntimeError("the exported graph differs")

    files["out"].write_text("an older one")
    monkeypatch.setattr(command, "check", fail)
    with pytest.raises(SystemExit, match="the exported graph differs"):
        command.main(arguments(files, "--steps", "0"))
    assert files["out"].read_text() == "an older one"
    assert len(list(files["out"].parent.iterdir())) == 3


def test_files_and_folders_that_are_not_there(files, tmp_path):
    for name, path, message in (
        ("config", tmp_path / "none.py", "none.py: no such file"),
        ("checkpoint", tmp_path / "none.pth", "none.pth: no such file"),
        ("out", tmp_path / "none" / "a.onnx", "a.onnx: no such folder: .*none"),
        ("out", tmp_path / "a.pt", "a.pt: its name must end in .onnx or .pt2"),
    ):
        with pytest.raises(SystemExit, match=message):
            command.main(arguments({**files, name: path}))


def test_a_config_without_an_iou_head(files, tmp_path):
    config = small_config()
    config.roi_head.type = "StandardRoIHead"
    del config.roi_head.iou_head
    with pytest.raises(SystemExit, match="model.roi_head has no iou_head, so there is nothing to refine with"):
        command.main(arguments({**files, "config": write(tmp_path, config, "baseline.py")}))


def test_a_checkpoint_of_another_model(files, tmp_path):
    with pytest.raises(SystemExit, match=r"(?s)pth does not fit .*wide.py: .*size mismatch for roi_head.iou_head"):
        command.main(arguments({**files, "config": write(tmp_path, small_config(fc_channels=[8, 8]), "wide.py")}))
    files["checkpoint"].write_text("not one")
    with pytest.raises(SystemExit, match="checkpoint.pth does not fit"):
        command.main(arguments(files))


def test_a_package_that_is_not_installed(files, tmp_path, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else there(name))
    with pytest.raises(SystemExit, match=r"onnxruntime is not installed: pip install 'iounet\[export\]'"):
        command.main(arguments({**files, "out": tmp_path / "refiner.onnx"}))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--steps", "-1"), "argument --steps: invalid"),
        (("--step-size", "0"), "argument --step-size: invalid"),
        (("--step-size", "nan"), "argument --step-size: invalid"),
        (("--opset", "11"), "argument --opset: 11 is too old: 18 or later"),
    ],
)
def test_wrong_numbers(files, capsys, more, message):
    with pytest.raises(SystemExit):
        command.main(arguments(files, *more))
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_command_as_onnx(files, capsys):
    files["out"] = files["out"].with_suffix(".onnx")
    command.main(arguments(files, "--opset", "18"))
    assert "ONNX, opset 18" in capsys.readouterr().out

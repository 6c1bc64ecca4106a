"""`python -m experiments data`, for generated images and for a folder."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import cv2
import pytest
import yaml

from experiments.data.command import main
from experiments.finished import Finished
from suite.suite import ROOT, load_suite
from tests.experiments.data.folders import coco_block, suite
from tests.experiments.training.stopping import children, wait_until_ended
from tests.locales import in_locale


def test_the_command_says_what_it_found_and_what_it_dropped(coco, tmp_path, capsys):
    (tmp_path / "suite.yaml").write_text(json.dumps(suite(coco_block(coco))))
    assert main(["--suite", str(tmp_path / "suite.yaml"), "--out", str(tmp_path / "out"), "--workers", "2"]) == 0
    printed = capsys.readouterr()
    assert "train: 24 images, " in printed.out and "(dropped: 2 no area, 2 off image)" in printed.out
    assert "3 classes: square, circle, Dreieck é" in printed.out
    assert "1 of them crowds, difficult or ignored: neither learnt nor counted" in printed.out
    (tmp_path / "file").touch()
    assert main(["--suite", str(tmp_path / "suite.yaml"), "--out", str(tmp_path / "file/out")]) == 2
    assert re.search("error: .*file", capsys.readouterr().err)


def test_a_class_that_only_the_training_images_have_is_pointed_out(coco, tmp_path, capsys):
    folder = shutil.copytree(coco, tmp_path / "set")
    for name in ("train", "val"):
        table = json.loads((folder / f"{name}.json").read_text())
        table["categories"].append({"id": 77, "name": "sqaure"})
        if name == "train":
            table["annotations"][-1]["category_id"] = 77
        (folder / f"{name}.json").write_text(json.dumps(table))
    (tmp_path / "suite.yaml").write_text(json.dumps(suite(coco_block(folder))))
    assert main(["--suite", str(tmp_path / "suite.yaml"), "--out", str(tmp_path / "out")]) == 0
    odd = [line for line in capsys.readouterr().out.splitlines() if "is it the name that was meant?" in line]
    assert odd == ["    'sqaure' has boxes in `train` (1), and none in any other split: is it the name that was meant?"]


def test_all_that_is_missing_is_named_at_once_with_the_weights(tmp_path, capsys, monkeypatch):
    (tmp_path / "set/images/train").mkdir(parents=True)
    names = ("train.json", "images/val", "val.json")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    mine = suite(coco_block(tmp_path / "set"), seeds=[0, 1])
    mine["variants"]["faster_rcnn"]["config"] = "experiments/configs/coco/faster_rcnn.py"
    (tmp_path / "suite.yaml").write_text(json.dumps(mine))
    assert main(["--suite", str(tmp_path / "suite.yaml"), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all(name in line for name, line in zip(names, lines, strict=False))
    assert "resnet50-0676ba61.pth is missing" in lines[3]


def test_the_suites_own_folder_is_the_default_and_is_handed_on_to_be_tracked(coco, tmp_path):
    generated = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
    generated["dataset"]["splits"] = splits()
    file = tmp_path / "suite.yaml"
    for own in (suite(coco_block(coco)), generated):
        file.write_text(json.dumps({**own, "results": str(tmp_path / "results")}))
        assert main(["--suite", str(file), "--out", str(tmp_path / own["suite"])]) == 0
        finished = main(["--suite", str(file)])
        assert finished == Finished(load_suite(file), tmp_path / "results" / own["suite"] / "data")
        assert (finished.path / "dataset.json").is_file()


@pytest.mark.parametrize("name", ["C", "ISO-8859"])
def test_a_locale_that_is_not_utf8_changes_nothing(copy, tmp_path, name):
    data = json.loads((copy / "train.json").read_text())
    data["categories"][0]["name"] = "Größe ☃"
    (copy / "train.json").write_text(json.dumps(data))
    (copy / "val.json").write_text((copy / "val.json").read_text().replace('"circle"', json.dumps("Größe ☃")))
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(suite(coco_block(copy), title="Zählung ☃"), allow_unicode=True), encoding="utf-8")
    command = [sys.executable, "-m", "experiments", "data", "--suite", str(file), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, env=in_locale(name))
    assert done.returncode == 0, done.stderr
    assert "3 classes: square, Größe ☃, " in done.stdout.decode()
    assert "Größe ☃" in json.loads((tmp_path / "out/dataset.json").read_bytes())["categories"]


def suite_file(folder, **dataset):
    suite = yaml.safe_load((ROOT / "experiments/shapes.yaml").read_text())
    suite["dataset"].update(dataset)
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite, sort_keys=False))
    return path


def splits(**images):
    return {name: {"images": images.get(name, 2)} for name in ("pretrain", "train", "tune", "val")}


def mtimes(folder):
    return {p.name: p.stat().st_mtime_ns for p in folder.rglob("*.json")}


def test_a_killed_run_resumes_and_leaves_no_process(tmp_path):
    spec, out = suite_file(tmp_path, splits=splits(train=50_000)), tmp_path / "data"
    words = [
        sys.executable,
        "-m",
        "experiments",
        "data",
        "--suite",
        str(spec),
        "--out",
        str(out),
        "--workers",
        "2",
    ]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while len(list(out.glob(".train.part/*.png"))) < 10:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert workers
    wait_until_ended(workers)
    assert (out / "pretrain.json").exists()
    assert not (out / "train.json").exists()
    assert not (out / "dataset.json").exists()

    before = mtimes(out)["pretrain.json"]
    suite_file(tmp_path, splits=splits(train=34))
    assert main(words[4:]) == 0
    assert mtimes(out)["pretrain.json"] == before
    assert len(list((out / "train").iterdir())) == 34
    assert not list(out.glob("*.part"))


def test_command_line_errors(tmp_path, capsys):
    good, own = str(suite_file(tmp_path, splits=splits())), "experiments/coco.yaml"
    for arguments, message in [
        (["--suite", good, "--out", "x", "--workers", "0"], "--workers: expected 1 or more, got 0"),
        (["--suite", good, "--sheet", "x.png", "--sheet-split", "test"], "no split 'test'; it has pretrain, train"),
        (["--suite", own, "--sheet", "x.png"], "are not generated"),
    ]:
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert message in capsys.readouterr().err
    assert main(["--suite", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "x")]) == 2
    assert "none.yaml" in capsys.readouterr().err
    assert main(["--suite", str(suite_file(tmp_path, sizes=[50, 20])), "--out", str(tmp_path / "x")]) == 2
    assert re.search(
        "^error: .*suite.yaml: dataset.sizes: expected two numbers, the smaller first", capsys.readouterr().err
    )
    assert not (tmp_path / "x").exists()


def test_a_sheet_alone(tmp_path):
    path = tmp_path / "deep" / "sheet.png"
    assert main(["--suite", str(suite_file(tmp_path, splits=splits(val=1))), "--sheet", str(path)]) == 0
    assert cv2.imread(str(path)).shape == (4 * 294 - 6, 6 * 294 - 6, 3)
    assert sorted(os.listdir(tmp_path)) == ["deep", "suite.yaml"]

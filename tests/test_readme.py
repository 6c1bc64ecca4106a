"""What the README shows works as shown."""

import re
from pathlib import Path

import mmdet
import pytest
import torch
import yaml
from mmcv import Config
from mmdet.models import build_detector

from experiments.config import resolve_config
from suite.suite import check_suite

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)

(README_SUITE,) = re.findall(r"```yaml\n(suite:.*?)```", README, flags=re.DOTALL)
(SMALL,) = re.findall(r"```yaml\n(scale: \{rois: 0.256.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """mmdet's own Faster R-CNN config with the README's lines over it."""
    configs = Path(mmdet.__file__).parent / ".mim/configs"
    (config,) = [block for block in BLOCKS if "custom_imports" in block]
    assert '"../faster_rcnn/' in config
    path = tmp_path_factory.mktemp("config") / "mine.py"
    path.write_text(config.replace('"../', f'"{configs}/'))
    cfg = Config.fromfile(str(path))
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    return build_detector(cfg.model)


def test_the_config_trains(detector):
    meta = {"img_shape": (64, 96, 3), "pad_shape": (64, 96, 3), "scale_factor": 1.0}
    boxes, labels = torch.tensor([[8.0, 8.0, 40.0, 50.0]]), torch.tensor([3])
    losses = detector.train().forward_train(torch.rand(1, 3, 64, 96), [meta], [boxes], [labels])
    assert losses["loss_iou"].isfinite()


def test_the_config_detects(detector):
    meta = {"img_shape": (64, 96, 3), "pad_shape": (64, 96, 3), "scale_factor": 1.0}
    with torch.no_grad():
        (result,) = detector.eval().simple_test(torch.rand(1, 3, 64, 96), [meta])
    assert len(result) == 80


def test_the_op_example_runs():
    (example,) = [block for block in BLOCKS if "prroi_pool" in block]
    names = {}
    exec(example, names)
    assert names["pooled"].shape == (1, 256, 7, 7)
    assert names["pooled"].requires_grad


def test_the_refiner_example_runs(tmp_path, monkeypatch):
    from tests.refiner.conftest import build

    (example,) = [block for block in BLOCKS if "IoURefiner" in block]
    build().save(tmp_path / "refiner.pth")
    monkeypatch.chdir(tmp_path)
    boxes = torch.tensor([[5.0, 6.0, 40.0, 50.0], [6.0, 6.0, 40.0, 50.0]])
    image = torch.randint(0, 256, (3, 64, 96)).byte()
    names = {"image": image, "boxes": boxes, "scores": torch.tensor([0.9, 0.5]), "labels": torch.tensor([1, 1])}
    exec(example, names)
    assert names["found"].boxes.shape == (1, 4)


def test_the_suite_on_ones_own_images_is_valid():
    suite = check_suite(yaml.safe_load(README_SUITE), source="README.md")
    assert suite.dataset.splits["tune"].held_out == "always"
    for variant in suite.variants:
        resolve_config(suite, variant)


def test_every_target_and_file_it_names_is_there():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^)make ([a-z-]+)", README, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"make {target}"
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_its_apt_line_is_the_one_that_make_env_prints():
    (line,) = re.findall(r"^sudo apt-get install .*$", README, flags=re.MULTILINE)
    assert f"apt_line='{line}'" in (ROOT / "environment/setup.sh").read_text()

"""The drop-in for trackers: its semantics, and the replacement of copies in checkouts of one's own making."""

import importlib
import subprocess
import sys

import pytest
import torch

from iounet.ops import _reference
from iounet.ops.compat import PrRoIPool2D, PrRoIPool2DFunction, prroi_pool2d
from iounet.ops.compat.__main__ import BACKUP, FILES, is_shim, main

OLD = "raise RuntimeError('does not build on this torch')\n"
FUNCTIONAL = OLD + "\n\nclass F:\n    apply = None\n\n\nprroi_pool2d = F.apply\n"
FOLDER = "ltr/external/PreciseRoIPooling/pytorch/prroi_pool"


def arguments(dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    features = torch.rand(2, 3, 12, 14, generator=generator, dtype=torch.float32)
    rois = torch.tensor([[0, 8, 16, 120, 100], [1, 30, 5, 160, 150], [0, 64, 64, 65, 70]], dtype=dtype)
    return features, rois


def oracle(features, rois, bins=(5, 4), scale=1 / 16):
    return _reference.prroi_pool_reference([features.double()], rois.double(), None, bins, [scale], None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64])
def test_float32_comes_out_whatever_the_rois_are(dtype):
    features, rois = arguments(dtype)
    found = prroi_pool2d(features, rois, 5, 4, 1 / 16)
    assert found.dtype == torch.float32 and found.shape == (3, 3, 5, 4)
    torch.testing.assert_close(found.double(), oracle(features, rois), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(PrRoIPool2D(5, 4, 1 / 16)(features.double(), rois), found)
    torch.testing.assert_close(PrRoIPool2DFunction.apply(features, rois, 5, 4, 1 / 16), found)


def test_five_steps_uphill_are_those_of_the_oracle():
    features, start = arguments()

    def ascended(pool, rois, features):
        for _ in range(5):
            rois = rois.detach().requires_grad_()
            pool(features, rois).square().sum().backward()
            sides = (rois[:, 3:] - rois[:, 1:3]).detach().repeat(1, 2)
            rois = torch.cat([rois[:, :1], rois[:, 1:] + 0.05 * rois.grad[:, 1:] * sides], dim=1)
        return rois.detach()

    found = ascended(PrRoIPool2D(5, 4, 1 / 16), start, features)
    expected = ascended(oracle, start.double(), features.double())
    assert (found - start).abs().max() > 1, "the boxes moved"
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_lost_object_gives_zero_and_not_an_error(value):
    features, rois = arguments()
    features.requires_grad_()
    lost = rois.clone()
    lost[1, 3] = value
    lost.requires_grad_()
    found = prroi_pool2d(features, lost, 5, 4, 1 / 16)
    assert (found[1] == 0).all()
    torch.testing.assert_close(found[[0, 2]], prroi_pool2d(features, rois, 5, 4, 1 / 16)[[0, 2]])
    found.sum().backward()
    assert (lost.grad[1] == 0).all() and lost.grad.isfinite().all() and features.grad.isfinite().all()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A tracker with a copy that does not work, and its root on the path."""
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from .prroi_pool import *\n")
    (folder / "prroi_pool.py").write_text("from .functional import prroi_pool2d\n__all__ = ['PrRoIPool2D']\n" + OLD)
    (folder / "functional.py").write_text(FUNCTIONAL)
    (folder / "src").mkdir()
    (folder / "src/prroi_pooling_gpu.c").write_text("// kernels\n")
    models = tmp_path / "ltr/models"
    models.mkdir()
    (models / "absolute.py").write_text("from ltr.external.PreciseRoIPooling.pytorch.prroi_pool import PrRoIPool2D\n")
    (models / "relative.py").write_text("from ..external.PreciseRoIPooling.pytorch.prroi_pool import PrRoIPool2D\n")
    (models / "hack.py").write_text(
        "import os, sys\n"
        f"sys.path.append(os.path.join(os.path.dirname(__file__), '..', '..', '{FOLDER}'))\n"
        "from functional import prroi_pool2d\n"
        "from prroi_pool import PrRoIPool2D\n"
    )
    (models / "function.py").write_text(
        "from ltr.external.PreciseRoIPooling.pytorch.prroi_pool.functional import prroi_pool2d\n"
        "import ltr.external.PreciseRoIPooling.pytorch.prroi_pool.prroi_pool as module\n"
        "PrRoIPool2D = module.PrRoIPool2D\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("way", ["absolute", "relative", "hack", "function"])
def test_a_replaced_copy_is_imported_in_every_way(checkout, way, capsys):
    with pytest.raises(RuntimeError, match="does not build"):
        importlib.import_module(f"ltr.models.{way}")
    for name in [name for name in sys.modules if name.startswith("ltr") or name in ("functional", "prroi_pool")]:
        del sys.modules[name]
    assert main([str(checkout)]) == 0
    assert f"{FOLDER}: replaced; kept as *{BACKUP}: {', '.join(FILES)}" in capsys.readouterr().out
    importlib.invalidate_caches()
    module = importlib.import_module(f"ltr.models.{way}")
    features, rois = arguments()
    pooled = module.PrRoIPool2D(5, 4, 1 / 16)(features, rois)
    torch.testing.assert_close(pooled.double(), oracle(features, rois), atol=1e-5, rtol=1e-5)
    assert module.PrRoIPool2D is PrRoIPool2D


def contents(root):
    return {
        p.relative_to(root).as_posix(): p.read_text() for p in root.rglob("*") if p.is_file() and p.suffix != ".pyc"
    }


def test_a_dry_run_writes_nothing_and_everything_can_be_taken_back(checkout, capsys):
    before = contents(checkout)
    assert main([str(checkout), "--dry-run"]) == 0
    assert f"{FOLDER}: would be replaced" in capsys.readouterr().out
    assert contents(checkout) == before
    assert main([str(checkout)]) == 0
    replaced = contents(checkout)
    assert replaced[f"{FOLDER}/functional.py{BACKUP}"] == FUNCTIONAL
    assert replaced[f"{FOLDER}/src/prroi_pooling_gpu.c"] == "// kernels\n"
    assert main([str(checkout)]) == 0 and contents(checkout) == replaced, "a second time nothing changes"
    assert main([str(checkout), "--dry-run"]) == 0
    assert f"{FOLDER}: is replaced" in capsys.readouterr().out
    assert main([str(checkout), "--restore"]) == 0
    assert contents(checkout) == before


def test_a_submodule_that_was_not_fetched_is_filled(tmp_path, capsys):
    empty = tmp_path / "ltr/external/PreciseRoIPooling"
    empty.mkdir(parents=True)
    assert main([str(tmp_path)]) == 0
    assert all(is_shim(tmp_path / FOLDER / name) for name in FILES)
    assert main([str(tmp_path), "--restore"]) == 0
    assert not contents(tmp_path)


def test_where_there_is_no_copy_the_command_says_so(tmp_path, capsys):
    (tmp_path / "functional.py").write_text("def other(): pass\n")
    assert main([str(tmp_path)]) == 1
    assert f"no copy below {tmp_path}" in capsys.readouterr().err
    assert main([str(tmp_path / "lost")]) == 1
    assert "is no folder" in capsys.readouterr().err


def test_the_command_is_a_module(tmp_path):
    words = [sys.executable, "-m", "iounet.ops.compat", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "--dry-run" in done.stdout and "--restore" in done.stdout

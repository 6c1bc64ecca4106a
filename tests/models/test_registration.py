"""``import iounet`` with mmdet, without it, and with an mmdet that is broken."""

import os
import subprocess
import sys
from pathlib import Path

from mmcv import Config
from mmcv.utils import import_modules_from_strings
from mmdet.models.builder import HEADS, ROI_EXTRACTORS

import iounet

ROOT = Path(__file__).resolve().parents[2]

BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mmdet", "mmcv"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
"""


def run(code: str, path: Path | None = None) -> subprocess.CompletedProcess:
    paths = [str(ROOT)] if path is None else [str(path), str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def test_registered_by_custom_imports():
    config = Config.fromstring('custom_imports = dict(imports=["iounet"], allow_failed_imports=False)', ".py")
    import_modules_from_strings(**config["custom_imports"])
    assert HEADS.get("IoURoIHead").__module__ == "iounet.models.iou_roi_head"
    assert HEADS.get("IoUHead").__module__ == "iounet.models.iou_head"
    assert ROI_EXTRACTORS.get("PrRoIExtractor").__module__ == "iounet.models.prroi_extractor"


def test_version_is_the_packages():
    assert f'\nversion = "{iounet.__version__}"\n' in (ROOT / "pyproject.toml").read_text()


def test_ops_and_core_work_without_mmdet():
    result = run(
        BLOCK
        + """
import iounet, iounet.ops, iounet.core
from iounet.ops import PrRoIPool, prroi_pool
assert "mmdet" not in sys.modules and "mmcv" not in sys.modules
try:
    import iounet.models
except ModuleNotFoundError as error:
    assert error.name in ("mmdet", "mmcv")
    print(iounet.__version__, iounet.core.iou_guided_nms.__name__, PrRoIPool.__name__, prroi_pool.__name__)
"""
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [iounet.__version__, "iou_guided_nms", "PrRoIPool", "prroi_pool"]


def test_the_error_of_a_broken_mmdet_is_shown(tmp_path):
    (tmp_path / "mmdet").mkdir()
    init = tmp_path / "mmdet" / "__init__.py"
    for line, message in (
        ("raise ImportError('libfoo.so.1: cannot open shared object file')", "libfoo.so.1"),
        ("import mmcv_that_is_missing", "No module named 'mmcv_that_is_missing'"),
    ):
        init.write_text(line)
        result = run("import iounet", tmp_path)
        assert result.returncode != 0
        assert message in result.stderr.splitlines()[-1]

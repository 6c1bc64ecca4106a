"""The refiner, and the command that applies it, where there is no mmdet and no mmcv."""

import json
import subprocess
import sys

import cv2
import numpy as np

from tests.refiner.conftest import build

SCRIPT = """
import sys

class Blocked:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("mmdet", "mmcv"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from experiments.__main__ import main
from iounet.refiner import IoURefiner
import iounet

status = main(sys.argv[1:])
assert not {"mmdet", "mmcv"} & set(sys.modules), "the block does not hold"
try:
    import mmcv
except ModuleNotFoundError:
    sys.exit(status)
sys.exit("mmcv can be imported")
"""


def test_a_file_is_refined_without_mmdet(tmp_path):
    build().save(tmp_path / "refiner.pth")
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))
    annotations = {
        "images": [{"id": 7, "file_name": "a.png", "width": 96, "height": 64}],
        "categories": [{"id": 3, "name": "bee"}],
    }
    rows = [{"image_id": 7, "category_id": 3, "bbox": [50.5, 20, 25, 30], "score": 0.5}]
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    (tmp_path / "detections.json").write_text(json.dumps(rows))
    files = [f"--{name}={tmp_path / name}.json" for name in ("annotations", "detections")]
    command = [sys.executable, "-c", SCRIPT, "refine", f"--refiner={tmp_path / 'refiner.pth'}", *files]
    command += [f"--images={tmp_path / 'images'}", f"--out={tmp_path / 'out.json'}", "--input=after-nms"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert (row["image_id"], row["category_id"]) == (7, 3)

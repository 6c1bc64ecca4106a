"""Who may import whom: every import of the project is read from the syntax tree and held against one table."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("iounet", "suite", "drawing", "experiments", "sweeps", "workflow", "reports")
FRAMEWORK = ("mmdet", "mmcv")


class Rule(NamedTuple):
    """Prefixes of dotted names. ``None`` for ``third_party`` is anything that is not ``forbidden``."""

    project: tuple[str, ...]
    third_party: tuple[str, ...] | None
    forbidden: tuple[str, ...] = ()


# The longest path that a file is, or lies below, decides. Every folder may import itself and the standard library.
RULES = {
    "iounet/ops": Rule(project=(), third_party=("torch", "filelock")),
    "iounet/core": Rule(project=("iounet.ops",), third_party=("torch", "torchvision.ops.nms")),
    "iounet/models": Rule(project=("iounet.core", "iounet.ops"), third_party=("torch", *FRAMEWORK)),
    "iounet/export": Rule(
        project=("iounet.models", "iounet.core", "iounet.ops"), third_party=("torch", "onnx", "onnxruntime", *FRAMEWORK)
    ),
    "iounet/refiner": Rule(project=("iounet.core", "iounet.ops"), third_party=("torch", "torchvision")),
    "iounet": Rule(project=("iounet",), third_party=("mmdet",)),  # __init__.py
    "suite": Rule(project=(), third_party=("yaml", "jsonschema")),
    "suite/images.py": Rule(project=("suite",), third_party=("cv2", "numpy")),  # no other module of the room needs them
    "drawing": Rule(project=(), third_party=("matplotlib", "numpy")),
    "experiments": Rule(project=("suite", "iounet", "drawing"), third_party=None),
    "sweeps": Rule(project=("suite", "experiments"), third_party=None, forbidden=FRAMEWORK),
    "workflow": Rule(project=("suite", "experiments", "sweeps"), third_party=None, forbidden=FRAMEWORK),
    "reports": Rule(project=("suite", "drawing"), third_party=None, forbidden=(*FRAMEWORK, "torch", "torchvision")),
}


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def imported_names(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything imported anywhere in a file, dynamic imports of literals included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("import_module", "__import__", "importorskip"):
                yield node.lineno, str(node.args[0].value)


def violations(root: Path) -> list[str]:
    found = []
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            relative = path.relative_to(root)
            home = max((rule for rule in RULES if relative.is_relative_to(rule)), key=len)
            rule, own = RULES[home], home.replace("/", ".")
            for line, name in imported_names(ast.parse(path.read_text()), ".".join(relative.parent.parts)):
                top = name.split(".")[0]
                if top in sys.stdlib_module_names:
                    continue
                if top in FOLDERS:
                    # `from iounet import core` and `import iounet` name the package: what counts is where it leads
                    allowed = within(name, (own, *rule.project))
                elif rule.third_party is None:
                    allowed = not within(name, rule.forbidden)
                else:
                    allowed = within(name, rule.third_party)
                if not allowed:
                    found.append(f"{relative}:{line}: {home} must not import {name}")
    return found


def circles(root: Path, folder: str) -> list[set[str]]:
    """The groups of rooms that import each other in a circle.

    A room is a module or a sub-package of `folder` or of one of its sub-packages, beside the others of its parent.
    """
    imports: dict[str, set[str]] = {}  # of each room, those beside it that it imports
    for path in sorted((root / folder).rglob("*.py")):
        own = [*path.relative_to(root).parent.parts, *([path.stem] if path.stem != "__init__" else [])]
        for _, name in imported_names(ast.parse(path.read_text()), ".".join(path.relative_to(root).parent.parts)):
            other = name.split(".")
            shared = next((i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b), None)
            if shared and is_room(root, parent := ".".join(own[:shared]), other[shared]):
                imports.setdefault(f"{parent}.{own[shared]}", set()).add(f"{parent}.{other[shared]}")
    reached = {room: reachable(imports, room) for room in imports}
    found = [{other for other in reached[room] if room in reached.get(other, ())} for room in reached]
    return [group for i, group in enumerate(found) if group and group not in found[:i]]


def is_room(root: Path, parent: str, name: str) -> bool:
    folder = root / parent.replace(".", "/")
    return (folder / name).is_dir() or (folder / f"{name}.py").is_file()


def reachable(imports: dict[str, set[str]], room: str) -> set[str]:
    found, waiting = set(), [room]
    while waiting:
        new = imports.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def test_the_project_keeps_to_its_layers():
    assert (ROOT / "iounet" / "core" / "nms.py").is_file()  # else there was nothing to read
    assert violations(ROOT) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_rooms_import_each_other_in_a_circle(folder):
    assert (ROOT / folder / "__init__.py").is_file()
    assert circles(ROOT, folder) == []


@pytest.mark.parametrize(
    ("files", "circle"),
    [
        (
            {"reports/tables/a.py": "from reports.figures import b", "reports/figures/b.py": "import reports.tables.a"},
            {"reports.tables", "reports.figures"},
        ),
        (  # through a third one, in a function, relative
            {
                "reports/tables/a.py": "from ..figures.b import draw",
                "reports/figures/b.py": "def f():\n    from reports.document import c",
                "reports/document/deep/c.py": "import json",
                "reports/document/c.py": "from reports.tables.a import rows",
            },
            {"reports.tables", "reports.figures", "reports.document"},
        ),
        (  # a module and a sub-package
            {
                "reports/claims.py": "from reports.tables.a import x",
                "reports/tables/a.py": "from reports import claims",
            },
            {"reports.claims", "reports.tables"},
        ),
        (  # below a sub-package
            {
                "reports/data/formats/a.py": "from reports.data.folder import b",
                "reports/data/folder/b.py": "from reports.data.formats.a import x",
            },
            {"reports.data.formats", "reports.data.folder"},
        ),
    ],
)
def test_a_planted_circle_is_found(tmp_path, files, circle):
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert circles(tmp_path, "reports") == [circle]
    (tmp_path / list(files)[-1]).write_text("import json")
    assert circles(tmp_path, "reports") == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("iounet/core/a.py", "import torch.nn.functional as F"),
        ("iounet/core/a.py", "from torchvision.ops import nms"),
        ("iounet/core/a.py", "from iounet.ops import prroi_pool"),
        ("iounet/core/a.py", "from . import boxes\nfrom .boxes import box_iou\nimport math"),
        ("iounet/models/a.py", "from mmdet.models import HEADS\nfrom mmcv import ops\nfrom ..core import nms"),
        ("iounet/export/a.py", "import onnx, onnxruntime\nfrom iounet.models import IoUHead\nfrom mmcv import Config"),
        ("iounet/refiner/a.py", "import torchvision\nfrom iounet.core import nms\nfrom . import b"),
        ("iounet/__init__.py", "import mmdet\nfrom iounet import models"),
        ("suite/a.py", "import yaml\nfrom jsonschema import validators\nfrom suite import b\nimport json"),
        ("drawing/a.py", "import matplotlib, numpy\nfrom drawing import b"),
        (
            "experiments/a.py",
            "from drawing import boxes\nimport iounet, wandb\nfrom mmcv import Config\nimport experiments.b",
        ),
        ("experiments/configs/a.py", "from experiments import b"),
        ("experiments/data/a.py", "from suite.suite import load_suite"),
        ("sweeps/a.py", "import optuna\nfrom experiments.training.train import main\nfrom suite import search"),
        ("workflow/a.py", "from sweeps.space import Search\nimport experiments.config, suite.layout, yaml"),
        (
            "reports/a.py",
            "import pandas, matplotlib\nfrom reports import b\nimport json\nfrom suite import layout",
        ),
    ],
)
def test_allowed(tmp_path, path, line):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(line)
    assert violations(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "line", "name"),
    [
        ("iounet/ops/a.py", "import numpy", "numpy"),
        ("iounet/ops/a.py", "from iounet.core import boxes", "iounet.core.boxes"),
        ("iounet/ops/a.py", "from ..core import boxes", "iounet.core.boxes"),
        ("iounet/ops/sub/a.py", "from ...core.boxes import box_iou", "iounet.core.boxes.box_iou"),
        ("iounet/core/a.py", "def f():\n    import mmdet.core", "mmdet.core"),
        ("iounet/core/a.py", "from mmcv import Config", "mmcv.Config"),
        ("iounet/core/a.py", "from torchvision.ops import box_iou", "torchvision.ops.box_iou"),
        ("iounet/core/a.py", "import torchvision", "torchvision"),
        ("iounet/core/a.py", "from iounet.models import IoUHead", "iounet.models.IoUHead"),
        ("iounet/core/a.py", "from .. import models", "iounet.models"),
        ("iounet/core/a.py", "import importlib\nimportlib.import_module('mmdet')", "mmdet"),
        ("iounet/core/a.py", "__import__('pandas')", "pandas"),
        ("iounet/models/a.py", "import wandb", "wandb"),
        ("iounet/models/a.py", "import pandas as pd", "pandas"),
        ("iounet/models/a.py", "if TYPE_CHECKING:\n    from matplotlib import pyplot", "matplotlib.pyplot"),
        ("iounet/models/a.py", "from experiments import train", "experiments.train"),
        ("iounet/export/a.py", "from suite.files import atomic", "suite.files.atomic"),
        ("iounet/models/a.py", "from iounet.export import Refiner", "iounet.export.Refiner"),
        ("iounet/models/a.py", "import onnx", "onnx"),
        ("iounet/refiner/a.py", "from mmcv import Config", "mmcv.Config"),
        ("iounet/refiner/a.py", "from iounet.models import IoUHead", "iounet.models.IoUHead"),
        ("iounet/refiner/a.py", "from suite.files import atomic", "suite.files.atomic"),
        ("iounet/core/a.py", "from iounet.refiner import IoURefiner", "iounet.refiner.IoURefiner"),
        ("iounet/a.py", "import snakemake", "snakemake"),
        ("iounet/__init__.py", "import optuna", "optuna"),
        ("experiments/a.py", "import sweeps.space", "sweeps.space"),
        ("experiments/sub/a.py", "from reports.results.collect import rows", "reports.results.collect.rows"),
        ("sweeps/a.py", "import iounet", "iounet"),
        ("sweeps/a.py", "import mmcv", "mmcv"),
        ("sweeps/a.py", "from reports import collect", "reports.collect"),
        ("sweeps/a.py", "from workflow.jobs import Jobs", "workflow.jobs.Jobs"),
        ("iounet/core/a.py", "from suite.files import atomic", "suite.files.atomic"),
        ("suite/a.py", "import numpy as np", "numpy"),
        ("suite/a.py", "def f():\n    import torch", "torch"),
        ("suite/a.py", "from mmcv import Config", "mmcv.Config"),
        ("suite/a.py", "import pandas", "pandas"),
        ("suite/a.py", "from experiments.config import resolve_config", "experiments.config.resolve_config"),
        ("suite/a.py", "from reports import claims", "reports.claims"),
        ("suite/a.py", "import iounet", "iounet"),
        ("workflow/a.py", "from reports import build", "reports.build"),
        ("workflow/a.py", "import iounet.core", "iounet.core"),
        ("workflow/a.py", "from mmcv import Config", "mmcv.Config"),
        ("experiments/a.py", "import workflow.gpus", "workflow.gpus"),
        ("reports/a.py", "from sweeps.space import Search", "sweeps.space.Search"),
        ("reports/a.py", "import workflow", "workflow"),
        ("drawing/a.py", "from suite import files", "suite.files"),
        ("drawing/a.py", "import torch", "torch"),
        ("reports/a.py", "import experiments", "experiments"),
        ("reports/a.py", "from iounet.core.boxes import box_iou", "iounet.core.boxes.box_iou"),
        ("reports/a.py", "import torch", "torch"),
        ("reports/sub/a.py", "from mmdet.datasets import CocoDataset", "mmdet.datasets.CocoDataset"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, path, line, name):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("import math\n" + line)
    (found,) = violations(tmp_path)
    assert found.startswith(f"{path}:")
    assert found.endswith(f"must not import {name}")

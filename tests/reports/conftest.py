import shutil
from pathlib import Path

import pytest

from reports.results.collect import Results, collect
from reports.suite import load_suite
from tests.reports import synthetic


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `shapes.yaml` and `results/shapes`; tests must not change it."""
    folder = tmp_path_factory.mktemp("synthetic")
    synthetic.make_results(folder / "results" / "shapes")
    synthetic.write_suite(folder / "shapes.yaml")
    return folder


@pytest.fixture(scope="session")
def results(made: Path) -> Results:
    return collect(load_suite(made / "shapes.yaml"), made / "results" / "shapes")


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage: two variants only, to be quick."""
    keep = ("faster_rcnn", "samp1000_lw5.0")
    for kind in ("runs", "evaluations"):
        for variant in keep:
            source = made / "results" / "shapes" / kind / variant
            shutil.copytree(source, tmp_path / "results" / "shapes" / kind / variant)
    shutil.copytree(made / "results" / "shapes" / "data", tmp_path / "results" / "shapes" / "data")
    variants = {name: {"config": "c.py", "family": "baseline" if name == keep[0] else "iounet"} for name in keep}
    synthetic.write_suite(tmp_path / "shapes.yaml", variants=variants)
    return tmp_path

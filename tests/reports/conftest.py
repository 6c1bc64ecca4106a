import shutil
from pathlib import Path

import pytest

from reports.build import build
from reports.document.blocks import Report
from reports.results.collect import Results, collect
from reports.results.search import SearchResults, load_search
from suite.suite import Suite, load_suite
from tests.reports import synthetic
from tests.reports.synthetic_sweep import make_sweep


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
    synthetic.write_suite(tmp_path / "shapes.yaml", variants=synthetic.variants_of(keep))
    return tmp_path


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """That of `synthetic.write_suite`."""
    return load_suite(synthetic.write_suite(tmp_path / "shapes.yaml"))


@pytest.fixture(scope="session")
def searched(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Results with a search: the shared ones, in a folder of their own."""
    folder = tmp_path_factory.mktemp("searched")
    root = synthetic.linked_results(made, folder)
    make_sweep(root)
    return collect(load_suite(folder / "shapes.yaml"), root)


@pytest.fixture(scope="session")
def sweep(searched: Results) -> SearchResults:
    return load_search(searched)


@pytest.fixture(scope="session")
def built(made: Path) -> tuple[Report, Path, Path]:
    """The whole report, its folder, and its example."""
    out, example = made / "results" / "shapes" / "report", made / "example"
    report = build(made / "shapes.yaml", made / "results" / "shapes", out, example=example, resamples=200)
    return report, out, example

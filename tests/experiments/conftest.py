"""A tiny data set and a tiny pretraining, made once for all tests of this folder."""

import copy

import pytest

from suite.suite import load_suite


@pytest.fixture(scope="session")
def tiny_suite(tmp_path_factory):
    """The tests' suite, with its results in a temporary folder."""
    suite = copy.deepcopy(load_suite("tests/workflow/tiny.yaml"))
    suite["results"] = str(tmp_path_factory.mktemp("results"))
    return suite


@pytest.fixture(scope="session")
def tiny_data(tiny_suite):
    """Its images."""
    from experiments.data.shapes.dataset import write_dataset
    from experiments.data.shapes.spec import parse_spec

    folder = results_dir(tiny_suite) / "data"
    write_dataset(parse_spec(tiny_suite["dataset"]), folder, workers=2)
    return folder

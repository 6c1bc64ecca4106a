"""A tiny data set and a tiny pretraining, made once for all tests of this folder."""

import pytest

from suite.suite import load_suite


@pytest.fixture(scope="session")
def tiny_suite(tmp_path_factory):
    """The tests' suite, with its results in a temporary folder."""
    return load_suite("tests/workflow/tiny.yaml").changed(results=str(tmp_path_factory.mktemp("results")))


@pytest.fixture(scope="session")
def tiny_data(tiny_suite):
    """Its images."""
    from experiments.data.shapes.dataset import write_dataset

    write_dataset(tiny_suite.dataset, tiny_suite.layout.data, workers=2)
    return tiny_suite.layout.data.path

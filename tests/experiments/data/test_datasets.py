"""Files of the data stage that were cut short: named, with what to do."""

import pytest

from experiments.config import resolve_config
from experiments.data.datasets import build_split, build_training_set, dataset_classes
from suite.errors import SuiteError
from suite.layout import DataFolder


@pytest.mark.parametrize("size", [0, 1, 200])
def test_a_file_that_was_cut_short_is_named(tiny_suite, tmp_path, size):
    data, cfg = DataFolder(tmp_path), resolve_config(tiny_suite, "faster_rcnn")
    again = "move it away, and make or check the data again"
    for path, read in (
        (data.manifest, lambda: dataset_classes(data)),
        (data.annotations("train"), lambda: build_training_set(cfg, data)),
        (data.annotations("val"), lambda: build_split(cfg, data, "val")),
    ):
        path.write_text(('{"images": [' + "{}, " * 100)[:size])
        with pytest.raises(SuiteError, match=rf"{path}: damaged, cannot be read \(.*{size} bytes\): {again}"):
            read()

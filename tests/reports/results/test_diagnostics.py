"""Diagnostics: what is collected, what is missing, what is refused."""

import json

import pytest

from reports.errors import ReportError
from reports.results import diagnostics
from reports.results.collect import collect
from suite.suite import load_suite

FILE = "evaluations/samp1000_lw5.0/seed1/val/diagnostics.json"


def test_collected_for_every_iounet(results):
    assert len(results.diagnostics) == 5 * 3
    assert "faster_rcnn" not in set(results.diagnostics["variant"])
    assert (results.diagnostics["stale"] == "").all()
    assert diagnostics.missing(results) == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", 2, "belongs to another place: key 'seed' is 2, expected 1"),
        ("ascent", ..., "key 'ascent' is missing"),
        ("survivors", {}, "key 'survivors.edges' is missing"),
        ("dataset_fingerprint", "0" * 64, "another dataset: key 'dataset_fingerprint'"),
    ],
)
def test_bad_files_are_refused_by_file_and_key(copy, key, value, message):
    path = copy / "results" / "shapes" / FILE
    data = {**json.loads(path.read_text()), key: value}
    path.write_text(json.dumps({name: entry for name, entry in data.items() if entry is not ...}))
    with pytest.raises(ReportError, match=message) as caught:
        collect(load_suite(copy / "shapes.yaml"), copy / "results" / "shapes")
    assert str(path) in str(caught.value)

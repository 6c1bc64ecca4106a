"""The comparison that `make gpu-check` runs at full size, on a small image on the CPU."""

import json
import logging

import pytest

from experiments.speed.rows import REFINED
from tests.experiments.speed.bench_inference import main

pytestmark = pytest.mark.slow


def test_it_times_as_many_boxes_as_are_asked_for(tmp_path, capsys):
    try:
        main(["--device", "cpu", "--size", "96", "64", "--rounds", "3", "--candidates", "40", "--out", f"{tmp_path}/a"])
    finally:
        logging.disable(logging.NOTSET)
    result = json.loads((tmp_path / "a").read_text())
    assert 36 <= result["candidates"] <= 44 < result["proposals"]
    assert 10 < result["detections"][REFINED] <= 44
    assert result["detections"]["faster_rcnn"] > 10
    rows = result["rows"]
    assert next(iter(rows)) == "faster_rcnn" and rows["faster_rcnn"]["ratio"]["median"] == 1
    assert rows[REFINED]["stages_ms"]["refinement"] > 0 and rows[REFINED]["ratio"]["median"] > 0.2
    assert f"| {REFINED} | " in capsys.readouterr().out

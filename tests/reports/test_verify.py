"""`python -m reports.verify`: its exit status, and what it says."""

import json
import re
from pathlib import Path

import pytest

from reports.reference import compare
from reports.results.files import read_json
from reports.verify import main


@pytest.fixture
def arguments(copy, tmp_path, monkeypatch):
    """The synthetic run, and a reference of which it is a part."""
    monkeypatch.setattr(compare, "FEWEST", 2)
    reference = tmp_path / "reference.json"
    arguments = [
        "--suite",
        str(copy / "shapes.yaml"),
        "--results",
        str(copy / "results/shapes"),
        "--reference",
        str(reference),
    ]
    assert main([*arguments, "--record"]) == 0
    return arguments


def test_a_run_fits_the_reference_it_made(arguments, capsys):
    assert main(arguments) == 0
    assert re.search(r"(\d+) of \1 figures of \d trainings per variant are within chance", capsys.readouterr().out)


def test_a_figure_outside_fails_and_is_named(arguments, copy, capsys):
    for path in (copy / "results/shapes").glob("evaluations/samp1000_lw5.0/seed*/val/rank.json"):
        data = read_json(path)
        data["metrics"]["AP90"] = 0.99
        path.write_text(json.dumps(data))
    assert main(arguments) == 1
    assert "samp1000_lw5.0, rank, AP90: " in capsys.readouterr().out


def test_a_refinement_that_stops_at_once_fails(arguments, copy, capsys):
    """Where boxes stop is hardly seen in AP."""
    for path in (copy / "results/shapes").glob("evaluations/samp1000_lw5.0/seed*/val/diagnostics.json"):
        data = read_json(path)
        steps = data["refinement"]["steps"]
        data["refinement"]["steps"] = [0, sum(steps), *[0] * (len(steps) - 2)]
        path.write_text(json.dumps(data))
    assert main(arguments) == 1
    assert "samp1000_lw5.0, diagnostics, boxes moved by every step: 0.0, reference " in capsys.readouterr().out


def test_a_run_is_recorded_once(arguments, capsys):
    text = Path(arguments[-1]).read_text()
    assert main([*arguments, "--record"]) == 0
    assert Path(arguments[-1]).read_text() == text
    assert re.search(r"reference.json: (\d) trainings of each variant, 10 are needed", capsys.readouterr().out)


def test_what_cannot_be_judged(arguments, copy, capsys):
    assert main([*arguments[:-1], str(copy / "nothing.json")]) == 2
    assert "nothing.json: no such file" in capsys.readouterr().err
    next((copy / "results/shapes").glob("evaluations/samp1000_lw5.0/seed*/val/diagnostics.json")).unlink()
    assert main(arguments) == 2
    assert "diagnostics.json: no such file; run the evaluation" in capsys.readouterr().err
    next((copy / "results/shapes").glob("evaluations/samp1000_lw5.0/seed*/val/rank.json")).unlink()
    assert main(arguments) == 2
    assert "rank.json: no such file; run the evaluation" in capsys.readouterr().err

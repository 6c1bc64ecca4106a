"""The exit status that a reproducer's CI goes by."""

import json

import pytest

from reports.verify import main

VERDICT = {
    "claim": "Refinement raises AP",
    "metric": "AP",
    "difference": -0.6,
    "interval": [-1.0, -0.2],
    "verdict": "contradicted",
    "stale": False,
}


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([{"verdict": "reproduced"}], 0),
        ([{"verdict": "inconclusive", "interval": None}], 0),
        ([{"verdict": "reproduced"}, {}], 1),
        ([{"verdict": "reproduced", "stale": True}], 2),
        ([{"stale": True}], 2),
    ],
)
def test_status_follows_the_verdicts(tmp_path, capsys, verdicts, status):
    (tmp_path / "verdicts.json").write_text(json.dumps([{**VERDICT, **changes} for changes in verdicts]))
    assert main(["--report", str(tmp_path)]) == status
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(verdicts)
    assert all("Refinement raises AP: AP −0.6" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "verdicts.json: no such file"),
        ("[]", "verdicts.json: no claim was judged"),
        ("[{", "verdicts.json: damaged"),
    ],
)
def test_without_verdicts_nothing_is_verified(tmp_path, capsys, text, message):
    if text is not None:
        (tmp_path / "verdicts.json").write_text(text)
    assert main(["--report", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err

import dataclasses

import pytest

from reports.tables.search import comparison_table, trials_table
from tests.reports.synthetic_sweep import BEST, DEFAULT, WINNER


def test_comparison_separates_training_and_inference(sweep):
    table = comparison_table(sweep, resamples=50)
    assert [row.label for row in table.rows] == [
        "Default",
        "Default, guide and λ of the winner",
        "Winner, guide and λ of the default",
        "Winner",
    ]
    first, last = table.rows[0], table.rows[-1]
    assert "difference" not in first.cells
    assert last.cells["difference"].value == pytest.approx(last.cells["AP"].value - first.cells["AP"].value)
    assert last.cells["difference"].sources[0].file == f"sweep/val/winner/{BEST}.json"


def test_comparison_in_one_setting_has_two_rows(sweep):
    same = dataclasses.replace(sweep, summary={**sweep.summary, "settings": {"winner": DEFAULT, "default": DEFAULT}})
    assert [row.label for row in comparison_table(same, resamples=0).rows] == ["Default", "Winner"]


def test_trials_table_shows_every_trial(sweep):
    rows = {row.label: row for row in trials_table(sweep).rows}
    assert list(rows) == ["0", "1", "2", "3", "4", "5", "6"]
    assert [label for label, row in rows.items() if row.emphasis] == [str(WINNER)]
    assert rows["0"].cells["from"].value == "`samp1000_lw5.0`"
    assert rows["1"].cells["RoIs"].value == "30 per IoU bin"
    assert rows["3"].cells["from"].value == "sampler"
    assert rows["6"].cells["from"].value == "retry of 5"
    assert rows["6"].cells["AP"].value is None

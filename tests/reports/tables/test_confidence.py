from dataclasses import replace

import pytest

from reports.results import diagnostics
from reports.results.published import load_published
from reports.tables.confidence import confidence_table, premise


def test_confidence_table_says_what_the_files_say(results):
    table = confidence_table(results, load_published())
    paper, *rows = table.rows
    assert paper.cells["class score, Pearson"].value == 0.217 and paper.cells["predicted IoU, Pearson"].value == 0.617
    assert [row.group for row in rows] == ["This run, before NMS"] * 5 + ["This run, after regular NMS"] * 5
    expected = diagnostics.correlations(results)
    for row in rows[:5]:
        own = expected[(expected["variant"] == row.label) & (expected["confidence"] == "predicted IoU")]
        cell = row.cells["predicted IoU, Pearson"]
        assert cell.value == pytest.approx(own["pearson"].mean())
        assert cell.half_width == pytest.approx(4.302653 * own["pearson"].std() / 3**0.5)
        assert [source.key for source in cell.sources] == ["confidence.predicted_iou.pearson"] * 3


def test_the_premise_is_said_to_fail_where_it_does(results):
    assert premise(results) == [
        "The paper's premise holds: the predicted IoU goes better with the true IoU than the class score does, for "
        "every variant (Pearson), before NMS and after."
    ]
    frame = results.diagnostics.copy()
    for place, row in frame[frame["variant"] == "samp1000_lw5.0_bce"].iterrows():
        data = row["data"]
        after = {**data["confidence_after_nms"], "class_score": {"pearson": 0.9}, "predicted_iou": {"pearson": 0.8}}
        frame.at[place, "data"] = {**data, "confidence_after_nms": after}
    [line] = premise(replace(results, diagnostics=frame))
    assert line.startswith("**The paper's premise fails after regular NMS:**")
    assert line.endswith("for `samp1000_lw5.0_bce` (0.90 against 0.80) (Pearson).")

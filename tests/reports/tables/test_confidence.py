import pytest

from reports.results import diagnostics
from reports.tables.confidence import confidence_table


def test_confidence_table_says_what_the_files_say(results):
    table = confidence_table(results)
    assert len(table.rows) == 5
    expected = diagnostics.correlations(results)
    for row in table.rows:
        own = expected[(expected["variant"] == row.label) & (expected["confidence"] == "predicted IoU")]
        cell = row.cells["predicted IoU, Pearson"]
        assert cell.value == pytest.approx(own["pearson"].mean())
        assert cell.half_width == pytest.approx(4.302653 * own["pearson"].std() / 3**0.5)
        assert [source.key for source in cell.sources] == ["confidence.predicted_iou.pearson"] * 3

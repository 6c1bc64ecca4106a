"""The published numbers, checked against themselves: differences they print, values they repeat."""

import pytest

from reports.errors import ReportError
from reports.results.published import load_published

PUBLISHED = load_published()
PAPER, REPRODUCTION = PUBLISHED["paper"], PUBLISHED["reproduction"]


@pytest.mark.parametrize(
    ("source", "table", "model"),
    [(PAPER, "main", "iounet"), (REPRODUCTION, "main", "iounet"), (REPRODUCTION, "bce", "iounet_bce")],
)
def test_improvement_rows_are_the_differences_of_the_rows_above(source, table, model):
    for column in source.table(table)["columns"]:
        difference = source.value(table, model, column) - source.value(table, "faster_rcnn", column)
        assert source.value(table, "improvement", column) == pytest.approx(difference, abs=1e-9)


def test_improved_table_adds_up():
    base = REPRODUCTION.value("improved", "faster_rcnn", "AP")
    for row in ("first_version", "bce", "step_size", "guide"):
        gain = REPRODUCTION.value("improved", row, "AP") - base
        assert REPRODUCTION.value("improved", row, "improvement") == pytest.approx(gain, abs=1e-9)


def test_values_that_the_publications_repeat_agree():
    ap = REPRODUCTION.value("main", "iounet", "AP")
    assert ap == REPRODUCTION.value("ablation", "refine", "AP") == REPRODUCTION.value("models", "samp1000_lw5.0", "AP")
    for variant in REPRODUCTION.table("lambda")["rows"]:
        assert REPRODUCTION.value("lambda", variant, "0.5") == REPRODUCTION.value("loss_weight", variant, "AP")
        assert REPRODUCTION.value("lambda", variant, "2") == REPRODUCTION.value("guide", variant, "official")
    for row in ("faster_rcnn", "branch_off", "nms", "refine"):
        fraction = REPRODUCTION.value("speed", row, "AP")
        assert 100 * fraction == pytest.approx(REPRODUCTION.value("ablation", row, "AP"))
    assert PAPER.value("main", "iounet", "AP") == PAPER.value("ablation", "refine", "AP")


def test_speed_is_one_over_latency_up_to_rounding():
    for row in REPRODUCTION.table("speed")["rows"].values():
        assert 1000 / row["latency_ms"] == pytest.approx(row["fps"], abs=0.05)


def test_known_discrepancy_is_kept():
    assert REPRODUCTION.value("training_ap", "samp1000_lw5.0", "12") == 39.2
    assert REPRODUCTION.value("main", "iounet", "AP") == 39.3
    assert any("39.3" in note and "39.2" in note for note in REPRODUCTION.data["discrepancies"])


def test_every_table_has_a_source_and_complete_rows():
    for source in PUBLISHED.values():
        for name, table in source.data["tables"].items():
            assert table["source"], name
            assert table["url"].startswith("https://"), name
            for row, values in table["rows"].items():
                missing = set(table["columns"]) - set(values)
                assert not missing or (name, row) == ("models", "improved"), (name, row, missing)


def test_unknown_value_is_named():
    with pytest.raises(ReportError, match=r"reports/published/paper.yaml: no value 'main/iounet/AP75'"):
        PAPER.lookup("main/iounet/AP75")
    with pytest.raises(ReportError, match=r"no table 'speed'"):
        PAPER.lookup("speed/nms/fps")

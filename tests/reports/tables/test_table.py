import pytest

from reports.results.source import Source
from reports.tables.table import MINUS, Cell, Row, Table, format_number, format_range


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (1.25, True, "+1.2"),
        (-0.04, True, "0.0"),
        (0.04, True, "0.0"),
        (-1.7, True, f"{MINUS}1.7"),
        (-1.7, False, f"{MINUS}1.7"),
        (74.06, False, "74.1"),
    ],
)
def test_numbers(value, signed, text):
    assert format_number(value, signed=signed) == text


def test_range():
    assert format_range(-1.31, 2.0) == f"{MINUS}1.3 to +2.0"
    assert format_range(-0.31, 2.0) == f"{MINUS}0.31 to +2.00", "two decimals near zero"


def test_csv_frame_keeps_precision_intervals_and_files():
    sources = (Source("a/off.json", "metrics.AP", "evaluation"), Source("a/off.json", "metrics.AP50", "evaluation"))
    cells = {"AP": Cell(71.23456789, 0.5, 3, sources=sources), "AP50": Cell(90.0, None, 3, sources=sources)}
    frame = Table("t", "T", "", ("AP", "AP50"), (Row("", "x", cells),)).frame()
    assert frame.to_dict("records") == [
        {
            "model": "x",
            "AP": 71.234568,
            "AP half width": 0.5,
            "AP50": 90.0,
            "seeds": 3,
            "stale": False,
            "files": "a/off.json",
        }
    ]

"""What holds of every page that is built beside the report."""

import re

import pandas as pd


def check_parts(report, out):
    """Every table and figure is written, with its data; the text, which is returned, has no holes."""
    text = (out / "README.md").read_text()
    for table in report.tables:
        assert len(pd.read_csv(out / "tables" / f"{table.key}.csv")) == len(table.rows)
    for figure in report.illustrations:
        assert all((out / "figures" / f"{figure.key}.{suffix}").stat().st_size > 5000 for suffix in ("png", "svg"))
        assert len(figure.alt) > 60
        assert figure.frame is not None and len(pd.read_csv(out / "figures" / f"{figure.key}.csv")) == len(figure.frame)
    for hole in ("nan", "None", "{", "}"):
        assert not re.search(rf"(?<![A-Za-z]){re.escape(hole)}(?![A-Za-z])", text), hole
    return text

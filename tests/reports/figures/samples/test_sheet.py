import dataclasses

import pytest

from reports.figures.samples.choose import load_sheet
from reports.figures.samples.sheet import draw
from reports.figures.style import save, styled
from reports.results.sides import BASELINE


@pytest.mark.parametrize("name", ["$$", "cost in $", r"$\frac$", "_under_", "a & <b>"])
def test_names_of_classes_are_drawn_as_they_are(results, tmp_path, name):
    sheet = load_sheet(results, {"Faster R-CNN": BASELINE}, failures=False)
    sheet = dataclasses.replace(sheet, category_names={**sheet.category_names, 1: name})
    with styled():
        figure = draw(sheet)
    (legend,) = figure.legends
    assert name in [text.get_text() for text in legend.get_texts()]
    save(figure, tmp_path / "sheet", dpi=30, svg=False)

import dataclasses

import numpy as np
import pytest

from reports.figures.samples.choose import load_sheet
from reports.figures.samples.sheet import draw, place_label
from reports.figures.style import save, styled


@pytest.mark.parametrize("name", ["$$", "cost in $", r"$\frac$", "_under_", "a & <b>"])
def test_names_of_classes_are_drawn_as_they_are(results, tmp_path, name):
    sheet = load_sheet(results)
    sheet = dataclasses.replace(sheet, category_names={**sheet.category_names, 1: name})
    with styled():
        figure = draw(sheet)
    (legend,) = figure.legends
    assert name in [text.get_text() for text in legend.get_texts()]
    save(figure, tmp_path / "sheet", dpi=30, svg=False)


def test_labels_on_an_upright_image_do_not_overlap():
    size, box, taken = (240, 480), np.array([20.0, 100.0, 100.0, 200.0]), []
    first, second = (place_label(box, "0.97", size, taken) for _ in range(2))
    width, height = taken[0][2:]
    # 480 pixels fill a panel of 2.15 inches: a point is 3.1 pixels
    assert width == pytest.approx(0.62 * 6 * 4 * 480 / 2.15 / 72)
    assert second[0] >= first[0] + width or abs(second[1] - first[1]) >= height

"""Boxes on an image, and where their labels stand."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from drawing.boxes import CROWDED, Box, draw_boxes, draw_image, place_label


def test_labels_on_an_upright_image_do_not_overlap():
    size, box, taken = (240, 480), (20.0, 100.0, 100.0, 200.0), []
    for _ in range(2):
        taken.append(place_label(box, "0.97", size, taken, inches=2.15))
    first, second = taken
    width, height = first[2:]
    # 480 pixels fill a panel of 2.15 inches: a point is 3.1 pixels
    assert width == pytest.approx(0.62 * 6 * 4 * 480 / 2.15 / 72)
    assert second[0] >= first[0] + width or abs(second[1] - first[1]) >= height


def drawn(count):
    """Axes with `count` boxes in one place."""
    axes = Figure().add_axes((0, 0, 1, 1))
    draw_image(axes, np.zeros((100, 100, 3), dtype=np.uint8))
    draw_boxes(axes, [Box((40.0, 40.0, 20.0, 20.0), "#FFFFFF", "a label")] * count, (100, 100), inches=5.0)
    return axes


def test_a_crowd_has_thin_boxes_and_no_label_on_another():
    few, many = drawn(CROWDED - 1), drawn(CROWDED)
    assert len(few.texts) == CROWDED - 1
    assert 1 < len(many.texts) < CROWDED
    assert len({text.get_position() for text in many.texts}) == len(many.texts)
    widths = [[patch.get_linewidth() for patch in axes.patches if isinstance(patch, Rectangle)] for axes in (few, many)]
    assert [len(own) for own in widths] == [CROWDED - 1, CROWDED]
    assert max(widths[1]) < min(widths[0])

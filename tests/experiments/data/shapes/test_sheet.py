"""The sheet of generated images."""

from experiments.data.shapes.sheet import contact_sheet
from tests.experiments.data.shapes.blocks import BLOCK, generated_data


def test_sheet():
    sheet = contact_sheet(generated_data(BLOCK), "val", rows=2, columns=4, zoom=2)
    assert sheet.shape == (2 * 192 + 6, 4 * 192 + 3 * 6, 3)
    assert (sheet[-192:, -192:] == 255).all()  # six images in the split: the last two cells are empty

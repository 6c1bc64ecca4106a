import pytest
from matplotlib.figure import Figure

from reports.figures.axes import log_axis, log_ticks, plain_tick, signed_tick


def test_log_ticks_are_round_and_within_the_limits():
    assert log_ticks(0.3, 12) == pytest.approx([0.5, 1, 2, 5, 10])
    assert log_ticks(3, 4) == []


@pytest.mark.parametrize("name", ["x", "y"])
def test_a_logarithmic_axis_is_as_wide_as_its_limits(name):
    axes = Figure().subplots()
    log_axis(axes, name, (1, 100))
    axis = getattr(axes, f"{name}axis")
    assert (getattr(axes, f"get_{name}scale")(), getattr(axes, f"get_{name}lim")()) == ("log", (1 / 1.3, 130))
    assert [text.get_text() for text in axis.get_ticklabels()] == ["1", "2", "5", "10", "20", "50", "100"]


def test_ticks_are_plain_numbers():
    assert [plain_tick(value, 0) for value in (0.001, 1.0, 20000.0)] == ["0.001", "1", "20000"]
    assert [signed_tick(value, 0) for value in (-0.5, 0.0, 2.0)] == ["\N{MINUS SIGN}0.5", "0", "+2"]

"""Legends: names as they are, and the line that stands for a class."""

from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from drawing.boxes import outline


def plain_texts(legend: Legend) -> None:
    """Takes a legend's texts as they are: names may have `$`, between which matplotlib would read a formula."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def class_line(colour: str) -> Line2D:
    """What stands for the boxes of a class."""
    return Line2D([], [], color=colour, linewidth=2.2, path_effects=outline(2.2))

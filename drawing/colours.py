"""Okabe-Ito colours: told apart by colour-blind readers too (Okabe and Ito, Color Universal Design, 2008)."""

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
OF_CLASSES = (ORANGE, SKY, GREEN, YELLOW, PURPLE, VERMILION, BLUE, "#FFFFFF")  # on a photograph


def of_class(index: int) -> str:
    """The colour of a class; they repeat where there are more classes than colours."""
    return OF_CLASSES[index % len(OF_CLASSES)]

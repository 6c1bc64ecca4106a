"""What a figure is, and what several captions say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from reports.errors import NothingToShow

NO_AP = "AP of this run is 0 throughout"  # why a figure of it is left out


@dataclass(frozen=True)
class Illustration:
    """One figure of the report.

    Attributes:
        key: file name of its PNG, SVG and CSV.
        alt: what a reader who cannot see it should know.
        frame: the data drawn, written beside it; None for the sample sheet.
        draw: makes the figure.
        raster: it is made of images, so no SVG is written.
    """

    key: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]
    frame: pd.DataFrame | None = None
    raster: bool = False


def require_some(values: ArrayLike, why: str) -> None:
    """Refuses to draw what is 0 or undefined throughout. Raises `NothingToShow` with the reason."""
    if not np.nan_to_num(np.asarray(values, dtype=float)).any():
        raise NothingToShow(why)


def seeds_note(seeds: Sequence[int]) -> str:
    """What thin and thick lines are."""
    if len(seeds) == 1:
        return f"One seed ({seeds[0]})."
    return f"Thin lines are the {len(seeds)} seeds, thick lines their mean."


def whiskers_note(seeds: Sequence[int]) -> str:
    """What whiskers are."""
    if len(seeds) == 1:
        return "One training of each variant: no intervals."
    return f"Whiskers are 95 % intervals over {len(seeds)} trainings; those of differences cover the images, too."

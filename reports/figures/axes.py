"""What several figures draw alike: lines over seeds, whiskers, rings, legends, ticks, logarithmic axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from drawing.legend import plain_texts
from reports.figures.style import DENSITY, MARKERS

SHADES = LinearSegmentedColormap.from_list("density", DENSITY)  # few to many, low to high


def seeds_and_mean(
    axes: Axes,
    data: pd.DataFrame,
    *,
    x: str,
    y: str,
    colour: Any,
    thin: float = 0.7,
    faint: float = 0.45,
    **style: Any,
) -> None:
    """Seeds as thin lines, their mean as a thick one.

    Args:
        axes: where to draw.
        data: has columns `x`, `y` and `seed`.
        x, y: names of columns.
        colour: of all lines.
        thin, faint: width and opacity of the seeds' lines.
        style: of the mean's line.
    """
    if data["seed"].nunique() > 1:
        for _, run in data.groupby("seed"):
            axes.plot(run[x], run[y], color=colour, linewidth=thin, alpha=faint)
    mean = data.groupby(x)[y].mean()
    axes.plot(mean.index, mean.to_numpy(), color=colour, linewidth=1.8, **style)


def lines_by_variant(axes: Axes, data: pd.DataFrame, *, x: str, palette: Mapping[str, str], markers: bool) -> None:
    """`seeds_and_mean` of the column `value` for each variant of the palette."""
    for index, (variant, colour) in enumerate(palette.items()):
        own = data[data["variant"] == variant]
        if not own.empty:
            seeds_and_mean(axes, own, x=x, y="value", colour=colour, **_marker(index, markers))


def _marker(index: int, markers: bool) -> dict[str, Any]:
    return {"marker": MARKERS[index % len(MARKERS)] if markers else "", "markersize": 4.5}


def half_widths(column: pd.Series) -> pd.Series | None:
    """Half of the intervals' widths, as `Axes.errorbar` takes them; None where there are no intervals."""
    half = column.astype(float)
    return None if half.isna().all() else half


def ring(
    axes: Axes, x: Any, y: Any, *, colour: Any, size: float = 13.0, width: float = 1.3, zorder: float = 4.0
) -> None:
    """Rings around points that stand out."""
    axes.plot(x, y, linestyle="", marker="o", markersize=size, markerfacecolor="none", markeredgecolor=colour,
              markeredgewidth=width, zorder=zorder)  # fmt: skip


def legend_below(figure: Figure, handles: Sequence[Artist], columns: int) -> None:
    """One legend for all panels."""
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, handlelength=1.8, columnspacing=1.6
    )
    plain_texts(legend)


def variant_legend(figure: Figure, palette: Mapping[str, str], *, markers: bool) -> None:
    """The variants' colours below the panels."""
    handles = [
        Line2D([], [], color=colour, linewidth=1.8, label=variant, **_marker(index, markers))
        for index, (variant, colour) in enumerate(palette.items())
    ]
    legend_below(figure, handles, min(3, len(handles)))


def colour_bar(figure: Figure, image: ScalarMappable, axes: Sequence[Axes], label: str) -> None:
    """What the shades of all panels mean."""
    figure.colorbar(image, ax=axes, label=label, pad=0.01, aspect=30).outline.set_visible(False)


def plain_tick(value: float, _: float) -> str:
    """A number on an axis, never as a power of ten."""
    return f"{value:g}"


def signed_tick(value: float, _: float) -> str:
    """A difference on an axis, with its sign."""
    return f"{value:+g}".replace("-", "\u2212") if value else "0"


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade between the limits."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    return [float(tick) for tick in np.outer(decades, [1, 2, 5]).ravel() if low <= tick <= high]


def log_axis(axes: Axes, name: Literal["x", "y"], limits: Sequence[float]) -> None:
    """Makes an axis logarithmic, and as wide as the limits with a margin."""
    low, high = map(float, limits)
    axes.set(**{f"{name}scale": "log"})
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(plain_tick)
    axes.set(**{f"{name}lim": (low / 1.3, high * 1.3)})

"""How figures look: Okabe-Ito colours (safe for colour-blind readers), opaque white ground, files that do not vary."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from drawing.colours import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, YELLOW
from drawing.fonts import write_in_installed_fonts

INK, GREY, FAINT = "#222222", "#6B6B6B", "#D9D9D9"
SEQUENCE = ("#B9CFE4", BLUE, "#3B1F6B", "#D55E00")  # for an ordered series
DENSITY = ("#E3EEF6", "#8FBCDD", BLUE, "#00263D")  # few to many

VARIANT_COLOURS = {
    "faster_rcnn": INK,
    "samp1000_lw5.0": BLUE,
    "samp1000_lw5.0_bce": VERMILION,
    "max1000_lw5.0_periou30": GREEN,
    "max1000_lw5.0_periou50": ORANGE,
    "max1000_lw10.0_periou50": PURPLE,
}
SPARE_COLOURS = (SKY, GREEN, ORANGE, PURPLE, YELLOW)
MARKERS = ("o", "s", "^", "D", "v", "P")

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.unicode_minus": True,
    "svg.hashsalt": "iounet-report",
    "svg.fonttype": "path",
    "path.simplify": True,
}


def colours(variants: Sequence[str]) -> dict[str, str]:
    """A colour for each variant: published ones have their own, the others what is left."""
    own = {name: VARIANT_COLOURS[name] for name in variants if name in VARIANT_COLOURS}
    spare = itertools.cycle([colour for colour in SPARE_COLOURS if colour not in own.values()])
    return {name: own[name] if name in own else next(spare) for name in variants}


def palette_of(data: pd.DataFrame, variants: Sequence[str]) -> dict[str, str]:
    """The colours of those of the suite's variants that a frame has: the same in every figure."""
    return {name: colour for name, colour in colours(variants).items() if (data["variant"] == name).any()}


@contextmanager
def styled() -> Iterator[None]:
    """The report's style, for the figures drawn inside."""
    settings: dict[Any, Any] = {**dict(mpl.rcParamsDefault), **RC, "backend": "agg"}
    with mpl.rc_context(settings):
        yield


def panels(columns: int, width: float = 9.0, height: float = 3.5) -> tuple[Figure, list[Axes]]:
    """A figure with a row of panels."""
    figure = Figure(
        figsize=(width, height),
        layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.07, wspace=0.04, rect=(0.008, 0.02, 0.984, 0.96)),
    )
    axes = figure.subplots(1, columns, squeeze=False)[0]
    return figure, list(axes)


def save(figure: Figure, stem: Path, dpi: int, svg: bool = True) -> list[Path]:
    """Write `stem`.png and, if asked for, `stem`.svg, without timestamps: the same data give the same bytes."""
    metadata: dict[str, dict[str, None]] = {"png": {"Software": None}}
    if svg:
        metadata["svg"] = {"Date": None, "Creator": None}
    written = []
    for suffix, own in metadata.items():
        path = stem.with_name(f"{stem.name}.{suffix}")
        with styled():
            write_in_installed_fonts(figure, partial(figure.savefig, path, dpi=dpi, metadata=own))
        written.append(path)
    return written

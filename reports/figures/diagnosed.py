"""What the figures of an IoU-Net's diagnostics share: whose boxes they show, and numbers that may be undefined.

A box is *positive* when its IoU with the nearest object of its class, its *true* IoU, is at least 0.5. IoUs and their
changes are shown × 100.
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import ArrayLike

from reports.figures.figure import require_some
from reports.results.collect import Results
from reports.results.diagnostics import rows_of, shown_variant
from reports.results.sides import POINTS
from reports.tables.table import format_number


def shown_rows(results: Results) -> list[dict[str, Any]]:
    """The diagnostics of the variant that is looked at closely, one row per seed."""
    return rows_of(results, shown_variant(results))


def shown_seeds(results: Results) -> list[int]:
    """The seeds of that variant that have diagnostics."""
    return [row["seed"] for row in shown_rows(results)]


def whose(results: Results) -> str:
    """Whose boxes a figure shows."""
    rows = shown_rows(results)
    seeds = ", ".join(str(row["seed"]) for row in rows)
    stale = " †" if any(row["stale"] for row in rows) else ""
    return f"`{shown_variant(results)}`, seed{'s' if len(rows) > 1 else ''} {seeds}{stale}"


def require_boxes(results: Results, boxes: ArrayLike) -> None:
    """Refuses to draw where there is no positive box. Raises `NothingToShow`."""
    require_some(boxes, f"`{shown_variant(results)}` has no box whose IoU with an object of its class is 0.5 or more")


def change(value: float | None, start: float | None) -> float | None:
    """A change of IoU × 100; None where one of the two is undefined."""
    return None if value is None or start is None else POINTS * (value - start)


def number_text(value: float, signed: bool = False) -> str:
    """A number, or that it is undefined."""
    return "undefined" if math.isnan(value) else format_number(value, 2, signed)

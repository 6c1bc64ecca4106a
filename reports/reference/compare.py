"""Whether a run's figures are those of the reference's distribution: a check of the code, not of the paper's claims."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from reports.errors import ReportError
from reports.reference.trainings import FEWEST, MAKE_ONE, Trainings, check_recipe, figures

FALSE_ALARM = 0.01  # of a whole run of unchanged code
LEAST_SPREAD = 0.02  # standard deviation in points that a figure has at least: what another rounding may move


@dataclass(frozen=True)
class Comparison:
    """One figure of a run beside the reference's, in points.

    Attributes:
        setting: `off` or `diagnostics`: the metric itself; any other: what it adds to `off` on the same checkpoint.
        tolerance: the largest difference of the two means that chance explains.
    """

    variant: str
    setting: str
    metric: str
    run: float
    reference: float
    tolerance: float

    @property
    def fits(self) -> bool:
        """Whether the run's mean lies within the tolerance; an undefined one never does."""
        return abs(self.run - self.reference) <= self.tolerance


def compare(run: Trainings, reference: Trainings) -> list[Comparison]:
    """Compare every figure of a run with the reference.

    Both are of the same images, so only trainings differ: the tolerance is that of a t test with the reference's own
    variance over trainings, and the chance of a false alarm in the whole run is at most `FALSE_ALARM` (Bonferroni).

    Raises:
        ReportError: the reference has too few trainings, or the run is of another recipe or lacks a figure of it.
    """
    check_recipe(run, reference)
    if reference.number < FEWEST:
        raise ReportError(f"the reference has {reference.number} trainings of a variant so far; {MAKE_ONE}")
    own, known = figures(run), figures(reference)
    tail = FALSE_ALARM / (2 * len(known))
    rows = []
    for key, values in known.items():
        spread = max(float(values.std(ddof=1)), LEAST_SPREAD)
        tolerance = stats.t.isf(tail, len(values) - 1) * spread * math.sqrt(1 / len(values) + 1 / len(own[key]))
        rows.append(Comparison(*key, float(own[key].mean()), float(values.mean()), float(tolerance)))
    return rows

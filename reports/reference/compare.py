"""Whether a run's figures are those of the reference's distribution: a check of the code, not of the paper's claims."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from reports.errors import ReportError
from reports.reference.trainings import Trainings, figures
from reports.results.files import SHORT

FALSE_ALARM = 0.01  # of a whole run of unchanged code
LEAST_SPREAD = 0.02  # standard deviation in points that a figure has at least: what another rounding may move


@dataclass(frozen=True)
class Comparison:
    """One figure of a run beside the reference's, in points.

    Attributes:
        setting: `off`: the metric itself; any other: what it adds to `off` on the same checkpoint.
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
        ReportError: the run is of another recipe than the reference, or lacks a figure of it.
    """
    _check_recipe(run, reference)
    own, known = figures(run), figures(reference)
    missing = sorted(set(known) - set(own))
    if missing:
        raise ReportError(f"the run lacks {len(missing)} figures of the reference, the first: {' '.join(missing[0])}")
    tail = FALSE_ALARM / (2 * len(known))
    rows = []
    for key, values in known.items():
        spread = max(float(values.std(ddof=1)), LEAST_SPREAD)
        tolerance = stats.t.isf(tail, len(values) - 1) * spread * math.sqrt(1 / len(values) + 1 / len(own[key]))
        rows.append(Comparison(*key, float(own[key].mean()), float(values.mean()), float(tolerance)))
    return rows


def _check_recipe(run: Trainings, reference: Trainings) -> None:
    remedy = "the reference judges its own recipe only: make one of this recipe (CONTRIBUTING.md), or undo the change"
    if run.suite != reference.suite:
        raise ReportError(f"the run is of suite {run.suite!r}, the reference of {reference.suite!r}")
    found, expected = run.recipe.dataset_fingerprint, reference.recipe.dataset_fingerprint
    if found != expected:
        raise ReportError(
            f"the run's images (fingerprint {found[:SHORT]}…) are not the reference's ({expected[:SHORT]}…); {remedy}"
        )
    for variant, config in reference.recipe.configs.items():
        if run.recipe.configs.get(variant) != config:
            raise ReportError(
                f"{variant}: the run's config ({run.recipe.configs.get(variant)}) is not the reference's ({config}); "
                f"{remedy}"
            )

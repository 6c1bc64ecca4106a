"""What the intervals of differences cover, by simulation: `python -m reports.coverage`.

Trainings are drawn from the model of `reports.statistics` with the spreads that were measured on the suite `shapes`,
and every difference's interval is compared with the truth. The estimator is the report's own.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.statistics import Term, estimate
from suite.utf8 import ensure_utf8

Floats = NDArray[np.float64]
VARIANTS = 6  # of the suite
SEEDS = (2, 3, 5)
SPREADS = {"equal": (1.0,) * VARIANTS, "one 2 ×": (2.0, *(1.0,) * 5), "two 2 ×": (2.0, 2.0, *(1.0,) * 4)}


@dataclass(frozen=True)
class Scenario:
    """A difference, and the standard deviations behind it in points with 2000 images.

    Attributes:
        trainings: between trainings, what the images do to a training alone included.
        images: of what the images do to all trainings alike.
        of_two: whether it is of two variants, or of two settings on one checkpoint.
    """

    name: str
    trainings: float
    images: float
    of_two: bool


# Measured with 500 images and halved where images are behind it; AP90 as the half widths then seen imply.
SCENARIOS = (
    Scenario("IoU-guided NMS, AP", 0.15, 0.06, of_two=False),
    Scenario("refinement, AP", 0.13, 0.04, of_two=False),
    Scenario("two trainings, AP", 0.15, 0.02, of_two=True),
    Scenario("two trainings, AP90", 0.60, 0.20, of_two=True),
)


@dataclass(frozen=True)
class Coverage:
    """What intervals of one scenario covered.

    Attributes:
        mean: share of the intervals that hold the truth, over all variants (or pairs of them).
        worst: of the variant or pair that is covered least.
        half_width, old_half_width: means, of the report's interval and of that of earlier reports.
        old: `mean` of the latter.
    """

    scenario: Scenario
    trainings: int
    spreads: str
    mean: float
    worst: float
    half_width: float
    old: float
    old_half_width: float


def simulate(scenario: Scenario, trainings: int, spreads: str, repeats: int, seed: int = 0) -> Coverage:
    """Draw runs of a suite and form the intervals of all their differences of one kind."""
    rng = np.random.default_rng([seed, trainings, len(spreads)])
    scales = scenario.trainings * np.array(SPREADS[spreads])
    compared = list(combinations(range(VARIANTS), 2)) if scenario.of_two else [(index,) for index in range(VARIANTS)]
    hits, widths = np.zeros((2, len(compared))), np.zeros(2)
    common = scenario.images * np.array([-1.0, 1.0])  # resampled image sets: their covariance is exact
    for _ in range(repeats):
        values = [rng.normal(0.0, scale, trainings) for scale in scales]
        error = rng.normal(0.0, scenario.images)
        for place, chosen in enumerate(compared):
            terms: list[Term] = []
            for v, sign in zip(chosen, (1.0, -1.0), strict=False):
                peers = [values[u] for u in range(VARIANTS) if u != v]
                shift, spread = (0.0, 0.0) if terms else (error, common)  # the images' error is the difference's, once
                terms.append(Term(values[v] + shift, np.zeros((trainings, 2)) + spread, sign, peers))
            interval = estimate(terms)
            own = interval.half_width or 0.0
            before = _old_half_width(terms, scenario.images)
            for row, half in enumerate((own, before)):
                hits[row, place] += abs(interval.mean) <= half
                widths[row] += half
    shares, count = hits / repeats, repeats * len(compared)
    return Coverage(
        scenario,
        trainings,
        spreads,
        mean=float(shares[0].mean()),
        worst=float(shares[0].min()),
        half_width=float(widths[0] / count),
        old=float(shares[1].mean()),
        old_half_width=float(widths[1] / count),
    )


def _old_half_width(terms: Sequence[Term], images: float) -> float:
    """t over seeds of differences paired by seed, in quadrature with the bootstrap of their mean, as once reported."""
    paired = sum(term.weight * term.values for term in terms)
    n = len(terms[0].values)
    seeds = float(stats.t.ppf(0.975, n - 1)) * float(np.std(paired, ddof=1)) / math.sqrt(n)
    # The bootstrap of a mean over trainings also holds what the images do to each of them alone.
    alone = 0.5 * float(np.std(paired, ddof=1)) / math.sqrt(n)
    return math.hypot(seeds, 1.96 * math.hypot(images, alone))


def table(rows: Iterator[Coverage] | Sequence[Coverage]) -> Iterator[str]:
    """Markdown, line by line."""
    yield "| difference | trainings | spreads | coverage | worst case | half width | before: coverage | half width |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row.scenario.name} | {row.trainings} | {row.spreads} | {row.mean:.1%} | {row.worst:.1%} "
            f"| ± {row.half_width:.2f} | {row.old:.1%} | ± {row.old_half_width:.2f} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m reports.coverage", description="What the intervals cover.")
    parser.add_argument("--repeats", type=int, default=2000, help="runs of a suite that are drawn")
    options = parser.parse_args(arguments)
    rows = (
        simulate(scenario, trainings, spreads, options.repeats)
        for scenario in SCENARIOS
        for trainings in SEEDS
        for spreads in SPREADS
    )
    for line in table(rows):
        print(line, flush=True)


if __name__ == "__main__":
    ensure_utf8()
    main()

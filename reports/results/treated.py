"""What was done with the boxes of any detector: detectors, treatments, and the names that tables give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import pandas as pd

from reports.results.collect import Results
from reports.results.sides import Compared
from reports.results.source import Source
from suite.settings import StepSize
from suite.treatments import GUIDED, NUM_STEPS, PER_CLASS, PLAIN, REFINEMENT, REGRESSION, Treatment

BASELINE_LABEL = "Faster R-CNN"
GUIDED_NMS = "guided NMS"
STAGES = ("detect", "maps", "predict", "guided_nms", "refine")  # that are timed


@dataclass(frozen=True)
class TreatedSide(Compared):
    """A detector whose boxes were treated in one way; `variant` is the detector."""

    variant: str
    treatment: Treatment

    @property
    def label(self) -> str:
        """Detector and treatment."""
        return f"{self.variant}, {self.treatment.name}"

    def setting(self, results: Results) -> str:
        """The treatment's name."""
        results.suite.require(self.variant)
        return self.treatment.name

    def trainings(self, results: Results) -> str:
        """The refiners': a seed has the same for all detectors."""
        return "refiners"


@dataclass(frozen=True)
class Treated:
    """The detectors, and what was done with their boxes.

    Attributes:
        labels: what tables call each detector; the baseline first.
        steps: λ of the refinement, the paper's first.
        iterated: the detectors whose boxes were refined once to `NUM_STEPS` times.
        regressed: those whose own box head moved them as often.
        indices: one row per detector and seed: `source`, `stale`, and `data`, the parsed evaluation.json.
    """

    labels: Mapping[str, str]
    steps: tuple[StepSize, ...]
    iterated: tuple[str, ...]
    regressed: tuple[str, ...]
    indices: pd.DataFrame = field(repr=False)

    @property
    def baseline(self) -> str:
        """What stands for Faster R-CNN."""
        return next(iter(self.labels))

    def refined(self, step: StepSize | None = None, *, head: str = PER_CLASS, rescored: bool = False) -> Treatment:
        """Guided NMS and refinement, with the paper's λ unless told otherwise."""
        step = step or self.steps[0]
        return replace(guided(head), moved_by=REFINEMENT, num_steps=NUM_STEPS, step_size=step, rescored=rescored)

    @property
    def rows(self) -> dict[str, Treatment]:
        """What every detector is given, by its label: its own NMS first."""
        rows = {"own NMS": PLAIN, GUIDED_NMS: guided()}
        for step, rescored in product(self.steps, (False, True)):
            label = f"+ refinement, λ = {step.published:g}{', scores × IoU' if rescored else ''}"
            rows[label] = self.refined(step, rescored=rescored)
        return rows

    def movers(self, detector: str) -> dict[str, list[Treatment]]:
        """What moved the boxes of a detector again and again, with its treatments from 0 to `NUM_STEPS` iterations."""
        asked = {"box regression": Treatment(moved_by=REGRESSION)} if detector in self.regressed else {}
        if detector in self.iterated:
            for step in self.steps:
                refined = Treatment(head=PER_CLASS, moved_by=REFINEMENT, step_size=step)
                asked[f"refinement, λ = {step.published:g}"] = refined
        counts = range(1, NUM_STEPS + 1)
        return {name: [PLAIN, *(replace(own, num_steps=n) for n in counts)] for name, own in asked.items()}

    def measured(self, detector: str) -> Sequence[Mapping[Any, Any]]:
        """The rows of `indices` of a detector."""
        return self.indices[self.indices["variant"] == detector].to_dict("records")

    def sources(self, detector: str, key: str) -> tuple[Source, ...]:
        """Where a key of its evaluation.json was read."""
        return tuple(Source.of_evaluation(row, key) for row in self.measured(detector))


def guided(head: str = PER_CLASS) -> Treatment:
    """Guided NMS by a refiner's IoU."""
    return Treatment(GUIDED, head=head)

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
from suite.treatments import PER_CLASS, PLAIN, REGRESSED, Treatment, again, guided, refined, refined_alone

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
        return replace(refined(step or self.steps[0], head), rescored=rescored)

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
        asked = {"box regression": REGRESSED} if detector in self.regressed else {}
        if detector in self.iterated:
            asked |= {f"refinement, λ = {step.published:g}": refined_alone(step) for step in self.steps}
        return {name: [PLAIN, *again(own)] for name, own in asked.items()}

    def measured(self, detector: str) -> Sequence[Mapping[Any, Any]]:
        """The rows of `indices` of a detector."""
        return self.indices[self.indices["variant"] == detector].to_dict("records")

    def sources(self, detector: str, key: str) -> tuple[Source, ...]:
        """Where a key of its evaluation.json was read."""
        return tuple(Source.of_evaluation(row, key) for row in self.measured(detector))

"""What is compared: a variant under an inference setting, and the comparisons that the publications report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.results.collect import Results
from reports.results.source import Source
from suite import roles
from suite.errors import NotInSuite

POINTS = 100.0  # the papers print AP × 100
THIS_RUN = "This run"  # what our own results are called beside the published ones
IOUNET, BCE = roles.FIRST, roles.BCE  # published names, as are those of all sides
PAPER_STEP, IMPROVED_STEP = 0.5, 2.0  # published λ: of the paper, and of the improved version


class Compared(ABC):
    """One side of a comparison, one row of a table: the evaluations of a variant under one name.

    Attributes:
        variant: a published name, or one of the suite's own; `own` is the suite's variant that it stands for.
    """

    variant: str

    @property
    @abstractmethod
    def label(self) -> str:
        """What it is called."""

    @abstractmethod
    def setting(self, results: Results) -> str:
        """Name of the setting in `Results.evaluations`. Raises `NotInSuite`."""

    def own(self, results: Results) -> str:
        """The suite's variant. Raises `NotInSuite`."""
        return results.suite.standing_for(self.variant)

    def trainings(self, results: Results) -> str:
        """Whose trainings its values depend on: sides with the same answer are paired by seed."""
        return self.own(results)

    def evaluations(self, results: Results) -> dict[int, Mapping[str, Any]]:
        """The row of `Results.evaluations` for each seed of the suite.

        Raises:
            NotInSuite: the suite lacks the variant or the setting.
            MissingResult: an evaluation file does not exist.
        """
        setting = self.setting(results)
        return {seed: results.evaluation(self.own(results), seed, setting) for seed in results.suite.seeds}

    def per_seed(self, results: Results, metric: str) -> dict[int, float]:
        """A metric in points for each seed of the suite."""
        return {seed: POINTS * float(row[metric]) for seed, row in self.evaluations(results).items()}

    def sources(self, results: Results, metric: str) -> tuple[Source, ...]:
        """The evaluation files behind `per_seed`."""
        return tuple(Source.of_evaluation(row, f"metrics.{metric}") for row in self.evaluations(results).values())

    def is_stale(self, results: Results) -> bool:
        """Whether any seed's evaluation is out of date."""
        return any(row["stale"] for row in self.evaluations(results).values())


@dataclass(frozen=True)
class Side(Compared):
    """A variant under an inference setting.

    Attributes:
        guide: NMS guide, or None when the IoU branch is off.
        step_size: published λ, or None without refinement.
        part: what alone of the refinement is done (`suite.settings.PARTS`); None = all of it.
        pooling: what takes the place of the RoI pooling that it was trained with (`reports.results.pooling`).
    """

    variant: str
    guide: str | None = None
    step_size: float | None = None
    part: str | None = None
    pooling: str | None = None

    @property
    def label(self) -> str:
        """Variant and setting, in published units."""
        parts = [self.variant, *([self.guide] if self.guide else [])]
        if self.step_size:
            parts.append(f"λ = {self.step_size:g}")
        return ", ".join([*parts, *([f"{self.part} only"] if self.part else [])])

    def setting(self, results: Results) -> str:
        """Name of the setting in this suite.

        Raises:
            NotInSuite: the suite lacks the variant or the setting.
        """
        results.suite.require(self.variant)
        return swapped_name(results.suite.setting(self.guide, self.step_size, self.part).name, self.pooling)

    def is_in(self, results: Results) -> bool:
        """Whether the suite has the variant and the setting."""
        try:
            self.setting(results)
        except NotInSuite:
            return False
        return True


def swapped_name(setting: str, pooling: str | None) -> str:
    """What frames call a setting where another RoI pooling took the place of the checkpoint's own."""
    return setting if pooling is None else f"{setting}@{pooling}"


BASELINE = Side(roles.FASTER_RCNN)
FIRST_VERSION = Side(IOUNET, "rank", PAPER_STEP)
ABLATION = (
    ("faster_rcnn", "Faster R-CNN", BASELINE),
    ("branch_off", "IoUNet_RCNN (branch off)", Side(IOUNET)),
    ("nms", "+ IoU-guided NMS", Side(IOUNET, "rank")),
    ("refine", "+ Refine", FIRST_VERSION),
)
PARTS = (
    ("movement", "+ Refine, boxes only", Side(IOUNET, "rank", PAPER_STEP, "movement")),
    ("score", "+ Refine, scores only", Side(IOUNET, "rank", PAPER_STEP, "score")),
)
IMPROVED = (
    ("faster_rcnn", "Faster R-CNN", BASELINE),
    ("first_version", "IoU-Net (first version)", FIRST_VERSION),
    ("bce", "+ BCE loss", Side(BCE, "rank", PAPER_STEP)),
    ("step_size", "+ λ = 2", Side(BCE, "rank", IMPROVED_STEP)),
    ("guide", "+ NMS by IoU × class score", Side(BCE, "weight", IMPROVED_STEP)),
)


def headline(results: Results, variant: str) -> Side:
    """What stands for a variant: the branch off for a baseline, the paper's inference for an IoU-Net if it has it."""
    paper = Side(variant, "rank", PAPER_STEP)
    has_it = results.suite.variants[variant].has_iou_branch and paper.is_in(results)
    return paper if has_it else Side(variant)

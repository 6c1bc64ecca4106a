"""The step size λ in both its units, and inference settings.

A refinement step moves a box by about λ pixels of the network's input, so a suite with smaller boxes needs a smaller λ.
A *published* λ is the paper's or the published reproduction's; the *actual* one, what refinement runs with, is the
published one times the suite's `scale.step_size`. YAML files, sweeps and tables speak of published values; file names
and the contents of results of actual ones.
"""

from __future__ import annotations

from dataclasses import dataclass

GUIDES = ("rank", "weight", "none")  # what ranks boxes in NMS: those of `iounet.core.nms.iou_guided_nms`
PARTS = ("movement", "score")  # of a refinement: the boxes it moves, and the scores it multiplies with their new IoUs
DIGITS = 6  # significant ones of an actual λ: those of the file name, so that a name stands for one value


@dataclass(frozen=True, order=True)
class StepSize:
    """A refinement step size λ.

    Attributes:
        published: in the unit of the publications.
        actual: as it is used, in pixels of the network's input.
    """

    published: float
    actual: float

    @staticmethod
    def of_published(published: float, factor: float) -> StepSize:
        """The λ with this published value in a suite whose `scale.step_size` is `factor`."""
        return StepSize(float(published), _rounded(published * factor))

    @staticmethod
    def of_actual(actual: float, factor: float) -> StepSize:
        """The λ with this actual value in a suite whose `scale.step_size` is `factor`."""
        return StepSize(_rounded(actual / factor, DIGITS + 2), _rounded(actual))

    @property
    def is_scaled(self) -> bool:
        """Whether the two values differ."""
        return self.published != self.actual

    def __str__(self) -> str:
        """`λ = 2`, or `λ = 2 (here 0.6)` where the suite scales it."""
        return f"λ = {self.published:g}" + (f" (here {self.actual:g})" if self.is_scaled else "")


def _rounded(value: float, digits: int = DIGITS) -> float:
    return float(f"{value:.{digits}g}")


@dataclass(frozen=True)
class Setting:
    """One way to run inference on a checkpoint.

    Attributes:
        guide: one of `GUIDES`; None = the IoU branch is off.
        step_size: of the refinement; None = no box is moved.
        num_steps: largest number of refinement steps; 0 without a step size.
        part: one of `PARTS`, if only that part of the refinement is done; the score alone has no step size.
    """

    guide: str | None = None
    step_size: StepSize | None = None
    num_steps: int = 0
    part: str | None = None

    @property
    def name(self) -> str:
        """The stem of the setting's files: see `setting_name`."""
        return setting_name(self.guide, None if self.step_size is None else self.step_size.actual, self.part)


def setting_name(guide: str | None, actual: float | None = None, part: str | None = None) -> str:
    """`off`, `<guide>` or `<guide>_refine<actual λ>`, and `_<part>` if only a part of the refinement is done."""
    if guide is None:
        return "off"
    moved = "" if actual is None else f"_refine{actual:g}"
    return guide + moved + ("" if part is None else f"_{part}")

"""What is done with a detector's boxes: an NMS, then movement and new scores, by a refiner or by the detector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from suite.settings import StepSize

HARD, SOFT_LINEAR, SOFT_GAUSSIAN, GUIDED = "hard", "soft_linear", "soft_gaussian", "guided"  # kinds of NMS
NMS = (HARD, SOFT_LINEAR, SOFT_GAUSSIAN, GUIDED)
PER_CLASS, CLASS_AGNOSTIC = "per_class", "class_agnostic"  # IoU heads of refiners
HEADS = (PER_CLASS, CLASS_AGNOSTIC)
BASELINE_LABEL = "Faster R-CNN"  # the detector that stands for the paper's baseline
REFINEMENT, REGRESSION = "refinement", "regression"  # what moves boxes: the refiner, or the detector's own box head
SIGMA = 0.5  # of Soft-NMS with Gaussian weights (arXiv 1704.04503)
THRESHOLD = 0.5  # of NMS: the detectors' own
MOST = 100  # detections of an image: the detectors' own, and COCO's limit
THRESHOLDS = (0.3, 0.4, THRESHOLD, 0.6, 0.7)  # that NMS of each kind is compared at
STEPS = (0.5, 2.0)  # published λ: of the paper, and of the published reproduction's improvement
NUM_STEPS = 5


@dataclass(frozen=True)
class Treatment:
    """One way from a detector's boxes to its detections.

    Attributes:
        nms: its kind, one of `NMS`; `GUIDED` by the refiner's IoU.
        iou_threshold: of NMS; None for the Gaussian one, which has none.
        head: the refiner's, one of `HEADS`; None = no refiner is asked.
        moved_by: `REFINEMENT` or `REGRESSION`; None = boxes stay where they are.
        num_steps: how often they are moved, at most.
        step_size: λ of the refinement.
        rescored: class scores are multiplied with the IoUs predicted where the boxes end.
    """

    nms: str = HARD
    iou_threshold: float | None = THRESHOLD
    head: str | None = None
    moved_by: str | None = None
    num_steps: int = 0
    step_size: StepSize | None = None
    rescored: bool = False

    @property
    def name(self) -> str:
        """The stem of its files, for example `guided0.5_refined5_step0.15_rescored` or `hard0.5_regressed2`."""
        parts = [self.nms + ("" if self.iou_threshold is None else f"{self.iou_threshold:g}")]
        if self.moved_by is not None:
            parts.append(f"{'refined' if self.moved_by == REFINEMENT else 'regressed'}{self.num_steps}")
        if self.step_size is not None:
            parts.append(f"step{self.step_size.actual:g}")
        if self.rescored:
            parts.append("rescored")
        return "_".join([*parts, *([CLASS_AGNOSTIC] if self.head == CLASS_AGNOSTIC else [])])

    def described(self) -> dict[str, Any]:
        """As its file says it: plain data."""
        step = self.step_size
        return {
            "name": self.name,
            "nms": self.nms,
            "iou_threshold": self.iou_threshold,
            "head": self.head,
            "moved_by": self.moved_by,
            "num_steps": self.num_steps,
            "step_size": None if step is None else {"published": step.published, "actual": step.actual},
            "rescored": self.rescored,
        }

    @staticmethod
    def of_description(data: Mapping[str, Any]) -> Treatment:
        """What `described` describes. Raises `KeyError` or `TypeError` for anything else."""
        step = data["step_size"]
        return Treatment(
            data["nms"],
            data["iou_threshold"],
            data["head"],
            data["moved_by"],
            data["num_steps"],
            None if step is None else StepSize(step["published"], step["actual"]),
            data["rescored"],
        )


PLAIN = Treatment()  # the detector as it is
REGRESSED = Treatment(moved_by=REGRESSION, num_steps=NUM_STEPS)  # after its own NMS, by its own box head


def guided(head: str = PER_CLASS) -> Treatment:
    """Guided NMS by a refiner's IoU."""
    return Treatment(GUIDED, head=head)


def refined(step: StepSize, head: str = PER_CLASS) -> Treatment:
    """Guided NMS, and then refinement."""
    return replace(refined_alone(step, head), nms=GUIDED)


def refined_alone(step: StepSize, head: str = PER_CLASS) -> Treatment:
    """Refinement after the detector's own NMS."""
    return Treatment(head=head, moved_by=REFINEMENT, num_steps=NUM_STEPS, step_size=step)


def again(treatment: Treatment) -> list[Treatment]:
    """A treatment with its boxes moved once to `NUM_STEPS` times."""
    return [replace(treatment, num_steps=count) for count in range(1, NUM_STEPS + 1)]


def compared(steps: Iterable[StepSize]) -> list[Treatment]:
    """What every detector is given: its own NMS, guided NMS, and with it refinement, by the refiners of both heads.

    Refinement moves boxes and keeps their scores, as in the paper; at each λ it is also done with new scores, as in the
    published reproduction.

    Args:
        steps: λ; the paper's first.
    """
    steps = list(steps)
    found = [PLAIN]
    for head in HEADS:
        moved = [refined(step, head) for step in steps]
        found += [guided(head), *moved, *(replace(one, rescored=True) for one in moved)]
    return found


def by_threshold() -> list[Treatment]:
    """NMS of each kind at each threshold; Soft-NMS with Gaussian weights has none."""
    kinds = [Treatment(kind, threshold) for kind in (HARD, SOFT_LINEAR) for threshold in THRESHOLDS]
    guided = [Treatment(GUIDED, threshold, PER_CLASS) for threshold in THRESHOLDS]
    return [*kinds, Treatment(SOFT_GAUSSIAN, None), *guided]


def by_iteration(steps: Iterable[StepSize], *, has_regression: bool) -> list[Treatment]:
    """Boxes after the detector's own NMS, moved once to `NUM_STEPS` times, scores kept.

    Args:
        steps: λ of the refinement.
        has_regression: whether the detector has a box head to be asked again.
    """
    found = [treatment for step in steps for treatment in again(refined_alone(step))]
    return [*found, *(again(REGRESSED) if has_regression else [])]

"""One batch of a detector's boxes on its way through the treatments: every step is computed once, whoever asks for it.

Shapes: N images, K boxes of all of them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from experiments.treatments.detector import Boxes
from iounet.core.boxes import as_rois
from iounet.core.detections import Detections, best_of_each_image, in_order, of_each_image, suppress_in_images
from iounet.refiner import IoURefiner
from suite.settings import StepSize
from suite.treatments import (
    GUIDED,
    MOST,
    NUM_STEPS,
    PLAIN,
    REFINEMENT,
    REGRESSION,
    SIGMA,
    SOFT_GAUSSIAN,
    SOFT_LINEAR,
    Treatment,
)

LEAST = 0.001  # Soft-NMS drops what scores less: mmcv's
Regress = Callable[[Boxes], Boxes]


class Clock:
    """Seconds by what they were spent on.

    Args:
        device: that is waited for before a look at the clock.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: defaultdict[Any, float] = defaultdict(float)

    @contextmanager
    def __call__(self, what: Any) -> Iterator[None]:
        """Adds the time of its body to that of a kind of work."""
        started = self._now()
        yield
        self.seconds[what] += self._now() - started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


class Sight:
    """What a refiner makes of a batch of images.

    Args:
        refiner: in evaluation mode.
        images: `Tensor[3, h, w]` each, RGB from 0 to 255.
    """

    def __init__(self, refiner: IoURefiner, images: Sequence[Tensor]) -> None:
        prepared = refiner.prepare(images)
        self._refiner, self._factors = refiner, prepared.factors
        with torch.no_grad():
            self._maps = refiner.features(prepared.images)

    def predict(self, boxes: Boxes) -> Tensor:
        """The predicted IoUs, `Tensor[K]`."""
        with torch.no_grad():
            return self._refiner.predict_iou(self._maps, self._rois(boxes), boxes.found.labels)

    def ascent(self, boxes: Boxes, step_size: float) -> list[Boxes]:
        """The boxes, with their predicted IoUs, at the start and after each of `NUM_STEPS` steps."""
        trace: list[tuple[Tensor, Tensor]] = []
        self._refiner.move(
            self._maps,
            self._rois(boxes),
            boxes.found.labels,
            step_size=step_size,
            num_steps=NUM_STEPS,
            trace=trace,
        )
        back = self._factors[boxes.image_index]
        return [boxes._replace(found=boxes.found._replace(boxes=rois[:, 1:] / back, ious=ious)) for rois, ious in trace]

    def _rois(self, boxes: Boxes) -> Tensor:
        factors = self._factors[boxes.image_index]
        return as_rois(boxes.image_index, boxes.found.boxes.to(factors.dtype) * factors)


class Batch:
    """A batch of a detector's boxes before NMS.

    Args:
        candidates: the boxes.
        num_images: N.
        sights: the refiners' by their heads.
        regress: moves boxes by the detector's box head; None for a detector without one.
        clock: of the work, by what is asked for: a head = the predicted IoUs; a kind of NMS, its threshold and the head
            = NMS; these and a λ = the refinement.
    """

    def __init__(
        self,
        candidates: Boxes,
        num_images: int,
        sights: Mapping[str, Sight],
        regress: Regress | None,
        clock: Clock,
    ) -> None:
        self._candidates, self._num_images = candidates, num_images
        self._sights, self._regress, self._clock = sights, regress, clock
        self._known: dict[Any, Any] = {}

    def detections(self, treatment: Treatment) -> list[Detections]:
        """Of each image, highest score first; `ious` are 0 where no refiner was asked."""
        boxes = self._moved(treatment)
        found, image_index = in_order(*boxes, rescore=treatment.rescored)
        return of_each_image(found, image_index, self._num_images, MOST)

    def _moved(self, treatment: Treatment) -> Boxes:
        if treatment.moved_by is None:
            return self._kept(treatment)
        if treatment.moved_by == REFINEMENT:
            assert treatment.step_size is not None
            return self._ascent(treatment, treatment.step_size)[treatment.num_steps]
        return self._regressed(treatment)[treatment.num_steps]

    def _ascent(self, treatment: Treatment, step: StepSize) -> list[Boxes]:
        assert treatment.head is not None
        sight, start = self._sights[treatment.head], self._kept(treatment)
        key = (treatment.nms, treatment.iou_threshold, treatment.head, step)
        return self._once(key, lambda: sight.ascent(start, step.actual))

    def _regressed(self, treatment: Treatment) -> list[Boxes]:
        def all_of_them() -> list[Boxes]:
            assert self._regress is not None
            path = [self._kept(treatment)]
            for _ in range(NUM_STEPS):
                path.append(self._regress(path[-1]))
            return path

        return self._once((treatment.nms, treatment.iou_threshold, REGRESSION), all_of_them)

    def _kept(self, treatment: Treatment) -> Boxes:
        """What NMS keeps, image by image, highest score first, at most `MOST` of an image."""
        head = treatment.head if treatment.nms == GUIDED else None
        key = (treatment.nms, treatment.iou_threshold, head)
        if head is None:
            return self._once(key, lambda: self._suppressed(treatment.nms, treatment.iou_threshold))
        ious = self._once(head, lambda: self._sights[head].predict(self._candidates))
        return self._once(key, lambda: self._guided(ious, treatment.iou_threshold))

    def _guided(self, ious: Tensor, iou_threshold: float | None) -> Boxes:
        assert iou_threshold is not None
        found, image_index = self._candidates
        return _first(*suppress_in_images(found._replace(ious=ious), image_index, iou_threshold))

    def _suppressed(self, kind: str, iou_threshold: float | None) -> Boxes:
        """By mmcv, image by image, as mmdet's detectors do it."""
        from mmcv.ops import batched_nms

        found, image_index = self._candidates
        settings = {"type": "nms", "iou_threshold": iou_threshold}
        if kind in (SOFT_LINEAR, SOFT_GAUSSIAN):
            settings = {"type": "soft_nms", "min_score": LEAST, "sigma": SIGMA, "method": kind.removeprefix("soft_")}
            settings["iou_threshold"] = PLAIN.iou_threshold if iou_threshold is None else iou_threshold
        rows, scores = [image_index[:0]], [found.scores[:0]]
        for image in image_index.unique().tolist():  # mmcv's Soft-NMS takes no empty set
            (own,) = torch.where(image_index == image)
            kept, order = batched_nms(found.boxes[own], found.scores[own], found.labels[own], dict(settings))
            rows.append(own[order])
            scores.append(kept[:, 4])
        chosen = torch.cat(rows)
        return _first(found.take(chosen)._replace(scores=torch.cat(scores)), image_index[chosen])

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._known:
            with self._clock(key):
                self._known[key] = make()
        return self._known[key]


def _first(found: Detections, image_index: Tensor) -> Boxes:
    """Image by image, highest score first, and no more than `MOST` of an image."""
    return Boxes(*best_of_each_image(found, image_index, MOST))

"""One batch of images on its way through an `IoURoIHead`: every step is computed once, whoever asks for it.

Shapes: N images, K candidates, M boxes that NMS keeps, P ≤ M boxes that are refined in at most S steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from iounet.models.detections import Detections, in_order, of_each_image, suppress


class Ascent(NamedTuple):
    """A refinement.

    Attributes:
        detections: P boxes where they end, in the order and with the scores that NMS gave them.
        image_index: `LongTensor[P]`.
        trace: S + 1 pairs of `Tensor[P, 4]` boxes and `Tensor[P]` predicted IoUs: the start, and after each step.
    """

    detections: Detections
    image_index: Tensor
    trace: list[tuple[Tensor, Tensor]]


class Batch:
    """R-CNN boxes of a batch and their predicted IoUs, and from there NMS by guide and refinement by guide and λ.

    Args:
        head: `IoURoIHead`; its test_cfg gives what a setting leaves open.
        features: of the batch.
        proposals: per image.
        metas: mmdet's, per image.

    Attributes:
        candidates: `head.candidates`.
        predicted: `head.score` of them.
    """

    def __init__(
        self, head: Any, features: Sequence[Tensor], proposals: Sequence[Tensor], metas: list[dict[str, Any]]
    ) -> None:
        self.metas, self.cfg = metas, head.test_cfg
        self._head, self._features = head, features
        self.candidates = head.candidates(features, proposals, metas)
        layers = head.iou_head.cast(self.cfg.iou.get("fc_dtype", "float32"))
        self.predicted = head.score(features, self.candidates, layers)
        self._kept: dict[str, tuple[Detections, Tensor]] = {}
        self._ascents: dict[tuple[str, float | None, int], Ascent] = {}

    def kept(self, guide: str) -> tuple[Detections, Tensor]:
        """What NMS keeps: M detections, and `LongTensor[M]`, their rows among the candidates."""
        if guide not in self._kept:
            options = {**self.cfg.iou.nms, "guide": guide, "score_thr": self.cfg.score_thr}
            self._kept[guide] = suppress(self.candidates, self.predicted.ious, **options)
        return self._kept[guide]

    def ascent(self, guide: str, refine: Mapping[str, Any]) -> Ascent:
        """The refinement of what NMS keeps, by a `test_cfg.rcnn.iou.refine` that differs from the head's in λ and T."""
        key = (guide, refine.get("lamb"), refine["t"])  # none without a step
        if key not in self._ascents:
            detections, rows = self.kept(guide)
            options = {name: value for name, value in refine.items() if name != "use_iou_score"}
            options |= {"hidden": [layer[rows] for layer in self.predicted.hidden], "layers": self.predicted.layers}
            trace: list[tuple[Tensor, Tensor]] = []
            image_index = self.candidates.image_index[rows]
            found, image_index = self._head.move(self._features, detections, image_index, **options, trace=trace)
            self._ascents[key] = Ascent(found, image_index, trace)
        return self._ascents[key]

    def detections(self, iou: Mapping[str, Any]) -> list[Detections]:
        """Per image, by a `test_cfg.rcnn.iou` that differs from the head's in guide, λ, T and `use_iou_score`."""
        guide, refine = iou["nms"]["guide"], iou.get("refine")
        found, rows = self.kept(guide)
        image_index = self.candidates.image_index[rows]
        if refine is not None:
            found, image_index, _ = self.ascent(guide, refine)
            found, image_index = in_order(found, image_index, rescore=refine.get("use_iou_score", True))
        return of_each_image(found, image_index, self.candidates.num_images, self.cfg.max_per_img)

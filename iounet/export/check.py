"""An exported refiner beside the one that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iounet.export.graph import input_names, random_inputs, require_packages
from iounet.export.refiner import Refiner
from iounet.models.detections import Detections

Inputs = tuple[Tensor, Tensor, Sequence[Tensor]]
Run = Callable[[Tensor, Tensor, Sequence[Tensor]], tuple[Tensor, Tensor]]

TOLERANCE = 1e-4  # pixels
# Where rounding decides, both are right: a change of the predicted IoU this close to a threshold may stop a box here
# and not there; at a ReLU's kink the gradient is that of either side. Torch's own result depends on the batch there.
_TIE = 1e-5


class Difference(NamedTuple):
    """Between an exported refiner and torch, over boxes.

    Attributes:
        boxes: the greatest of any coordinate, in pixels.
        ious: the greatest of predicted IoUs.
        compared: number of boxes.
        ties: number of boxes left out, as rounding decides where they go: in a step, the change of their predicted IoU
            was within 1e-5 of a threshold, or a ReLU's input within 1e-5 (of what is typical) of 0.
    """

    boxes: float
    ious: float
    compared: int
    ties: int


def session_of(path: Path, refiner: Refiner, threads: int = 0) -> Run:
    """An ONNX file, run by onnxruntime on the CPU; ``threads`` 0 is as many as there are cores.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
    """
    require_packages("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = input_names(refiner)

    def run(rois: Tensor, labels: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        feeds = dict(zip(names, [tensor.numpy() for tensor in (rois, labels, *maps)], strict=True))
        boxes, ious = session.run(None, feeds)
        return torch.from_numpy(boxes), torch.from_numpy(ious)

    return run


def program_of(path: Path) -> Run:
    """A file of ``torch.export``, run by torch."""
    module: Any = torch.export.load(path).module()

    def run(rois: Tensor, labels: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return module(rois, labels, list(maps))

    return run


def in_torch(
    roi_head: Any, refiner: Refiner, rois: Tensor, labels: Tensor, maps: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """What the detector itself makes of the inputs (``IoURoIHead.move``), with the refiner's steps.

    Args:
        roi_head: whose weights the refiner has.
        refiner: names steps, step size and thresholds.
        rois: image by image.
        labels: as for :meth:`Refiner.forward`, like the rest.
        maps: see there.

    Returns:
        Boxes and predicted IoUs, as :meth:`Refiner.forward`; and ``BoolTensor[K]``, false for ties
        (:class:`Difference`).
    """
    image_index, placeholder = rois[:, 0].long(), torch.zeros(len(rois))
    trace: list[tuple[Tensor, Tensor]] = []
    moved, _ = roi_head.move(
        maps,
        Detections(rois[:, 1:], placeholder, labels, placeholder),
        image_index,
        pre_refine=max(1, len(rois)),
        t=refiner.num_steps,
        omega_1=refiner.omega_1,
        omega_2=refiner.omega_2,
        lamb=refiner.step_size,
        trace=trace,
    )
    decided = torch.ones_like(labels, dtype=torch.bool)
    for step, ((start, before), (end, after)) in enumerate(pairwise(trace)):
        moves = (start != end).any(dim=1)
        tie = _nearest_kink(roi_head, torch.cat([rois[:, :1], start], dim=1), maps) < _TIE
        if step + 2 < len(trace):  # nothing hangs on the change of the last step
            change = after - before
            for distance in (change.abs() - refiner.omega_1, change - refiner.omega_2):
                tie |= distance.abs() < _TIE
        decided &= ~(moves & tie)
    return moved.boxes, moved.ious, decided


@torch.no_grad()
def _nearest_kink(roi_head: Any, rois: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """``Tensor[K]``: the smallest value that a ReLU of the IoU head gets, in units of its layer's typical one."""
    hidden = roi_head._extractor(maps, rois).flatten(1)
    nearest = torch.full((len(rois),), float("inf"))
    for layer in roi_head.iou_head.shared_fcs:
        values = layer(hidden)
        typical = values.square().mean(dim=1).sqrt()
        nearest = torch.minimum(nearest, values.abs().amin(dim=1) / typical)
        hidden = values.relu()
    return nearest


def difference(run: Run, roi_head: Any, refiner: Refiner, inputs: Inputs) -> Difference:
    """Of an exported refiner to the detector it was made from, on the inputs of :meth:`Refiner.forward`."""
    boxes, ious = run(*inputs)
    expected, expected_ious, decided = in_torch(roi_head, refiner, *inputs)
    return Difference(
        _greatest(boxes - expected, decided),
        _greatest(ious - expected_ious, decided),
        int(decided.sum()),
        int((~decided).sum()),
    )


def check(run: Run, roi_head: Any, refiner: Refiner) -> Difference:
    """The greatest difference on random inputs of other sizes than those that were traced.

    Raises:
        RuntimeError: it is above 1e-4 pixels, or not a number.
    """
    generator = torch.Generator().manual_seed(1)
    found = [
        difference(run, roi_head, refiner, random_inputs(refiner, images, boxes, size, generator))
        for images, boxes, size in ((1, 100, (160, 224)), (3, 40, (130, 90)), (1, 1, (64, 64)))
    ]
    worst = Difference(
        max(one.boxes for one in found),
        max(one.ious for one in found),
        sum(one.compared for one in found),
        sum(one.ties for one in found),
    )
    if any(not one.boxes <= TOLERANCE for one in found):
        raise RuntimeError(
            f"the exported graph differs from torch by {worst.boxes:.3g} pixels, more than {TOLERANCE:g}, on random "
            f"boxes ({worst.compared} compared)"
        )
    return worst


def _greatest(error: Tensor, rows: Tensor) -> float:
    chosen = error[rows].abs()
    return float(chosen.max()) if chosen.numel() else 0.0

"""IoU-balanced RoIs around ground-truth boxes: what the IoU head is trained on (IoU-Net, section 3.1).

The paper trains on jittered ground truth, "IoU balanced", and says no more. As in the published reproduction, a table
of (dx, dy, sw, sh) deltas is made once; since a delta is relative to the box, its IoU with the box it moves is a
property of the delta alone, and puts it in one of ten bins of width 0.1. Training draws equal shares of the bins. A bin
with fewer deltas than its share repeats them evenly: with the published arguments, 0.9-1.0 has 79 where 201 are drawn
(the published code then drew 79, so its top bin is under-represented).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from iounet.core.boxes import apply_deltas, clip_boxes

_NUM_BINS = 10
_TABLE_SEED = 0


class RoIGenerator:
    """Draws RoIs around ground-truth boxes, balanced over their IoU with the box they came from.

    Not a module and without buffers: the table follows from the arguments, so it is in no state dict.

    Args:
        pre_sample: largest number of deltas that the table keeps per bin.
        xy_steps: values of dx and dy on either side of 0.
        wh_steps: values of sw and sh.
        xy_range: smallest and largest |dx| and |dy|, in box widths and heights.
        area_range: smallest and largest sw² and sh².
        nonlinearity: power by which the values are spaced: 1 evenly, 2 with the small ones dense.
        per_iou: draw this many deltas per bin for every ground-truth box. Give either this or ``sample_num``.
        sample_num: draw this many RoIs per image, whatever the number of ground-truth boxes.
        start_bin: lower end of the first bin, a multiple of 0.1. Values above 1 count bins, as the published
            configs do: 5 is 0.5.
        end_bin: upper end of the last bin, likewise.
        max_num: with ``per_iou``, the largest number of RoIs per image.
        compensate: ``{bin: factor ≥ 1}``: draw more deltas from these bins (named by their lower end).

    Raises:
        ValueError: for arguments that contradict each other, or that leave a bin without deltas.
    """

    def __init__(
        self,
        pre_sample: int = 4000,
        xy_steps: int = 16,
        wh_steps: int = 16,
        xy_range: Sequence[float] = (0, 1),
        area_range: Sequence[float] = (1 / 3, 3),
        nonlinearity: float = 2,
        per_iou: int | None = None,
        sample_num: int | None = 1000,
        start_bin: float = 0.5,
        end_bin: float = 1.0,
        max_num: int = 1000,
        compensate: Mapping[float, float] | None = None,
    ) -> None:
        if (per_iou is None) == (sample_num is None):
            raise ValueError(
                f"roi_generator: give either per_iou or sample_num and set the other to None "
                f"(got per_iou={per_iou}, sample_num={sample_num})"
            )
        counts = {"pre_sample": pre_sample, "max_num": max_num, "per_iou": per_iou, "sample_num": sample_num}
        for key, value in counts.items():
            if value is not None and (value < 1 or value != int(value)):
                raise ValueError(f"roi_generator: {key}={value} must be a whole number, 1 or more")
        for key, steps in (("xy_steps", xy_steps), ("wh_steps", wh_steps)):
            if steps < 2:
                raise ValueError(f"roi_generator: {key}={steps} must be 2 or more: it spans a range")
        for key, pair, lowest in (("xy_range", xy_range, 0.0), ("area_range", area_range, 1e-6)):
            if len(pair) != 2 or not lowest <= pair[0] < pair[1]:
                raise ValueError(f"roi_generator: {key}={pair} must be (low, high) with {lowest:g} <= low < high")
        if nonlinearity <= 0:
            raise ValueError(f"roi_generator: nonlinearity={nonlinearity} must be positive (1 spaces evenly)")

        first, last = _bin_index("start_bin", start_bin), _bin_index("end_bin", end_bin)
        if first >= last:
            raise ValueError(f"roi_generator: start_bin={start_bin} must lie below end_bin={end_bin}")
        share = int(per_iou) if per_iou is not None else int((sample_num or 0) / (last - first)) + 1
        self._draws = dict.fromkeys(range(first, last), share)
        for lower_end, factor in (compensate or {}).items():
            index = _bin_index("compensate", lower_end)
            if index not in self._draws:
                raise ValueError(
                    f"roi_generator: compensate names bin {lower_end}, which is not drawn from: "
                    f"use bins from start_bin={start_bin} to below end_bin={end_bin}"
                )
            if factor < 1:
                raise ValueError(f"roi_generator: compensate={{{lower_end}: {factor}}}: a factor must be 1 or more")
            self._draws[index] = int(share * factor) + 1

        self._max_rois = int(max_num if sample_num is None else sample_num)
        self._bins = _delta_table(int(pre_sample), xy_steps, wh_steps, xy_range, area_range, nonlinearity)
        for index in self._draws:
            if len(self._bins[index]) == 0:
                raise ValueError(
                    f"roi_generator: no delta has an IoU of {index / 10}-{(index + 1) / 10}: "
                    "raise xy_steps or wh_steps, or widen xy_range or area_range"
                )
        self._tables: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def __repr__(self) -> str:
        bins = ", ".join(f"{index / 10}: {count}" for index, count in self._draws.items())
        return f"{type(self).__name__}(deltas drawn per bin: {{{bins}}}, at most {self._max_rois} RoIs per image)"

    def generate_roi(
        self,
        gt_bboxes: Tensor,
        max_shape: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw RoIs for one image.

        Args:
            gt_bboxes: ``Tensor[G, 4]`` ground-truth boxes, in pixels.
            max_shape: (height, width, ...) of the image to clip to; ``None`` does not clip. A clipped RoI may leave its
                bin.
            generator: source of randomness; ``None`` is torch's global state on the boxes' device.

        Returns:
            ``Tensor[n, 4]``, in random order: n is ``sample_num``, or ``per_iou`` × bins × G up to ``max_num`` (more
            with ``compensate``); 0 if there is no ground truth.
        """
        gt_index, deltas = self.draw(len(gt_bboxes), gt_bboxes.device, gt_bboxes.dtype, generator)
        rois = apply_deltas(gt_bboxes[gt_index], deltas)
        return rois if max_shape is None else clip_boxes(rois, max_shape)

    def generate_rois(
        self,
        gt_bboxes: Sequence[Tensor],
        max_shapes: Sequence[Sequence[int]],
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw RoIs for the images of a batch: what :meth:`generate_roi` draws for one after the other.

        Args:
            gt_bboxes: per image ``Tensor[G, 4]``.
            max_shapes: per image (height, width, ...) to clip to.
            generator: see :meth:`generate_roi`.

        Returns:
            ``Tensor[R, 5]`` of (image index, x1, y1, x2, y2), image by image.
        """
        draws = [self.draw(len(boxes), boxes.device, boxes.dtype, generator) for boxes in gt_bboxes]
        sources = torch.cat([boxes[index] for boxes, (index, _) in zip(gt_bboxes, draws, strict=True)])
        rois = apply_deltas(sources, torch.cat([deltas for _, deltas in draws]))
        # Each image's limits are written by kernels that know them, so that nothing waits for a copy to the device.
        images, limits = [], []
        for image, ((index, _), shape) in enumerate(zip(draws, max_shapes, strict=True)):
            images.append(rois.new_full((len(index), 1), image))
            limits.append(torch.cat([rois.new_full((len(index), 1), size) for size in shape[:2]], dim=1))
        return torch.cat([torch.cat(images), clip_boxes(rois, torch.cat(limits))], dim=1)

    def draw(
        self,
        num_gt: int,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The random part of :meth:`generate_roi`: which ground truth is moved how.

        One draw of deltas serves all boxes of the image; of all (box, delta) pairs, the wanted number is drawn.

        Returns:
            ``LongTensor[n]`` index of the ground truth, and ``Tensor[n, 4]`` delta, of each RoI.
        """
        device = torch.device("cpu") if device is None else device
        table = self._table(device, dtype)
        if num_gt == 0:
            return torch.zeros(0, dtype=torch.long, device=device), table[:0]

        def permutation(n: int) -> Tensor:
            source = device if generator is None else generator.device
            return torch.randperm(n, generator=generator, device=source).to(device)

        drawn, start = [], 0
        for index, wanted in self._draws.items():
            size = len(self._bins[index])
            while wanted > 0:
                drawn.append(start + permutation(size)[:wanted])
                wanted -= size
            start += size
        deltas = torch.cat(drawn)
        pair = permutation(num_gt * len(deltas))[: self._max_rois]
        return pair // len(deltas), table[deltas[pair % len(deltas)]]

    def _table(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The bins drawn from, one after the other, on a device: made once per device."""
        key = (device, dtype)
        if key not in self._tables:
            self._tables[key] = torch.cat([self._bins[index] for index in self._draws]).to(device, dtype)
        return self._tables[key]


def _bin_index(key: str, value: float) -> int:
    """0.5 → 5; 5 → 5."""
    tenths = value if value > 1 else value * 10
    if not 0 <= tenths <= _NUM_BINS or abs(tenths - round(tenths)) > 1e-6:
        raise ValueError(f"roi_generator: {key}={value} must be a multiple of 0.1 between 0 and 1")
    return round(tenths)


def _spaced(low: float, high: float, steps: int, power: float) -> Tensor:
    """``steps`` values from ``low`` to ``high``, denser towards ``low`` the higher the power."""
    return low + (high - low) * torch.linspace(0, 1, steps, dtype=torch.float64).pow(power)


def _delta_table(
    pre_sample: int,
    xy_steps: int,
    wh_steps: int,
    xy_range: Sequence[float],
    area_range: Sequence[float],
    nonlinearity: float,
) -> list[Tensor]:
    """The deltas of each bin, ``Tensor[n ≤ pre_sample, 4]`` in float64, the same on every call."""
    shift = _spaced(xy_range[0], xy_range[1], xy_steps, nonlinearity)
    shift = torch.cat([-shift, shift]).unique()
    scale = _spaced(math.sqrt(area_range[0]), math.sqrt(area_range[1]), wh_steps, nonlinearity)

    # IoU with the unit box separates: overlap of [-1/2, 1/2] with [shift - scale/2, shift + scale/2] per axis.
    low = (shift[:, None] - scale / 2).clamp(min=-0.5)
    high = (shift[:, None] + scale / 2).clamp(max=0.5)
    overlap = (high - low).clamp(min=0)
    intersection = overlap[:, None, :, None] * overlap[None, :, None, :]
    iou = (intersection / (1 + scale[:, None] * scale - intersection)).flatten()
    deltas = torch.cartesian_prod(shift, shift, scale, scale)

    # The rounding keeps e.g. 0.7 out of the bin below it; 1 belongs to the last bin.
    index = (iou * _NUM_BINS + 1e-9).long().clamp(max=_NUM_BINS - 1)
    generator = torch.Generator().manual_seed(_TABLE_SEED)
    bins = []
    for number in range(_NUM_BINS):
        members = deltas[index == number]
        bins.append(members[torch.randperm(len(members), generator=generator)[:pre_sample]])
    return bins

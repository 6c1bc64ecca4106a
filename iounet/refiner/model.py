"""The refiner: backbone, FPN and IoU head, trained on jittered ground truth alone (IoU-Net, section 4).

Shapes: N images, K boxes of all images, M of them that are left, C classes, L levels of Hl x Wl cells. Boxes are
(x1, y1, x2, y2): in pixels of the network's input in :meth:`IoURefiner.predict_iou` and :meth:`IoURefiner.loss`, in
pixels of the image as it was given in :meth:`IoURefiner.refine`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from iounet.core.boxes import as_rois
from iounet.core.detections import Detections, best_of_each_image, in_order, of_each_image, suppress_in_images
from iounet.core.iou_head import LOSSES, IoULoss, IoUPredictor
from iounet.core.pyramid import PyramidPool
from iounet.core.refine import refine_rois
from iounet.core.roi_generator import RoIGenerator
from iounet.core.targets import iou_targets
from iounet.refiner.backbone import ResNet
from iounet.refiner.images import MEAN, STD, Prepared, network_size, padded_size, prepare

FORMAT, VERSION = "iounet.refiner", 1
ROIS_AT_ONCE = 2048  # pooled features of 256 x 7 x 7 values each: 100 MB
_BINS = 7


class IoURefiner(nn.Module):
    """Predicts the IoU of boxes with their objects, and from it guides NMS and moves boxes, whoever found them.

    Args:
        categories: names of the classes, in the order of labels.
        depth: of the ResNet; see :class:`iounet.refiner.backbone.ResNet`, like the next four.
        base_channels: of the ResNet.
        num_stages: of the ResNet; each has a level of the pyramid.
        frozen_stages: of the ResNet.
        norm_eval: of the ResNet.
        channels: of the pyramid's maps.
        fc_channels: widths of the IoU head's hidden layers.
        class_agnostic: predict one IoU for all classes.
        loss: ``'smooth_l1'`` of the normalised IoU, or ``'bce'`` of its logit.
        loss_weight: factor of the loss.
        beta: of smooth L1.
        target_norm: ``mean`` and ``std`` of the IoU, for smooth L1; ``None``: 0.5 both.
        roi_generator: arguments of :class:`iounet.core.RoIGenerator`; ``None``: its defaults.
        image_size: largest long and short side of the network's input; ``None``: images keep their size.
        mean: of each channel of an image, RGB from 0 to 255.
        std: of each channel.
        step_size: λ of :meth:`refine` where it is given none: what suits the size of the boxes trained on.

    Attributes:
        config: the arguments, as plain data.
        categories: the names.

    Raises:
        ValueError: for arguments that make no sense; the message names the argument.
    """

    def __init__(
        self,
        categories: Sequence[str],
        *,
        depth: int = 50,
        base_channels: int = 64,
        num_stages: int = 4,
        frozen_stages: int = -1,
        norm_eval: bool = True,
        channels: int = 256,
        fc_channels: Sequence[int] = (1024, 1024),
        class_agnostic: bool = False,
        loss: str = "smooth_l1",
        loss_weight: float = 5.0,
        beta: float = 1.0,
        target_norm: Mapping[str, float] | None = None,
        roi_generator: Mapping[str, Any] | None = None,
        image_size: tuple[int, int] | None = None,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        step_size: float = 0.5,
    ) -> None:
        super().__init__()
        if not categories or isinstance(categories, str) or len(set(categories)) < len(categories):
            raise ValueError(f"categories={categories!r} must be different names, one or more")
        if loss not in LOSSES:
            raise ValueError(f"loss={loss!r} is unknown: choose one of {', '.join(map(repr, LOSSES))}")
        if not step_size > 0:
            raise ValueError(f"step_size={step_size} must be above 0")
        self.config = _plain(
            {
                "categories": categories,
                "depth": depth,
                "base_channels": base_channels,
                "num_stages": num_stages,
                "frozen_stages": frozen_stages,
                "norm_eval": norm_eval,
                "channels": channels,
                "fc_channels": fc_channels,
                "class_agnostic": class_agnostic,
                "loss": loss,
                "loss_weight": loss_weight,
                "beta": beta,
                "target_norm": target_norm,
                "roi_generator": roi_generator,
                "image_size": image_size,
                "mean": mean,
                "std": std,
                "step_size": step_size,
            }
        )
        self.categories = list(categories)
        self.step_size = float(step_size)
        self.roi_generator = RoIGenerator(**(roi_generator or {}))
        self.backbone = ResNet(depth, base_channels, num_stages, frozen_stages, norm_eval)
        self.fpn = FeaturePyramidNetwork(self.backbone.out_channels, channels)
        self.iou_head = IoUPredictor(
            channels * _BINS * _BINS,
            fc_channels,
            len(categories),
            target_norm=target_norm,
            class_agnostic=class_agnostic,
            is_logit=loss == "bce",
            loss_iou=IoULoss(loss, loss_weight, beta),
        )
        self._pool = PyramidPool(self.backbone.strides, _BINS)
        self.reset_parameters()
        # In this layout maps are pooled without being copied.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    # --- the network --------------------------------------------------------------------------------------------------

    def reset_parameters(self) -> None:
        """Draws the first weights."""
        self.backbone.reset_parameters()
        for module in self.fpn.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.iou_head.reset_parameters()

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the network's input for an image of this size by itself: equal ones make a batch."""
        return padded_size(*network_size(height, width, self._limits), max(self.backbone.strides))

    def prepare(self, images: Sequence[Tensor]) -> Prepared:
        """Images as :meth:`features` takes them, on this model's device: resized, normalised, padded.

        Args:
            images: per image ``Tensor[3, h, w]``, RGB from 0 to 255, of any dtype; one or more.

        Raises:
            ValueError: if there is no image, or one has another shape.
        """
        return prepare(
            images,
            limits=self._limits,
            divisor=max(self.backbone.strides),
            mean=self.config["mean"],
            std=self.config["std"],
            device=self._device,
        )

    def features(self, images: Tensor) -> list[Tensor]:
        """The pyramid's maps.

        Args:
            images: ``Tensor[N, 3, H, W]``, of :meth:`prepare`.

        Returns:
            ``Tensor[N, channels, Hl, Wl]`` per level, finest first.
        """
        maps = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return list(self.fpn({str(level): one for level, one in enumerate(maps)}).values())

    def predict_iou(self, maps: Sequence[Tensor], rois: Tensor, labels: Tensor) -> Tensor:
        """The predicted IoU of boxes with their objects.

        Args:
            maps: of :meth:`features`.
            rois: ``Tensor[K, 5]`` of (image index, x1, y1, x2, y2), in pixels of the network's input.
            labels: ``LongTensor[K]``: the class of each box; a class-agnostic model does not read them.

        Returns:
            ``Tensor[K]``, differentiable in maps and RoIs.
        """
        parts = zip(rois.split(ROIS_AT_ONCE), labels.split(ROIS_AT_ONCE), strict=True)
        return torch.cat([self.iou_head.predict_iou(self._pool(maps, own), classes) for own, classes in parts])

    # --- training -----------------------------------------------------------------------------------------------------

    def targets(
        self,
        sizes: Sequence[Sequence[int]],
        gt_boxes: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """RoIs around ground truth, and what is to be predicted for them (paper, section 3.1).

        Args:
            sizes: per image (height, width, …) to clip to, in pixels of the network's input.
            gt_boxes: per image ``Tensor[G, 4]``, in the same pixels.
            gt_labels: per image ``LongTensor[G]``.
            generator: source of randomness; ``None`` is torch's global state.

        Returns:
            ``Tensor[R, 5]`` RoIs, ``Tensor[R]`` IoUs and ``LongTensor[R]`` labels; see
            :func:`iounet.core.iou_targets`.
        """
        rois = self.roi_generator.generate_rois(gt_boxes, sizes, generator)
        return iou_targets(rois, gt_boxes, gt_labels)

    def loss(
        self,
        images: Tensor,
        sizes: Sequence[Sequence[int]],
        gt_boxes: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
        generator: torch.Generator | None = None,
        *,
        mean_over_ranks: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The loss of a batch; for a step of training.

        Args:
            images: ``Tensor[N, 3, H, W]``, of :meth:`prepare`.
            sizes: see :meth:`targets`, like the next three.
            gt_boxes: ground truth.
            gt_labels: its classes.
            generator: of the RoIs.
            mean_over_ranks: in distributed training, what averages a number over the ranks; the RoIs of all count then.

        Returns:
            ``loss_iou``, and ``iou_error``; see :meth:`iounet.core.IoUPredictor.loss`.
        """
        rois, ious, labels = self.targets(sizes, gt_boxes, gt_labels, generator)
        raw = self.iou_head(self._pool(self.features(images), rois))
        count = None if mean_over_ranks is None else mean_over_ranks(raw.new_tensor(float(len(raw))))
        return self.iou_head.loss(raw, ious, labels, count)

    # --- refinement ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def refine(
        self,
        images: Sequence[Tensor],
        boxes: Sequence[Tensor],
        scores: Sequence[Tensor],
        labels: Sequence[Tensor],
        *,
        guide: str | None = None,
        iou_threshold: float = 0.5,
        score_threshold: float | None = None,
        max_per_image: int = 100,
        step_size: float | None = None,
        num_steps: int = 5,
        omega_1: float = 0.001,
        omega_2: float = -0.01,
        rescore: bool = True,
    ) -> list[Detections]:
        """Refines the boxes of a batch of images: NMS (unless it is done), movement, new scores.

        Args:
            images: per image ``Tensor[3, h, w]``, RGB from 0 to 255. Those that :meth:`padded` finds of one size make
                a batch without wasted computation.
            boxes: per image ``Tensor[K, 4]`` of (x1, y1, x2, y2), in pixels of the image.
            scores: per image ``Tensor[K]``, class scores from 0 to 1.
            labels: per image ``LongTensor[K]``. Of a class-agnostic model any numbers from 0 on: boxes of different
                labels do not suppress each other.
            guide: what orders boxes in NMS, as of :func:`iounet.core.iou_guided_nms`; ``None``: the boxes are those
                after NMS already, and none is suppressed.
            iou_threshold: of NMS.
            score_threshold: drop boxes with a class score below it first; ``None``: none.
            max_per_image: only so many boxes of an image, those of the highest scores, are refined; the others are
                dropped.
            step_size: λ (section 3.2), in pixels of the network's input, about; ``None``: this model's.
            num_steps: T, the largest number of steps; 0 moves nothing.
            omega_1: early-stop threshold; see :func:`iounet.core.refine_boxes`.
            omega_2: tolerance of degradation.
            rescore: multiply the class scores with the IoU predicted where a box ends.

        Returns:
            Per image :class:`iounet.core.Detections` on the CPU, highest score first: boxes in pixels of the image, not
            clipped to it.

        Raises:
            ValueError: if the lists are not of one length or the shapes do not agree.
        """
        _check(images, boxes, scores, labels, None if self.iou_head.class_agnostic else len(self.categories))
        was_training = self.training
        self.eval()
        try:
            prepared = self.prepare(images)
            found, image_index = self._gathered(prepared, boxes, scores, labels)
            if score_threshold is not None:
                (high,) = torch.where(found.scores >= score_threshold)
                found, image_index = found.take(high), image_index[high]
            maps = self.features(prepared.images)
            if guide is not None:
                found, image_index = self._suppressed(maps, found, image_index, guide, iou_threshold)
            found, image_index = best_of_each_image(found, image_index, max_per_image)
            rois, ious = self.move(
                maps,
                as_rois(image_index, found.boxes),
                found.labels,
                step_size=step_size,
                num_steps=num_steps,
                omega_1=omega_1,
                omega_2=omega_2,
            )
        finally:
            self.train(was_training)
        moved = rois[:, 1:] / prepared.factors[image_index]
        found, image_index = in_order(found._replace(boxes=moved, ious=ious), image_index, rescore=rescore)
        found, image_index = Detections(*(field.cpu() for field in found)), image_index.cpu()
        return of_each_image(found, image_index, len(images), -1)

    @torch.no_grad()
    def move(
        self,
        maps: Sequence[Tensor],
        rois: Tensor,
        labels: Tensor,
        *,
        step_size: float | None = None,
        num_steps: int = 5,
        omega_1: float = 0.001,
        omega_2: float = -0.01,
        trace: list[tuple[Tensor, Tensor]] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Moves boxes uphill on their predicted IoU; what :meth:`refine` does of this kind.

        Args:
            maps: of :meth:`features`.
            rois: ``Tensor[K, 5]`` of (image index, x1, y1, x2, y2), in pixels of the network's input.
            labels: ``LongTensor[K]``, the class of each box.
            step_size: see :meth:`refine`, like the next three.
            num_steps: see there.
            omega_1: see there.
            omega_2: see there.
            trace: see :func:`iounet.core.refine_boxes`.

        Returns:
            ``Tensor[K, 5]`` RoIs and ``Tensor[K]`` their predicted IoUs.
        """
        return refine_rois(
            self._pool,
            maps,
            rois,
            self.iou_head.of_labels(labels),
            coordinate_gradient=self._pool.coordinate_gradient,
            step_size=self.step_size if step_size is None else step_size,
            num_steps=num_steps,
            omega_1=omega_1,
            omega_2=omega_2,
            trace=trace,
        )

    def _gathered(
        self, prepared: Prepared, boxes: Sequence[Tensor], scores: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> tuple[Detections, Tensor]:
        """All boxes of a batch in pixels of the network's input, without IoUs yet, and ``LongTensor[K]`` images."""
        device = self._device
        counts = torch.tensor([len(own) for own in boxes], device=device)
        image_index = torch.arange(len(boxes), device=device).repeat_interleave(counts)
        together = torch.cat([own.to(device, torch.float32) for own in boxes]) * prepared.factors[image_index]
        confidence = torch.cat([own.to(device, torch.float32) for own in scores])
        classes = torch.cat([own.to(device, torch.int64) for own in labels])
        return Detections(together, confidence, classes, torch.zeros_like(confidence)), image_index

    def _suppressed(
        self, maps: Sequence[Tensor], found: Detections, image_index: Tensor, guide: str, iou_threshold: float
    ) -> tuple[Detections, Tensor]:
        """What NMS keeps: guided by the IoUs predicted where the boxes are, which is all that they are needed for."""
        if guide != "none":
            rois = as_rois(image_index, found.boxes)
            found = found._replace(ious=self.predict_iou(maps, rois, found.labels))
        return suppress_in_images(found, image_index, iou_threshold, guide)

    # --- files --------------------------------------------------------------------------------------------------------

    def contents(self) -> dict[str, Any]:
        """All of the model as tensors and plain data, for ``torch.save``; see :meth:`load`."""
        weights = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        return {"format": FORMAT, "version": VERSION, "config": self.config, "state_dict": weights}

    def save(self, path: str | Path) -> None:
        """Writes one file that needs no other: weights, config, names of the classes. Whole, or not at all."""
        path = Path(path)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                torch.save(self.contents(), file)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @staticmethod
    def load(path: str | Path, device: str | torch.device = "cpu") -> IoURefiner:
        """A refiner as it was saved, in evaluation mode. The file is read as data: no code in it is run.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no refiner, or a damaged one; names the file.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a file may hold
            raise ValueError(
                f"{path} is not a readable file of weights ({path.stat().st_size} bytes): {error}"
            ) from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            keys = f", but {', '.join(map(str, list(found)[:4]))}" if isinstance(found, dict) else ""
            raise ValueError(f"{path} holds no refiner{keys}: it must be what IoURefiner.save wrote")
        if found["version"] > VERSION:
            raise ValueError(
                f"{path} is of version {found['version']}, and this iounet reads up to {VERSION}: install a newer one"
            )
        try:
            refiner = IoURefiner(**found["config"])
            refiner.load_state_dict(found["state_dict"])
        except Exception as error:
            what = " ".join(str(error).split("\n\t")[:2])  # torch lists every weight
            raise ValueError(f"{path} is damaged: {what}") from error
        return refiner.to(device).eval()

    @property
    def _limits(self) -> tuple[int, int] | None:
        size = self.config["image_size"]
        return None if size is None else (size[0], size[1])

    @property
    def _device(self) -> torch.device:
        return self.iou_head.fc_iou.weight.device


def _plain(value: Any) -> Any:
    """Plain data of plain data: mappings become dicts, sequences lists."""
    if isinstance(value, Mapping):
        return {key: _plain(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(own) for own in value]
    return value


def _check(
    images: Sequence[Tensor],
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    labels: Sequence[Tensor],
    num_classes: int | None,
) -> None:
    for name, values in (("boxes", boxes), ("scores", scores), ("labels", labels)):
        if len(values) != len(images):
            raise ValueError(f"{name} must be of {len(images)} images like images, got {len(values)}")
    for number, (own, confidence, classes) in enumerate(zip(boxes, scores, labels, strict=True)):
        if own.ndim != 2 or own.shape[1] != 4:
            raise ValueError(f"boxes[{number}] must have shape [K, 4], got {list(own.shape)}")
        for name, tensor in (("scores", confidence), ("labels", classes)):
            if tensor.shape != own.shape[:1]:
                raise ValueError(
                    f"{name}[{number}] must have shape [{len(own)}] like boxes[{number}], got {list(tensor.shape)}"
                )
        least = int(classes.min()) if len(classes) else 0
        most = int(classes.max()) if len(classes) else 0
        if least < 0 or (num_classes is not None and most >= num_classes):
            limit = "0 or more" if num_classes is None else f"from 0 to {num_classes - 1}"
            raise ValueError(f"labels[{number}] must be {limit}, got {least if least < 0 else most}")

"""The RoI head of IoU-Net: R-CNN, and a branch that predicts IoUs to guide NMS and to refine boxes.

Shapes: N images, K candidates (boxes) of all images, C foreground classes, M detections of all images.
Boxes are (x1, y1, x2, y2) in pixels of the network's input.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.core import (
    MaxIoUAssigner,
    OHEMSampler,
    PseudoSampler,
    ScoreHLRSampler,
    bbox2roi,
    build_assigner,
    build_sampler,
)
from mmdet.models import HEADS, StandardRoIHead
from mmdet.models.builder import build_head
from torch import Tensor

from iounet.core.boxes import as_rois, box_iou, clip_boxes
from iounet.core.detections import Candidates, Detections, in_order, of_each_image, rank_in_image, suppress
from iounet.core.iou_head import HiddenLayers, Prediction
from iounet.core.refine import refine_rois
from iounet.core.roi_generator import RoIGenerator
from iounet.models._test_cfg import read_iou_cfg
from iounet.models.prroi_extractor import PrRoIExtractor


@HEADS.register_module()
class IoURoIHead(StandardRoIHead):
    """``StandardRoIHead`` with an IoU branch on the box branch's RoI extractor.

    Args:
        bbox_roi_extractor: of both branches; differentiable in the RoIs if boxes are to be refined
            (``PrRoIExtractor``).
        bbox_head: as in mmdet.
        iou_head: config of :class:`iounet.models.IoUHead`.
        roi_generator: arguments of :class:`iounet.core.RoIGenerator`; needed for training only.
        train_cfg: ``train_cfg.rcnn``: ``bbox_assigner``, ``bbox_sampler``, ``iou_assigner``, ``iou_sampler``,
            ``pos_weight``, ``debug``.
        test_cfg: ``test_cfg.rcnn``: as in mmdet, and ``iou = dict(nms=dict(multiclass, iou_threshold, guide),
            refine=dict(pre_refine, t, omega_1, omega_2, lamb, use_iou_score), fc_dtype)``. Without ``iou`` the head
            tests as ``StandardRoIHead`` does; without ``refine`` there is NMS only. ``fc_dtype`` ('float32' by default)
            may be 'bfloat16' or 'float16': the precision of the IoU head's hidden layers, and of nothing else.
        pretrained: not used; mmdet passes it to every RoI head.
        init_cfg: as in mmdet.

    Raises:
        ValueError: for missing or unknown keys or values in the configs.
    """

    def __init__(
        self,
        bbox_roi_extractor: Mapping[str, Any],
        bbox_head: Mapping[str, Any],
        iou_head: Mapping[str, Any],
        roi_generator: Mapping[str, Any] | None = None,
        train_cfg: Any = None,
        test_cfg: Any = None,
        pretrained: Any = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(
            bbox_roi_extractor=bbox_roi_extractor,
            bbox_head=bbox_head,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        read_iou_cfg(test_cfg)
        require_plain_bbox_head(self.bbox_head)
        if train_cfg and roi_generator is None:
            raise ValueError("roi_head: roi_generator is missing: training draws its IoU RoIs from it")
        self.roi_generator = None if roi_generator is None else RoIGenerator(**roi_generator)
        self.iou_head = build_head(iou_head)
        if self.iou_head.num_classes != self.bbox_head.num_classes:
            raise ValueError(
                f"roi_head: iou_head.num_classes={self.iou_head.num_classes} differs from "
                f"bbox_head.num_classes={self.bbox_head.num_classes}"
            )

    def init_assigner_sampler(self) -> None:
        """Assigner and sampler of both branches."""
        self.bbox_assigner: Any = None
        self.bbox_sampler: Any = None
        self.iou_assigner: Any = None
        self.iou_sampler: Any = None
        if self.train_cfg:
            for key in ("bbox_assigner", "bbox_sampler", "iou_assigner", "iou_sampler"):
                if self.train_cfg.get(key) is None:
                    raise ValueError(f"train_cfg.rcnn.{key} is missing: IoURoIHead needs it for training")
            self.bbox_assigner = build_assigner(self.train_cfg.bbox_assigner)
            self.bbox_sampler = build_sampler(self.train_cfg.bbox_sampler, context=self)
            self.iou_assigner = build_assigner(self.train_cfg.iou_assigner)
            self.iou_sampler = build_sampler(self.train_cfg.iou_sampler, context=self)
            require_sampler(self.bbox_sampler, "train_cfg.rcnn.bbox_sampler", ScoreHLRSampler)
            require_sampler(self.iou_sampler, "train_cfg.rcnn.iou_sampler", ScoreHLRSampler, OHEMSampler)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Accepts the random table that checkpoints of the published reproduction carry; it is not used."""
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *args, **kwargs)
        unexpected = args[1]
        unexpected[:] = [key for key in unexpected if key != prefix + "roi_generator.delta"]

    # --- training -----------------------------------------------------------------------------------------------------

    def _bbox_forward_train(
        self,
        x: Sequence[Tensor],
        sampling_results: Sequence[Any],
        gt_bboxes: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
        img_metas: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """The parent's losses, and those of the IoU branch; one call pools the RoIs of both."""
        rois = bbox2roi([result.bboxes for result in sampling_results])
        iou_rois, target_ious, iou_labels = self._iou_targets(gt_bboxes, gt_labels, img_metas)
        features = self._pool(x, torch.cat([rois, iou_rois]))
        bbox_features, iou_features = features.split([len(rois), len(iou_rois)])
        cls_score, bbox_pred = self.bbox_head(bbox_features)
        targets = self.bbox_head.get_targets(sampling_results, gt_bboxes, gt_labels, self.train_cfg)
        losses = self.bbox_head.loss(cls_score, bbox_pred, rois, *targets)
        losses.update(self.iou_head.loss(self.iou_head(iou_features), target_ious, iou_labels))
        return {"cls_score": cls_score, "bbox_pred": bbox_pred, "bbox_feats": bbox_features, "loss_bbox": losses}

    @torch.no_grad()
    def _iou_targets(
        self,
        gt_bboxes: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
        img_metas: Sequence[Mapping[str, Any]],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``Tensor[R, 5]`` RoIs around ground truth, their IoUs with the one assigned to them, and its labels."""
        assert self.roi_generator is not None
        rois = self.roi_generator.generate_rois(gt_bboxes, [meta["img_shape"] for meta in img_metas])
        boxes, labels = torch.cat(list(gt_bboxes)), torch.cat(list(gt_labels))
        if _assigns_each_roi_alone(self.iou_assigner, self.iou_sampler):
            overlaps = self.iou_assigner.iou_calculator(boxes, rois[:, 1:])
            owner = torch.cat([box.new_full((len(box),), image) for image, box in enumerate(gt_bboxes)])
            overlaps = overlaps.masked_fill(owner[:, None] != rois[:, 0], -1)
            gt_index = self.iou_assigner.assign_wrt_overlaps(overlaps).gt_inds - 1
            chosen = (gt_index >= 0).nonzero()[:, 0]
            rois, gt_index = rois[chosen], gt_index[chosen]
        else:
            rois, gt_index = self._assign_image_by_image(rois, gt_bboxes, gt_labels)
        return rois, box_iou(rois[:, 1:], boxes[gt_index]), labels[gt_index]

    def _assign_image_by_image(
        self, rois: Tensor, gt_bboxes: Sequence[Tensor], gt_labels: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """``Tensor[R', 5]`` RoIs that the sampler takes, and each one's index into the ground truth of the batch."""
        taken, gt_index, offset = [], [], 0
        for image, (boxes, labels) in enumerate(zip(gt_bboxes, gt_labels, strict=True)):
            drawn = rois[rois[:, 0] == image, 1:]
            if len(drawn) == 0:
                taken.append(drawn)
            else:
                assignment = self.iou_assigner.assign(drawn, boxes, None, labels)
                result = self.iou_sampler.sample(assignment, drawn, boxes, labels)
                taken.append(result.pos_bboxes)
                gt_index.append(result.pos_assigned_gt_inds + offset)
            offset += len(boxes)
        return bbox2roi(taken), torch.cat([torch.zeros(0, dtype=torch.long, device=rois.device), *gt_index])

    # --- inference ----------------------------------------------------------------------------------------------------

    def simple_test_bboxes(
        self,
        x: Sequence[Tensor],
        img_metas: Sequence[Mapping[str, Any]],
        proposals: Sequence[Tensor],
        rcnn_test_cfg: Any,
        rescale: bool = False,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Detections in mmdet's form; ``rcnn_test_cfg`` may differ from the one the head was built with.

        Returns:
            per image ``Tensor[M, 5]`` of (x1, y1, x2, y2, score), in pixels of the original image if ``rescale``; and
            ``LongTensor[M]`` labels.
        """
        branch = read_iou_cfg(rcnn_test_cfg)
        if branch is None:
            return super().simple_test_bboxes(x, img_metas, proposals, rcnn_test_cfg, rescale=rescale)
        nms, refine, fc_dtype = branch
        layers = self.iou_head.cast(fc_dtype)
        score_thr, max_per_img = rcnn_test_cfg.score_thr, rcnn_test_cfg.max_per_img
        candidates = self.candidates(x, proposals, img_metas, score_thr)
        predicted = self.score(x, candidates, layers)
        detections = self.select(
            x, candidates, predicted, **nms, score_thr=score_thr, refine=refine, max_per_img=max_per_img
        )
        boxes = [image.boxes for image in detections]
        if rescale:
            factors = [meta["scale_factor"] for meta in img_metas]
            boxes = [box / box.new_tensor(factor) for box, factor in zip(boxes, factors, strict=True)]
        scores = [image.scores[:, None] for image in detections]
        return (
            [torch.cat(pair, dim=1) for pair in zip(boxes, scores, strict=True)],
            [image.labels for image in detections],
        )

    @torch.no_grad()
    def candidates(
        self,
        x: Sequence[Tensor],
        proposal_list: Sequence[Tensor],
        img_metas: Sequence[Mapping[str, Any]],
        score_thr: float | None = None,
    ) -> Candidates:
        """R-CNN on the proposals of a batch.

        Args:
            x: feature maps, ``Tensor[N, C', H, W]`` per level.
            proposal_list: per image ``Tensor[P, 4 or 5]``.
            img_metas: per image, with ``img_shape``.
            score_thr: leave out boxes with no class score of at least this much: nothing after would keep them.
                ``None`` is ``test_cfg``'s.
        """
        score_thr = self.test_cfg.score_thr if score_thr is None else score_thr
        rois = bbox2roi(proposal_list)
        result = self._bbox_forward(x, rois)
        logits = result["cls_score"]
        if self.bbox_head.custom_activation:  # SeesawLoss
            class_scores = self.bbox_head.loss_cls.get_activation(logits)[:, :-1]
        else:
            class_scores = logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))[:, :-1]
        best_score, best_label = class_scores.max(1)
        boxes = self.bbox_head.regress_by_class(rois[:, 1:], best_label, result["bbox_pred"], {"img_shape": None})
        image_index = rois[:, 0].long()
        shapes = torch.tensor([meta["img_shape"][:2] for meta in img_metas], device=boxes.device)
        boxes = clip_boxes(boxes, shapes[image_index])
        possible = best_score >= score_thr
        return Candidates(boxes[possible], class_scores[possible], image_index[possible], len(proposal_list))

    @torch.no_grad()
    def score(self, x: Sequence[Tensor], candidates: Candidates, layers: HiddenLayers | None = None) -> Prediction:
        """The predicted IoU of every candidate, for every class; by layers of :meth:`IoUHead.cast` if given."""
        return self.iou_head.predict(self._pool(x, as_rois(candidates.image_index, candidates.boxes)), layers)

    @torch.no_grad()
    def select(
        self,
        x: Sequence[Tensor],
        candidates: Candidates,
        predicted: Prediction,
        *,
        multiclass: bool = True,
        iou_threshold: float = 0.5,
        guide: str = "rank",
        score_thr: float = 0.05,
        refine: Mapping[str, Any] | None = None,
        max_per_img: int = 100,
    ) -> list[Detections]:
        """From scored candidates to detections: NMS, :meth:`refine`, and the best of each image.

        Args:
            x: feature maps.
            candidates: of :meth:`candidates`, with a ``score_thr`` no higher than the one here.
            predicted: of :meth:`score`.
            multiclass: see :func:`iounet.core.detections.suppress`, also for the next three.
            iou_threshold: NMS.
            guide: NMS.
            score_thr: NMS.
            refine: keyword arguments of :meth:`refine`, or ``None`` for NMS only.
            max_per_img: largest number of detections per image; negative for all.

        Returns:
            :class:`Detections` per image, highest score first.
        """
        detections, rows = suppress(
            candidates,
            predicted.ious,
            multiclass=multiclass,
            iou_threshold=iou_threshold,
            guide=guide,
            score_thr=score_thr,
        )
        image_index = candidates.image_index[rows]
        if refine is not None:
            hidden = [layer[rows] for layer in predicted.hidden]
            detections, image_index = self.refine(
                x, detections, image_index, hidden=hidden, layers=predicted.layers, **refine
            )
        return of_each_image(detections, image_index, candidates.num_images, max_per_img)

    @torch.no_grad()
    def refine(
        self,
        x: Sequence[Tensor],
        detections: Detections,
        image_index: Tensor,
        *,
        use_iou_score: bool = True,
        **movement: Any,
    ) -> tuple[Detections, Tensor]:
        """:meth:`move`, then the new order; the boxes that are not moved are dropped.

        Args:
            x: feature maps.
            detections: M boxes image by image, highest score first.
            image_index: ``LongTensor[M]``, ascending.
            use_iou_score: multiply the scores with the IoUs predicted where the boxes end.
            movement: other arguments of :meth:`move`.

        Returns:
            Detections image by image, highest score first, not clipped to the image; and ``LongTensor[M']``.
        """
        return in_order(*self.move(x, detections, image_index, **movement), rescore=use_iou_score)

    @torch.no_grad()
    def move(
        self,
        x: Sequence[Tensor],
        detections: Detections,
        image_index: Tensor,
        *,
        pre_refine: int = 100,
        t: int = 5,
        omega_1: float = 0.001,
        omega_2: float = -0.01,
        lamb: float = 0.5,
        hidden: Sequence[Tensor] | None = None,
        layers: HiddenLayers | None = None,
        trace: list[tuple[Tensor, Tensor]] | None = None,
    ) -> tuple[Detections, Tensor]:
        """Move the first boxes of each image; see :func:`iounet.core.refine_boxes`. The others are dropped.

        Args:
            x: feature maps.
            detections: M boxes image by image, highest score first.
            image_index: ``LongTensor[M]``, ascending.
            pre_refine: how many boxes of each image to move.
            t: largest number of steps.
            omega_1: stop a box after a step that changes its IoU by less.
            omega_2: stop a box after a step that changes its IoU by less than this, downwards (negative).
            lamb: λ, the step size.
            hidden: ``Tensor[M, width]`` per layer, of the pass that predicted ``detections.ious``: it is then not
                repeated for the first step.
            layers: of :meth:`IoUHead.cast`; ``None``: the head's own.
            trace: see :func:`iounet.core.refine_boxes`; its rows are those of the result.

        Returns:
            The first detections of each image in their order and with their scores: boxes where they end, not clipped
            to the image, and the IoUs predicted there; and ``LongTensor[M']``, their images.
        """
        if len(image_index) > pre_refine:  # else there are no more of any image
            (first,) = torch.where(rank_in_image(image_index) < pre_refine)
            detections, image_index = detections.take(first), image_index[first]
            hidden = None if hidden is None else [layer[first] for layer in hidden]
        pool = self._extractor
        rois = as_rois(image_index, detections.boxes)
        states: list[tuple[Tensor, Tensor]] = []
        rois, ious = refine_rois(
            pool,
            self._levels(x),
            rois,
            self.iou_head.of_labels(detections.labels, layers),
            coordinate_gradient=pool.coordinate_gradient if isinstance(pool, PrRoIExtractor) else None,
            known=None if hidden is None else (detections.ious, hidden),
            step_size=lamb,
            num_steps=t,
            omega_1=omega_1,
            omega_2=omega_2,
            trace=None if trace is None else states,
        )
        if trace is not None:
            trace.extend((state[:, 1:], predicted) for state, predicted in states)
        return Detections(rois[:, 1:], detections.scores, detections.labels, ious), image_index

    def aug_test(self, *args: Any, **kwargs: Any) -> Any:
        """As in mmdet with the IoU branch off; not there with the branch on."""
        require_branch_off(self, "test-time augmentation")
        return super().aug_test(*args, **kwargs)

    def async_simple_test(self, *args: Any, **kwargs: Any) -> Any:
        """As in mmdet with the IoU branch off; not there with the branch on."""
        require_branch_off(self, "async testing")
        return super().async_simple_test(*args, **kwargs)

    def onnx_export(self, *args: Any, **kwargs: Any) -> Any:
        """As in mmdet with the IoU branch off; not there with the branch on."""
        require_branch_off(self, "export to ONNX")
        return super().onnx_export(*args, **kwargs)

    def forward_dummy(self, x: Sequence[Tensor], proposals: Tensor) -> tuple[Tensor, ...]:
        """As in mmdet, for counting operations; with the IoU branch on, also the IoUs of the proposals."""
        return (*super().forward_dummy(x, proposals), *self._dummy_ious(x, proposals))

    def _dummy_ious(self, x: Sequence[Tensor], proposals: Tensor) -> list[Tensor]:
        if read_iou_cfg(self.test_cfg) is None:
            return []
        return [self.iou_head.predict(self._pool(x, bbox2roi([proposals]))).ious]

    @property
    def _extractor(self) -> Any:
        """Of the IoU branch."""
        return self.bbox_roi_extractor

    def _levels(self, x: Sequence[Tensor]) -> Sequence[Tensor]:
        return x[: self._extractor.num_inputs]

    def _pool(self, x: Sequence[Tensor], rois: Tensor) -> Tensor:
        return self._extractor(self._levels(x), rois)


def require_branch_off(head: Any, what: str) -> None:
    """Refuses to leave the IoU branch of a head out in silence. Raises `NotImplementedError`."""
    if read_iou_cfg(head.test_cfg) is not None:
        raise NotImplementedError(
            f"{type(head).__name__}: {what} is not implemented for the IoU branch; use `simple_test` (a test pipeline "
            "with one scale and no flip), or remove test_cfg.rcnn.iou to use the R-CNN branch alone"
        )


def require_plain_bbox_head(bbox_head: Any) -> None:
    """Refuses box heads that are called otherwise than with the features of RoIs. Raises `ValueError`."""
    parameters = inspect.signature(bbox_head.forward).parameters.values()
    needed = [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    if len(needed) != 1:
        raise ValueError(
            f"roi_head.bbox_head.type={type(bbox_head).__name__!r} takes {', '.join(needed)}, and not the features of "
            "RoIs alone: use a head such as Shared2FCBBoxHead"
        )


def require_sampler(sampler: Any, key: str, *refused: type) -> None:
    """Refuses samplers that need more than boxes and ground truth, or give more than samples. Raises `ValueError`."""
    if isinstance(sampler, refused):
        raise ValueError(f"{key}.type={type(sampler).__name__!r} is not supported: use RandomSampler or PseudoSampler")


def _assigns_each_roi_alone(assigner: Any, sampler: Any) -> bool:
    """Whether assigning the RoIs of all images at once gives what image by image does."""
    return type(assigner) is MaxIoUAssigner and assigner.gpu_assign_thr <= 0 and type(sampler) is PseudoSampler

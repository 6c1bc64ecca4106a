"""IoU-Net on Cascade R-CNN (paper, section 4): the boxes of the last stage are scored, guide NMS and are refined.

Shapes as in ``iou_roi_head``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.core import OHEMSampler, ScoreHLRSampler, bbox2result, bbox2roi, build_assigner, build_sampler
from mmdet.models import HEADS, CascadeRoIHead
from mmdet.models.builder import build_head, build_roi_extractor
from mmdet.models.roi_heads.base_roi_head import BaseRoIHead
from torch import Tensor

from iounet.core.boxes import clip_boxes
from iounet.core.roi_generator import RoIGenerator
from iounet.models._test_cfg import read_iou_cfg
from iounet.models.detections import Candidates
from iounet.models.iou_roi_head import (
    IoURoIHead,
    require_branch_off,
    require_plain_bbox_head,
    require_sampler,
)


@HEADS.register_module()
class CascadeIoURoIHead(CascadeRoIHead, IoURoIHead):
    """``CascadeRoIHead`` for the stages, and the IoU branch of ``IoURoIHead`` on an RoI extractor of its own.

    A checkpoint of mmdet's Cascade R-CNN has all of its parameters but those of ``iou_head``.

    Args:
        num_stages: as in mmdet, like the next three.
        stage_loss_weights: of the stages; the IoU branch has the weight of its loss.
        bbox_roi_extractor: of the stages, e.g. RoIAlign.
        bbox_head: of each stage.
        iou_roi_extractor: of the IoU branch; differentiable in the RoIs if boxes are to be refined.
        iou_head: config of :class:`iounet.models.IoUHead`.
        iou_assigner: assigns the RoIs of the IoU branch to ground truth; needed for training only, like the next two.
        iou_sampler: takes the assigned ones.
        roi_generator: arguments of :class:`iounet.core.RoIGenerator`.
        train_cfg: ``train_cfg.rcnn``, of each stage, as in mmdet.
        test_cfg: ``test_cfg.rcnn``, as for :class:`iounet.models.IoURoIHead`.
        pretrained: not used; mmdet passes it to every RoI head.
        init_cfg: as in mmdet.

    Raises:
        ValueError: for missing or unknown keys or values in the configs.
    """

    def __init__(
        self,
        num_stages: int,
        stage_loss_weights: Sequence[float],
        bbox_roi_extractor: Mapping[str, Any],
        bbox_head: Sequence[Mapping[str, Any]],
        iou_roi_extractor: Mapping[str, Any],
        iou_head: Mapping[str, Any],
        iou_assigner: Mapping[str, Any] | None = None,
        iou_sampler: Mapping[str, Any] | None = None,
        roi_generator: Mapping[str, Any] | None = None,
        train_cfg: Any = None,
        test_cfg: Any = None,
        pretrained: Any = None,
        init_cfg: Any = None,
    ) -> None:
        self.num_stages, self.stage_loss_weights = num_stages, stage_loss_weights
        BaseRoIHead.__init__(
            self,
            bbox_roi_extractor=bbox_roi_extractor,
            bbox_head=bbox_head,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        read_iou_cfg(test_cfg)
        needed = {"roi_generator": roi_generator, "iou_assigner": iou_assigner, "iou_sampler": iou_sampler}
        missing = [key for key, value in needed.items() if value is None]
        if train_cfg and missing:
            raise ValueError(f"roi_head: {missing[0]} is missing: CascadeIoURoIHead needs it for training")
        self.roi_generator = None if roi_generator is None else RoIGenerator(**roi_generator)
        self.iou_assigner = None if iou_assigner is None else build_assigner(iou_assigner)
        self.iou_sampler = None if iou_sampler is None else build_sampler(iou_sampler, context=self)
        require_sampler(self.iou_sampler, "roi_head.iou_sampler", ScoreHLRSampler, OHEMSampler)
        for head in self.bbox_head:
            require_plain_bbox_head(head)
            if head.custom_activation:
                raise ValueError(
                    "roi_head.bbox_head.loss_cls: the mean of the stages is of softmax scores; no SeesawLoss"
                )
        self.iou_roi_extractor = build_roi_extractor(iou_roi_extractor)
        self.iou_head = build_head(iou_head)
        if self.iou_head.num_classes != self.bbox_head[-1].num_classes:
            raise ValueError(
                f"roi_head: iou_head.num_classes={self.iou_head.num_classes} differs from "
                f"bbox_head.num_classes={self.bbox_head[-1].num_classes}"
            )

    def forward_train(
        self,
        x: Sequence[Tensor],
        img_metas: Sequence[Mapping[str, Any]],
        proposal_list: Sequence[Tensor],
        gt_bboxes: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
        gt_bboxes_ignore: Any = None,
        gt_masks: Any = None,
    ) -> dict[str, Tensor]:
        """The losses of the stages, and those of the IoU branch."""
        losses = super().forward_train(x, img_metas, proposal_list, gt_bboxes, gt_labels, gt_bboxes_ignore, gt_masks)
        rois, target_ious, labels = self._iou_targets(gt_bboxes, gt_labels, img_metas)
        losses.update(self.iou_head.loss(self.iou_head(self._pool(x, rois)), target_ious, labels))
        return losses

    def simple_test(
        self,
        x: Sequence[Tensor],
        proposal_list: Sequence[Tensor],
        img_metas: Sequence[Mapping[str, Any]],
        rescale: bool = False,
    ) -> list[Any]:
        """Detections per image and class, as mmdet has them."""
        if read_iou_cfg(self.test_cfg) is None:
            return super().simple_test(x, proposal_list, img_metas, rescale=rescale)
        boxes, labels = self.simple_test_bboxes(x, img_metas, proposal_list, self.test_cfg, rescale=rescale)
        return [bbox2result(*image, self.iou_head.num_classes) for image in zip(boxes, labels, strict=True)]

    def simple_test_bboxes(
        self,
        x: Sequence[Tensor],
        img_metas: Sequence[Mapping[str, Any]],
        proposals: Sequence[Tensor],
        rcnn_test_cfg: Any,
        rescale: bool = False,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """See :meth:`IoURoIHead.simple_test_bboxes`; with the IoU branch off, those of the last stage."""
        if read_iou_cfg(rcnn_test_cfg) is not None:
            return super().simple_test_bboxes(x, img_metas, proposals, rcnn_test_cfg, rescale=rescale)
        found = []
        for index, (rois, logits, deltas) in enumerate(self._run_stages(x, proposals, img_metas)):
            meta = img_metas[index]
            place = {"img_shape": meta["img_shape"], "scale_factor": meta["scale_factor"], "rescale": rescale}
            found.append(self.bbox_head[-1].get_bboxes(rois, logits, deltas, **place, cfg=rcnn_test_cfg))
        boxes, labels = zip(*found, strict=True)
        return list(boxes), list(labels)

    def aug_test(self, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`IoURoIHead.aug_test`."""
        require_branch_off(self, "test-time augmentation")
        return super().aug_test(*args, **kwargs)

    def onnx_export(self, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`IoURoIHead.onnx_export`."""
        require_branch_off(self, "export to ONNX")
        return super().onnx_export(*args, **kwargs)

    def forward_dummy(self, x: Sequence[Tensor], proposals: Tensor) -> tuple[Tensor, ...]:
        """See :meth:`IoURoIHead.forward_dummy`; of all stages."""
        return (*super().forward_dummy(x, proposals), *self._dummy_ious(x, proposals))

    @torch.no_grad()
    def candidates(
        self,
        x: Sequence[Tensor],
        proposal_list: Sequence[Tensor],
        img_metas: Sequence[Mapping[str, Any]],
        score_thr: float | None = None,
    ) -> Candidates:
        """Boxes of the last stage with the class scores of all stages; see :meth:`IoURoIHead.candidates`."""
        score_thr = self.test_cfg.score_thr if score_thr is None else score_thr
        images = []
        for index, (rois, logits, deltas) in enumerate(self._run_stages(x, proposal_list, img_metas)):
            scores = logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))[:, :-1]
            best_score, best_label = scores.max(1)
            boxes = self.bbox_head[-1].regress_by_class(rois[:, 1:], best_label, deltas, {"img_shape": None})
            boxes = clip_boxes(boxes, img_metas[index]["img_shape"])
            possible = best_score >= score_thr
            images.append((boxes[possible], scores[possible], rois[possible, 0]))
        boxes, scores, image_index = (torch.cat(parts) for parts in zip(*images, strict=True))
        return Candidates(boxes, scores, image_index.long(), len(proposal_list))

    @torch.no_grad()
    def _run_stages(
        self, x: Sequence[Tensor], proposals: Sequence[Tensor], img_metas: Sequence[Mapping[str, Any]]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Per image: RoIs of the last stage, ``Tensor[P, 5]``; mean class logits of the stages; last regressions."""
        counts = [len(image) for image in proposals]
        rois = bbox2roi(proposals)
        logits: list[Tensor] = []
        for stage in range(self.num_stages):
            result = self._bbox_forward(stage, x, rois)
            logits.append(result["cls_score"])
            if stage < self.num_stages - 1:
                parts = zip(
                    rois.split(counts), logits[-1].split(counts), result["bbox_pred"].split(counts), strict=True
                )
                rois = torch.cat(
                    [
                        self.bbox_head[stage].regress_by_class(own, scores[:, :-1].argmax(1), deltas, meta)
                        for (own, scores, deltas), meta in zip(parts, img_metas, strict=True)
                    ]
                )
        mean = torch.stack(logits).mean(0)
        return list(zip(rois.split(counts), mean.split(counts), result["bbox_pred"].split(counts), strict=True))

    @property
    def _extractor(self) -> Any:
        return self.iou_roi_extractor

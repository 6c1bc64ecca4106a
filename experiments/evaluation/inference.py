"""Running a detector over a split in several inference settings at once.

Features, proposals, R-CNN boxes and predicted IoUs are computed once per batch, NMS once per guide; only refinement is
run per setting.
"""

import functools
from collections.abc import Iterable
from typing import Any

import torch
from mmcv import ConfigDict
from mmcv.parallel import scatter

from experiments.evaluation.diagnostics import Diagnostics
from experiments.evaluation.metrics import DetectionColumns
from iounet.models.detections import Detections, suppress
from suite.settings import Setting


def detect(
    model: torch.nn.Module,
    dataset: Any,
    settings: Iterable[Setting],
    *,
    batch_size: int,
    progress: str | None = None,
    diagnostics: Diagnostics | None = None,
    workers: int = 0,
) -> dict[str, DetectionColumns]:
    """Detections of every setting over a dataset.

    Args:
        model: mmdet two-stage detector in any mode; run in evaluation mode.
        dataset: from `experiments.data.datasets.build_split`.
        settings: any setting but `off` needs an `IoURoIHead`.
        batch_size: images per forward pass.
        progress: label of a progress bar, None for none.
        diagnostics: is shown every batch; needs an `IoURoIHead`.
        workers: processes that load images; 0 = this one.

    Returns:
        Setting name to detections in pixels of the original images.
    """
    from mmdet.datasets import build_dataloader
    from tqdm import tqdm

    settings = list(settings)
    found = {setting.name: DetectionColumns() for setting in settings}
    device = next(model.parameters()).device
    target = -1 if device.type == "cpu" else device.index
    loader = build_dataloader(dataset, batch_size, workers, dist=False, shuffle=False)
    model.eval()
    position = 0
    with torch.no_grad(), tqdm(total=len(dataset), desc=progress, disable=progress is None, unit="image") as bar:
        for batch in loader:
            data = scatter(batch, [target])[0]
            images, metas = data["img"][0], data["img_metas"][0]
            ids = dataset.img_ids[position : position + len(metas)]
            position += len(metas)
            _detect_batch(model, images, metas, settings, ids, dataset.cat_ids, found, diagnostics)
            bar.update(len(metas))
    return found


def _detect_batch(
    model: Any,
    images: torch.Tensor,
    metas: list[dict[str, Any]],
    settings: list[Setting],
    image_ids: list[int],
    category_ids: list[int],
    found: dict[str, DetectionColumns],
    diagnostics: Diagnostics | None,
) -> None:
    features = model.extract_feat(images)
    proposals = model.rpn_head.simple_test_rpn(features, metas)
    head, cfg = model.roi_head, model.roi_head.test_cfg
    candidates: Any = None
    predicted: Any = None

    @functools.cache
    def keep(guide: str) -> tuple[Detections, torch.Tensor]:
        return suppress(candidates, predicted.ious, **{**cfg.iou.nms, "guide": guide}, score_thr=cfg.score_thr)

    if diagnostics is not None or any(setting.guide is not None for setting in settings):
        layers = head.iou_head.cast(cfg.iou.get("fc_dtype", "float32"))
        candidates = head.candidates(features, proposals, metas)
        predicted = head.score(features, candidates, layers)
    if diagnostics is not None:
        diagnostics.add(head, features, metas, image_ids, candidates, predicted.ious, keep)
    for setting in settings:
        own = test_cfg_of(cfg, setting, None)
        if setting.guide is None:
            boxes, labels = head.simple_test_bboxes(features, metas, proposals, own, rescale=True)
            rows = [(b[:, :4], b[:, 4], classes, None) for b, classes in zip(boxes, labels, strict=True)]
        else:
            options = {"refine": own.iou.get("refine"), "max_per_img": cfg.max_per_img}
            detections = head.finish(features, candidates, predicted, keep(setting.guide), **options)
            rows = [
                (d.boxes / d.boxes.new_tensor(meta["scale_factor"]), d.scores, d.labels, d.ious)
                for d, meta in zip(detections, metas, strict=True)
            ]
        for image_id, row in zip(image_ids, rows, strict=True):
            _append(found[setting.name], image_id, category_ids, *row)


def test_cfg_of(cfg: Any, setting: Setting, fc_dtype: str | None) -> ConfigDict:
    """A detector's `test_cfg.rcnn` with an inference setting in place of its own IoU branch.

    `fc_dtype` is that of the IoU head, None = the detector's own.
    """
    own = ConfigDict({key: value for key, value in cfg.items() if key != "iou"})
    if setting.guide is not None:
        fc_dtype = fc_dtype or cfg.iou.get("fc_dtype", "float32")
        own.iou = ConfigDict(nms={**cfg.iou.nms, "guide": setting.guide}, fc_dtype=fc_dtype)
        if setting.step_size is not None:
            refine = {**(cfg.iou.get("refine") or {}), "lamb": setting.step_size.actual, "t": setting.num_steps}
            own.iou.refine = ConfigDict(refine)
    return own


def _append(
    found: DetectionColumns, image_id: int, categories: list[int], boxes: Any, scores: Any, labels: Any, ious: Any
) -> None:
    xyxy = boxes.double().cpu()
    xywh = torch.cat([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], dim=1)
    found.image_id += [int(image_id)] * len(xywh)
    found.category_id += [int(categories[label]) for label in labels.tolist()]
    found.bbox += xywh.tolist()
    found.score += scores.tolist()
    found.iou += [None] * len(xywh) if ious is None else ious.tolist()

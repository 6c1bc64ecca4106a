"""Running a detector over a split in several inference settings at once.

Features, proposals, R-CNN boxes and predicted IoUs are computed once per batch, NMS once per guide, and a refinement
once per guide and λ, whoever asks for it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from mmcv import ConfigDict
from mmcv.parallel import scatter

from experiments.evaluation.batch import Batch
from experiments.evaluation.diagnostics import Diagnostics
from experiments.evaluation.metrics import DetectionColumns
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
        model: mmdet detector in any mode; run in evaluation mode.
        dataset: from `experiments.data.datasets.build_split`.
        settings: any setting but `off` needs an `IoURoIHead`.
        batch_size: images per forward pass.
        progress: label of a progress bar, None for none.
        diagnostics: is shown every batch; needs an `IoURoIHead`.
        workers: processes that load images; 0 = this one.

    Returns:
        Setting name to detections in pixels of the original images.
    """
    settings = list(settings)
    found = {setting.name: DetectionColumns() for setting in settings}
    model.eval()
    with torch.no_grad():
        for images, metas, rows in batches(model, dataset, batch_size, progress, workers):
            ids = dataset.img_ids[rows]
            _detect_batch(model, images, metas, settings, ids, dataset.cat_ids, found, diagnostics)
    return found


def batches(
    model: torch.nn.Module, dataset: Any, batch_size: int, progress: str | None = None, workers: int = 0
) -> Iterator[tuple[torch.Tensor, list[dict[str, Any]], slice]]:
    """Batches of a dataset on a model's device: images, mmdet's `metas` of each, and which of the dataset they are.

    The arguments are those of `detect`.
    """
    from mmdet.datasets import build_dataloader
    from tqdm import tqdm

    device = next(model.parameters()).device
    target = -1 if device.type == "cpu" else device.index
    loader = build_dataloader(dataset, batch_size, workers, dist=False, shuffle=False)
    position = 0
    with tqdm(total=len(dataset), desc=progress, disable=progress is None, unit="image") as bar:
        for batch in loader:
            data = scatter(batch, [target])[0]
            images, metas = data["img"][0], data["img_metas"][0]
            yield images, metas, slice(position, position + len(metas))
            position += len(metas)
            bar.update(len(metas))


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
    if not hasattr(getattr(model, "roi_head", None), "iou_head"):  # `off` is the only setting of such a detector
        for image_id, own in zip(image_ids, detections_of(model, images, metas), strict=True):
            for setting in settings:
                append(found[setting.name], image_id, category_ids, *own, None)
        return
    features = model.extract_feat(images)
    proposals = model.rpn_head.simple_test_rpn(features, metas)
    head = model.roi_head
    guided = diagnostics is not None or any(setting.guide is not None for setting in settings)
    together = Batch(head, features, proposals, metas) if guided else None
    if diagnostics is not None and together is not None:
        diagnostics.add(together, image_ids)
    for setting in settings:
        own = test_cfg_of(head.test_cfg, setting, None)
        if together is None or setting.guide is None:
            boxes, labels = head.simple_test_bboxes(features, metas, proposals, own, rescale=True)
            rows: list[Any] = [(b[:, :4], b[:, 4], classes, None) for b, classes in zip(boxes, labels, strict=True)]
        else:
            rows = [
                (d.boxes / d.boxes.new_tensor(meta["scale_factor"]), d.scores, d.labels, d.ious)
                for d, meta in zip(together.detections(own.iou), metas, strict=True)
            ]
        for image_id, row in zip(image_ids, rows, strict=True):
            append(found[setting.name], image_id, category_ids, *row)


def detections_of(
    model: Any, images: torch.Tensor, metas: list[dict[str, Any]]
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Boxes `Tensor[M, 4]`, scores and labels of each image, highest score first, as a detector itself finds them.

    Args:
        model: any detector of mmdet's, in evaluation mode.
        images: `Tensor[N, 3, H, W]`, of a test pipeline.
        metas: mmdet's, of each image.

    Returns:
        Boxes in pixels of the images as they are in their files.
    """
    found = []
    for arrays in model.simple_test(images, metas, rescale=True):
        rows = torch.cat([torch.from_numpy(array) for array in arrays]).to(images.device)
        counts = torch.tensor([len(array) for array in arrays])
        labels = torch.arange(len(arrays)).repeat_interleave(counts).to(images.device)
        order = rows[:, 4].argsort(descending=True, stable=True)
        found.append((rows[order, :4], rows[order, 4], labels[order]))
    return found


def test_cfg_of(cfg: Any, setting: Setting, fc_dtype: str | None) -> ConfigDict:
    """A detector's `test_cfg.rcnn` with an inference setting in place of its own IoU branch.

    `fc_dtype` is that of the IoU head, None = the detector's own.
    """
    own = ConfigDict({key: value for key, value in cfg.items() if key != "iou"})
    if setting.guide is not None:
        fc_dtype = fc_dtype or cfg.iou.get("fc_dtype", "float32")
        own.iou = ConfigDict(nms={**cfg.iou.nms, "guide": setting.guide}, fc_dtype=fc_dtype)
        refine = ConfigDict(cfg.iou.get("refine") or {})
        if setting.step_size is not None:
            own.iou.refine = ConfigDict(refine, lamb=setting.step_size.actual, t=setting.num_steps)
        if setting.part == "movement":
            own.iou.refine.use_iou_score = False
        if setting.part == "score":
            own.iou.refine = ConfigDict(refine, t=0, use_iou_score=True)
    return own


def append(
    found: DetectionColumns, image_id: int, categories: list[int], boxes: Any, scores: Any, labels: Any, ious: Any
) -> None:
    """Adds the detections of an image, boxes as (x1, y1, x2, y2) in its pixels; `ious` is None where there are none."""
    xyxy = boxes.double().cpu()
    xywh = torch.cat([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], dim=1)
    found.image_id += [int(image_id)] * len(xywh)
    found.category_id += [int(categories[label]) for label in labels.tolist()]
    found.bbox += xywh.tolist()
    found.score += scores.tolist()
    found.iou += [None] * len(xywh) if ious is None else ious.tolist()

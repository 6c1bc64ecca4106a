"""An IoU-Net whose draws depend on the image alone: what one process and several need to train on the same RoIs."""

import torch
from mmdet.core import bbox2roi
from mmdet.core.bbox.builder import BBOX_SAMPLERS
from mmdet.core.bbox.samplers import RandomSampler
from mmdet.models import HEADS

from iounet.core import RoIGenerator
from iounet.models import IoURoIHead


def of_image(boxes):
    """A generator seeded by the image's ground truth."""
    return torch.Generator().manual_seed(int(boxes.double().sum() * 1000))


@BBOX_SAMPLERS.register_module()
class PerImageSampler(RandomSampler):
    def sample(self, assign_result, bboxes, gt_bboxes, *args, **kwargs):
        self.generator = of_image(gt_bboxes)
        return super().sample(assign_result, bboxes, gt_bboxes, *args, **kwargs)

    def random_choice(self, gallery, num):
        return gallery[torch.randperm(len(gallery), generator=self.generator)[:num]]


class PerImageGenerator(RoIGenerator):
    def generate_rois(self, gt_bboxes, max_shapes, generator=None):
        shapes = zip(gt_bboxes, max_shapes, strict=True)
        return bbox2roi([self.generate_roi(boxes, shape, of_image(boxes)) for boxes, shape in shapes])


@HEADS.register_module()
class PerImageIoURoIHead(IoURoIHead):
    def __init__(self, *args, roi_generator, **kwargs):
        super().__init__(*args, roi_generator=roi_generator, **kwargs)
        self.roi_generator = PerImageGenerator(**roi_generator)

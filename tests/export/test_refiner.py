from itertools import pairwise

import pytest
import torch

from iounet.export import refiner_of
from iounet.export.check import in_torch
from iounet.export.graph import random_inputs
from iounet.export.pooling import Pooled, Pyramid
from tests.export.conftest import small_config
from tests.models.tiny import build

SIZES = ((2, 40, (96, 128)), (1, 1, (64, 64)), (3, 25, (50, 70)))
HEADS = {
    "smooth L1": {},
    "BCE": {"loss_iou": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 5.0}},
    "class-agnostic": {"class_agnostic": True},
    "three layers": {"fc_channels": [32, 16, 8]},
}


@pytest.mark.parametrize("head", HEADS)
def test_boxes_and_ious_are_those_of_the_detector(head):
    roi_head = build(small_config(**HEADS[head])).roi_head
    refiner = refiner_of(roi_head, step_size=2.0, num_steps=5)
    refiner.omega_1 = 0.003
    generator = torch.Generator().manual_seed(0)
    moved = 0
    for size in SIZES:
        rois, labels, maps = random_inputs(refiner, *size, generator)
        with torch.no_grad():
            boxes, ious = refiner(rois, labels, maps)
        expected, expected_ious, clear = in_torch(roi_head, refiner, rois, labels, maps)
        torch.testing.assert_close(boxes[clear], expected[clear], rtol=0, atol=1e-4)
        torch.testing.assert_close(ious[clear], expected_ious[clear], rtol=0, atol=1e-5)
        moved += int(((boxes - rois[:, 1:]).abs().amax(dim=1) > 1e-3)[clear].sum())
    assert moved > 30


def test_boxes_stop_as_the_detectors_do(roi_head):
    """Some after the first step, some later, some never."""
    refiner = refiner_of(roi_head, step_size=2.0, num_steps=5)
    refiner.omega_1 = 0.003
    inputs = random_inputs(refiner, 2, 60, (96, 128), torch.Generator().manual_seed(3))
    states = []
    for steps in range(1, 6):
        refiner.num_steps = steps
        with torch.no_grad():
            states.append(refiner(*inputs)[0])
        torch.testing.assert_close(states[-1], in_torch(roi_head, refiner, *inputs)[0], rtol=0, atol=1e-4)
    moved = torch.stack([(new != old).any(dim=1) for old, new in pairwise(states)])
    last = moved.sum(dim=0)
    assert {0, 4} <= set(last.tolist()) and len(set(last.tolist())) > 2
    assert (moved[1:] <= moved[:-1]).all()  # a box that has stopped does not move again


@pytest.mark.parametrize("head", HEADS)
def test_the_gradient_written_out_is_that_of_autograd(head):
    iou_head = build(small_config(**HEADS[head])).roi_head.iou_head.double()
    refiner = refiner_of(build(small_config(**HEADS[head])).roi_head)
    rois, labels, maps = random_inputs(refiner, 2, 30, (96, 128), torch.Generator().manual_seed(0))
    leaf = rois.double().requires_grad_()
    pooled = Pooled(Pyramid([level.double() for level in maps], refiner.strides, refiner.level_areas), leaf, (7, 7))
    ious = iou_head.predict_iou(pooled.output, labels)
    (expected,) = torch.autograd.grad(ious.sum(), leaf, retain_graph=True)
    assert (expected[:, 1:].abs().amax(dim=1) > 1e-6).sum() > 20
    with torch.no_grad():
        own_ious, gradient = iou_head.of_labels(labels).with_gradient(pooled.output)
        torch.testing.assert_close(own_ious, ious)
        torch.testing.assert_close(pooled.coordinate_gradient(gradient), expected[:, 1:])


def test_boxes_that_rounding_decides_on_are_told_apart():
    roi_head = build(small_config()).roi_head
    refiner = refiner_of(roi_head, step_size=2.0, num_steps=3)
    inputs = random_inputs(refiner, 1, 9, (96, 128), torch.Generator().manual_seed(0))
    assert in_torch(roi_head, refiner, *inputs)[2].all()
    refiner.num_steps = 1
    first, before = in_torch(roi_head, refiner_of(roi_head, num_steps=0), *inputs)[:2]
    change = in_torch(roi_head, refiner, *inputs)[1] - before
    assert torch.equal(first, inputs[0][:, 1:])
    refiner.omega_1 = float(change[4].abs())
    assert in_torch(roi_head, refiner, *inputs)[2].all()  # nothing follows the only step
    refiner.num_steps = 2
    assert in_torch(roi_head, refiner, *inputs)[2].tolist() == [k != 4 for k in range(9)]
    refiner.omega_1 = 0.001
    layer = roi_head.iou_head.shared_fcs[0]
    with torch.no_grad():
        layer.bias[3] -= layer(roi_head._extractor(inputs[2], inputs[0]).flatten(1))[6, 3]
    assert in_torch(roi_head, refiner, *inputs)[2].tolist() == [k != 6 for k in range(9)]


def test_no_steps_predict_and_move_nothing(roi_head):
    refiner = refiner_of(roi_head, num_steps=0)
    rois, labels, maps = random_inputs(refiner, 2, 20, (96, 128), torch.Generator().manual_seed(0))
    with torch.no_grad():
        boxes, ious = refiner(rois, labels, maps)
        expected = roi_head.iou_head.predict_iou(roi_head._extractor(maps, rois), labels)
    assert torch.equal(boxes, rois[:, 1:])
    torch.testing.assert_close(ious, expected)


def test_what_is_not_said_is_the_configs(roi_head):
    config = small_config()
    config.test_cfg.rcnn.iou.refine = {"t": 3, "lamb": 0.7, "omega_1": 0.002, "omega_2": -0.03}
    refiner = refiner_of(build(config).roi_head)
    assert (refiner.num_steps, refiner.step_size, refiner.omega_1, refiner.omega_2) == (3, 0.7, 0.002, -0.03)
    assert (refiner.strides, refiner.output_size, refiner.channels) == ((4, 8), (7, 7), 4)
    refiner = refiner_of(build(config).roi_head, step_size=0.2, num_steps=1)
    assert (refiner.num_steps, refiner.step_size, refiner.omega_1) == (1, 0.2, 0.002)
    del config.test_cfg.rcnn.iou
    refiner = refiner_of(build(config).roi_head)
    assert (refiner.num_steps, refiner.step_size, refiner.omega_1, refiner.omega_2) == (5, 0.5, 0.001, -0.01)


def test_what_cannot_be_exported_is_refused(roi_head):
    with pytest.raises(ValueError, match="object has no IoU branch to export; it must be an IoURoIHead"):
        refiner_of(object())
    config = small_config()
    config.roi_head.bbox_roi_extractor.roi_layer = {"type": "RoIAlign", "output_size": 7}
    with pytest.raises(ValueError, match="the IoU branch pools with RoIAlign, which has no gradient to the boxes"):
        refiner_of(build(config).roi_head)
    with pytest.raises(ValueError, match="num_steps=-1 must not be negative"):
        refiner_of(roi_head, num_steps=-1)

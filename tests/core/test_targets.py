"""What an IoU head learns, against mmdet's assigner and by hand."""

import torch
from mmdet.core import MaxIoUAssigner

from iounet.core import RoIGenerator, box_iou, iou_targets

GT = [
    torch.tensor([[10.0, 10.0, 40.0, 50.0], [30.0, 20.0, 70.0, 60.0]]),
    torch.zeros(0, 4),
    torch.tensor([[10.0, 10.0, 40.0, 50.0]]),
]
LABELS = [torch.tensor([3, 1]), torch.zeros(0).long(), torch.tensor([2])]


def test_it_assigns_as_mmdet_does():
    generator = torch.Generator().manual_seed(0)
    rois = RoIGenerator(sample_num=400, start_bin=0.3).generate_rois(GT, [(64, 80)] * 3, generator)
    found, ious, labels = iou_targets(rois, GT, LABELS)
    assigner = MaxIoUAssigner(0.5, 0.5, 0.5, match_low_quality=False)
    expected = []
    for image, (boxes, own) in enumerate(zip(GT, LABELS, strict=True)):
        drawn = rois[rois[:, 0] == image]
        if len(boxes):
            index = assigner.assign(drawn[:, 1:], boxes, None, own).gt_inds - 1
            drawn, index = drawn[index >= 0], index[index >= 0]
            expected.append((drawn, box_iou(drawn[:, 1:], boxes[index]), own[index]))
    for ours, theirs in zip((found, ious, labels), zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(ours, torch.cat(theirs))
    assert 100 < len(found) < len(rois)  # some are left out
    assert set(labels.tolist()) == {1, 2, 3}


def test_the_threshold_itself_is_assigned():
    rois = torch.tensor([[0.0, 0, 0, 10, 20], [0.0, 0, 0, 10, 19.9]])
    found, ious, _ = iou_targets(rois, [torch.tensor([[0.0, 0, 10, 40]])], [torch.tensor([0])])
    assert found.tolist() == rois[:1].tolist()
    assert ious.tolist() == [0.5]


def test_a_roi_is_of_its_own_image():
    rois = torch.tensor([[0.0, 10, 10, 40, 50], [1.0, 10, 10, 40, 50], [2.0, 10, 10, 40, 50]])
    found, ious, labels = iou_targets(rois, GT, LABELS)
    assert found[:, 0].tolist() == [0, 2]
    assert labels.tolist() == [3, 2]
    assert ious.tolist() == [1, 1]


def test_no_ground_truth_at_all():
    found, ious, labels = iou_targets(torch.zeros(0, 5), [torch.zeros(0, 4)], [torch.zeros(0).long()])
    assert (found.shape, ious.shape, labels.shape) == ((0, 5), (0,), (0,))

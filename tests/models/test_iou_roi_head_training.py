import copy

import mmcv
import pytest
import torch
from mmdet.models import StandardRoIHead
from mmdet.models.builder import build_head

from tests.models.tiny import build

SAMPLER = {"num": 32, "pos_fraction": 0.25, "neg_pos_ub": -1, "add_gt_as_proposals": False}
OHEM = {"type": "OHEMSampler", **SAMPLER}
HLR = {"type": "ScoreHLRSampler", **SAMPLER, "k": 0.5, "bias": 0.0}
DOUBLE = {"type": "DoubleConvFCBBoxHead", "num_convs": 1, "num_fcs": 1, "conv_out_channels": 16}

BCE = {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 5.0}


@pytest.fixture(autouse=True)
def _isolated_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class FixedRoIs:
    """Stands in for the generator: hands out given RoIs, clipped as asked."""

    def __init__(self, rois):
        self.rois = [torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) for boxes in rois]

    def generate_rois(self, gt_bboxes, max_shapes, generator=None):
        rows = []
        for image, (boxes, shape) in enumerate(zip(self.rois, max_shapes, strict=True)):
            limit = torch.tensor([shape[1], shape[0]] * 2)
            clipped = torch.minimum(boxes.clamp(min=0), limit)
            rows.append(torch.cat([torch.full((len(boxes), 1), float(image)), clipped], dim=1))
        return torch.cat(rows)


def head_of(config, **changes):
    config.roi_head.iou_head.update(changes)
    return build(config).roi_head


def losses_of(head, detector, batch, proposals, seed=0):
    x = detector.extract_feat(batch["img"])
    torch.manual_seed(seed)
    return head.forward_train(
        x, batch["img_metas"], [p.clone() for p in proposals], batch["gt_bboxes"], batch["gt_labels"]
    )


def test_the_published_model_section_trains(config, batch):
    detector = build(config).train()
    losses = detector.forward_train(**batch)
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "acc", "loss_bbox", "loss_iou", "iou_error"}
    total, logged = detector._parse_losses(losses)
    total.backward()
    assert losses["loss_iou"] > 0
    assert 0 < logged["iou_error"] < 1
    # `iou_error` is logged and is no part of the loss
    expected = sum(value for name, value in logged.items() if "loss" in name and name != "loss")
    assert logged["loss"] == pytest.approx(expected, rel=1e-5)
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert detector.roi_head.iou_head.fc_iou.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("bce", [False, True])
def test_both_losses_per_class_and_agnostic(config, batch, bce, class_agnostic):
    config.roi_head.iou_head.class_agnostic = class_agnostic
    if bce:
        config.roi_head.iou_head.loss_iou = BCE
    detector = build(config).train()
    losses = detector.forward_train(**batch)
    losses["loss_iou"].backward()
    assert detector.roi_head.iou_head.shared_fcs[0].weight.grad.abs().sum() > 0
    assert detector.backbone.conv1.weight.grad.abs().sum() > 0


def test_the_rcnn_losses_are_the_parents(config, detector, batch, proposals):
    ours = detector.roi_head
    parent_config = copy.deepcopy(config.roi_head)
    parent_config.update(type="StandardRoIHead", test_cfg=config.test_cfg.rcnn)
    del parent_config["iou_head"], parent_config["roi_generator"]
    rcnn = config.train_cfg.rcnn
    parent_config.train_cfg = mmcv.ConfigDict(
        assigner=rcnn.bbox_assigner, sampler=rcnn.bbox_sampler, pos_weight=-1, debug=False
    )
    parent = build_head(parent_config)
    assert type(parent) is StandardRoIHead
    parent.load_state_dict(
        {name: value for name, value in ours.state_dict().items() if not name.startswith("iou_head.")}
    )
    expected = losses_of(parent, detector, batch, proposals)
    losses = losses_of(ours, detector, batch, proposals)
    assert set(expected) == {"loss_cls", "loss_bbox", "acc"}
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-6, atol=1e-7)


def test_targets_are_ious_with_the_assigned_gt(detector, batch, monkeypatch):
    head = detector.roi_head
    rois = [
        [
            [10.0, 12.0, 50.0, 40.0],  # the first ground truth itself: 1
            [10.0, 12.0, 50.0, 26.0],  # its upper half: exactly 0.5, which is enough
            [10.0, 12.0, 50.0, 25.9],  # a little less: dropped
            [40.0, 50.0, 190.0, 150.0],  # clipped at the image, which makes it the second ground truth but for 1 row
            [0.0, 60.0, 20.0, 80.0],  # near nothing: dropped
        ],
        [[5.0, 5.0, 65.0, 65.0]],
    ]
    monkeypatch.setattr(head, "roi_generator", FixedRoIs([rois[0], [], rois[1]]))
    found, ious, labels = head._iou_targets(batch["gt_bboxes"], batch["gt_labels"], batch["img_metas"])
    assert found[:, 0].tolist() == [0, 0, 0, 2]
    assert found[:3, 1:].tolist() == [rois[0][0], rois[0][1], [40, 50, 96, 96]]
    torch.testing.assert_close(ious, torch.tensor([1.0, 0.5, 50 * 45 / (56 * 46), 0.75]))
    assert labels.tolist() == [0, 0, 2, 1]


@pytest.mark.parametrize("match_low_quality", [False, True])
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_assigning_all_images_at_once_is_assigning_image_by_image(config, batch, threshold, match_low_quality):
    assigner = {"pos_iou_thr": threshold, "neg_iou_thr": threshold, "match_low_quality": match_low_quality}
    config.train_cfg.rcnn.iou_assigner.update(assigner)
    # Images 0 and 3 differ in one box by half a pixel: a RoI of the one is near ground truth of the other.
    batch["gt_bboxes"].append(batch["gt_bboxes"][0] + torch.tensor([[0.5, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    batch["gt_labels"].append(torch.tensor([1, 1]))
    batch["img_metas"].append(batch["img_metas"][0])
    head = build(config).roi_head
    arguments = batch["gt_bboxes"], batch["gt_labels"], batch["img_metas"]
    torch.manual_seed(3)
    together = head._iou_targets(*arguments)
    head.iou_assigner.gpu_assign_thr = 1000  # this assigner's answer depends on the number of boxes of one image
    torch.manual_seed(3)
    one_by_one = head._iou_targets(*arguments)
    for ours, theirs in zip(together, one_by_one, strict=True):
        assert torch.equal(ours, theirs)
    assert together[0][:, 0].unique().tolist() == [0, 2, 3]
    assert set(together[2][together[0][:, 0] == 3].tolist()) == {1}


def test_a_roi_is_measured_against_the_gt_it_is_assigned_to(detector, monkeypatch):
    # Made from the first ground truth, but after the move the second is nearer: it is the target.
    gt = torch.tensor([[0.0, 0.0, 40.0, 40.0], [12.0, 0.0, 52.0, 40.0]])
    head = detector.roi_head
    monkeypatch.setattr(head, "roi_generator", FixedRoIs([[[10.0, 0.0, 50.0, 40.0]]]))
    _, ious, labels = head._iou_targets([gt], [torch.tensor([2, 1])], [{"img_shape": (96, 96, 3)}])
    torch.testing.assert_close(ious, torch.tensor([38 / 42]))
    assert labels.tolist() == [1]


def test_the_loss_is_on_the_pooled_rois_and_averages_over_the_batch(detector, batch, proposals, monkeypatch):
    head = detector.roi_head
    rois = [[[12.0, 12.0, 50.0, 40.0], [40.0, 52.0, 90.0, 95.0]], [], [[5.0, 5.0, 65.0, 65.0]]]
    monkeypatch.setattr(head, "roi_generator", FixedRoIs(rois))
    losses = losses_of(head, detector, batch, proposals)
    x = detector.extract_feat(batch["img"])
    five = torch.tensor([[0.0, *rois[0][0]], [0.0, *rois[0][1]], [2.0, *rois[2][0]]])
    predicted = head.iou_head.predict_iou(head.bbox_roi_extractor(x[:3], five), torch.tensor([0, 2, 1]))
    target = torch.tensor([38 / 40, 43 / 45, 0.75])
    error = (predicted - target).abs()
    torch.testing.assert_close(losses["iou_error"], error.detach().mean())
    scaled = error / 0.5  # SmoothL1 with beta 1 on the normalised IoU
    by_hand = torch.where(scaled < 1, scaled**2 / 2, scaled - 0.5).mean() * 5
    torch.testing.assert_close(losses["loss_iou"], by_hand)


def test_no_gt_in_the_whole_batch(config, batch):
    detector = build(config).train()
    batch["gt_bboxes"] = [torch.zeros(0, 4)] * 3
    batch["gt_labels"] = [torch.zeros(0).long()] * 3
    losses = detector.forward_train(**batch)
    assert losses["loss_iou"] == 0
    assert losses["iou_error"] == 0
    total, _ = detector._parse_losses(losses)
    total.backward()
    for name, parameter in detector.roi_head.named_parameters():
        assert parameter.grad is not None, name
    assert all(parameter.grad.abs().sum() == 0 for parameter in detector.roi_head.iou_head.parameters())


def test_no_roi_is_assigned(detector, batch, proposals, monkeypatch):
    monkeypatch.setattr(detector.roi_head, "roi_generator", FixedRoIs([[[0.0, 0.0, 1.0, 1.0]], [], []]))
    losses = losses_of(detector.roi_head, detector, batch, proposals)
    assert losses["loss_iou"] == 0
    assert losses["loss_cls"] > 0


def test_one_image_with_one_proposal(detector, batch, proposals):
    one = {key: value[:1] for key, value in batch.items()}
    losses = losses_of(detector.roi_head, detector, one, [proposals[0][:1]])
    assert torch.isfinite(losses["loss_iou"])
    assert torch.isfinite(losses["loss_cls"])


def test_the_draw_follows_the_runs_seed(detector, batch, proposals):
    first, again, other = (losses_of(detector.roi_head, detector, batch, proposals, seed) for seed in (1, 1, 2))
    assert first["loss_iou"] == again["loss_iou"]
    assert first["loss_iou"] != other["loss_iou"]


def test_a_sampler_may_take_fewer(config, batch):
    config.train_cfg.rcnn.iou_sampler = {
        "type": "RandomSampler",
        "num": 10,
        "pos_fraction": 1.0,
        "add_gt_as_proposals": False,
    }
    head = build(config).roi_head
    rois, ious, labels = head._iou_targets(batch["gt_bboxes"], batch["gt_labels"], batch["img_metas"])
    assert rois[:, 0].long().bincount(minlength=3).tolist() == [10, 0, 10]
    assert ious.shape == labels.shape == (20,)
    assert ious.min() >= 0.5


def test_the_branch_learns(config, batch, proposals):
    # Heads only, on one batch: the error falls to a fraction of what guessing the mean gives (0.13).
    detector = build(config)
    head = detector.roi_head
    with torch.no_grad():
        x = detector.extract_feat(batch["img"])
    optimizer = torch.optim.Adam(head.iou_head.parameters(), lr=5e-3)
    for _ in range(60):
        rois, ious, labels = head._iou_targets(batch["gt_bboxes"], batch["gt_labels"], batch["img_metas"])
        losses = head.iou_head.loss(head.iou_head(head.bbox_roi_extractor(x[:3], rois)), ious, labels)
        optimizer.zero_grad()
        losses["loss_iou"].backward()
        optimizer.step()
    assert losses["iou_error"] < 0.06


def test_state_dict_names_and_checkpoints_of_the_published_reproduction(config, detector):
    state = detector.state_dict()
    ours = {name for name in state if name.startswith("roi_head.")}
    assert ours == {
        f"roi_head.{name}.{kind}"
        for kind in ("weight", "bias")
        for name in (
            "bbox_head.shared_fcs.0",
            "bbox_head.shared_fcs.1",
            "bbox_head.fc_cls",
            "bbox_head.fc_reg",
            "iou_head.shared_fcs.0",
            "iou_head.shared_fcs.1",
            "iou_head.fc_iou",
        )
    }
    published = {**state, "roi_head.roi_generator.delta": torch.zeros(20_000, 4)}
    target = build(config, seed=1)
    target.load_state_dict(published, strict=True)
    mmcv.runner.load_state_dict(target, published, strict=True)
    assert "roi_head.roi_generator.delta" in published  # the caller's dict is the caller's
    assert torch.equal(target.roi_head.iou_head.fc_iou.weight, state["roi_head.iou_head.fc_iou.weight"])
    for name in ("roi_head.roi_generator.gamma", "roi_head.iou_head.delta", "roi_generator.delta"):
        with pytest.raises(RuntimeError, match=f"Unexpected key.*{name}"):
            target.load_state_dict({**state, name: torch.zeros(1)}, strict=True)
    with pytest.raises(RuntimeError, match="Missing key.*roi_head.iou_head.fc_iou.bias"):
        target.load_state_dict({name: value for name, value in state.items() if "fc_iou.bias" not in name})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: c.train_cfg.rcnn.pop("iou_assigner"), ValueError, "train_cfg.rcnn.iou_assigner is missing"),
        (lambda c: c.train_cfg.rcnn.pop("bbox_sampler"), ValueError, "train_cfg.rcnn.bbox_sampler is missing"),
        (lambda c: c.train_cfg.rcnn.iou_sampler.update(OHEM), ValueError, "rcnn.iou_sampler.type='OHEMSampler' is not"),
        (
            lambda c: c.train_cfg.rcnn.iou_sampler.update(HLR),
            ValueError,
            "rcnn.iou_sampler.type='ScoreHLRSampler' is not",
        ),
        (lambda c: c.train_cfg.rcnn.bbox_sampler.update(HLR), ValueError, "rcnn.bbox_sampler.type='ScoreHLRSampler'"),
        (
            lambda c: c.roi_head.bbox_head.update(DOUBLE),
            ValueError,
            "'DoubleConvFCBBoxHead' takes x_cls, x_reg, and not",
        ),
        (lambda c: c.roi_head.pop("roi_generator"), ValueError, "roi_generator is missing: training draws"),
        (lambda c: c.roi_head.roi_generator.update(per_iou=30), ValueError, "either per_iou or sample_num"),
        (lambda c: c.roi_head.iou_head.update(num_classes=80), ValueError, "iou_head.num_classes=80 differs from .*=3"),
        (lambda c: c.roi_head.update(mask_head={}), TypeError, "mask_head"),
    ],
)
def test_messages(config, change, error, message):
    change(config)
    with pytest.raises(error, match=message):
        build(config)


def test_no_generator_is_needed_without_training(config):
    config.train_cfg = None
    del config.roi_head["roi_generator"]
    assert build(config).roi_head.roi_generator is None

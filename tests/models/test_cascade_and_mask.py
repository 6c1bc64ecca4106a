"""IoU-Net on Cascade R-CNN and on Mask R-CNN: training, testing, and what they share with mmdet's heads."""

import copy

import numpy as np
import pytest
import torch
from mmcv import ConfigDict
from mmdet.core import BitmapMasks
from mmdet.models import build_detector

import iounet.models  # noqa: F401 - registers the heads
from tests.models.tiny import NUM_CLASSES, RCNN_TEST, assigner, detector_config, sampler

IOU_STEPS = RCNN_TEST["iou"]


def cascade_config() -> ConfigDict:
    config = detector_config()
    head = config.roi_head
    stages = [
        {**head.bbox_head, "reg_class_agnostic": True, "bbox_coder": {**head.bbox_head.bbox_coder, "target_stds": stds}}
        for stds in ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067])
    ]
    align = {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0}
    own = {key: config.train_cfg.rcnn[key] for key in ("iou_assigner", "iou_sampler")}
    config.type = "CascadeRCNN"
    config.roi_head = {
        "type": "CascadeIoURoIHead",
        "num_stages": 3,
        "stage_loss_weights": [1, 0.5, 0.25],
        "bbox_roi_extractor": {**head.bbox_roi_extractor, "type": "SingleRoIExtractor", "roi_layer": align},
        "iou_roi_extractor": head.bbox_roi_extractor,
        "bbox_head": stages,
        "iou_head": head.iou_head,
        "roi_generator": head.roi_generator,
        **own,
    }
    config.train_cfg.rcnn = [
        {"assigner": assigner(t, t, t, False), "sampler": sampler(32, 0.25, True), "pos_weight": -1, "debug": False}
        for t in (0.5, 0.6, 0.7)
    ]
    return ConfigDict(**config)


def mask_config() -> ConfigDict:
    config = detector_config()
    config.type = "MaskRCNN"
    config.roi_head.type = "MaskIoURoIHead"
    config.roi_head.mask_roi_extractor = {
        **config.roi_head.bbox_roi_extractor,
        "type": "SingleRoIExtractor",
        "roi_layer": {"type": "RoIAlign", "output_size": 14, "sampling_ratio": 0},
    }
    config.roi_head.mask_head = {
        "type": "FCNMaskHead",
        "num_convs": 1,
        "in_channels": 16,
        "conv_out_channels": 16,
        "num_classes": NUM_CLASSES,
        "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
    }
    config.train_cfg.rcnn.mask_size = 28
    config.test_cfg.rcnn.mask_thr_binary = 0.5
    return ConfigDict(**config)


def build(config: ConfigDict):
    """With weights that make it say something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build_detector(copy.deepcopy(config))
        detector.init_weights()
        head = detector.roi_head
        for stage in head.bbox_head if isinstance(head.bbox_head, torch.nn.ModuleList) else [head.bbox_head]:
            torch.nn.init.normal_(stage.fc_cls.weight, std=0.5)
            torch.nn.init.normal_(stage.fc_reg.weight, std=0.2)
        torch.nn.init.normal_(head.iou_head.fc_iou.weight, std=0.2)
    return detector.eval()


@pytest.fixture(scope="module")
def cascade():
    return build(cascade_config())


@pytest.fixture(scope="module")
def mask():
    return build(mask_config())


def without_branch(config):
    config = ConfigDict(copy.deepcopy(config))
    del config["iou"]
    return config


def test_cascade_trains_every_stage_and_the_branch(batch):
    detector = build(cascade_config()).train()
    losses = detector.forward_train(**batch)
    assert {"s0.loss_cls", "s1.loss_cls", "s2.loss_bbox", "loss_iou", "iou_error"} <= set(losses)
    total, _ = detector._parse_losses(losses)
    total.backward()
    for name, parameter in detector.named_parameters():
        if name.startswith(("roi_head", "neck")) and "fpn_convs.3" not in name:
            assert parameter.grad is not None, name
    assert detector.roi_head.iou_head.fc_iou.weight.grad.abs().sum() > 0


def test_cascade_without_ground_truth_trains_its_branch_with_zero(batch):
    detector = build(cascade_config()).train()
    batch["gt_bboxes"] = [torch.zeros(0, 4)] * 3
    batch["gt_labels"] = [torch.zeros(0).long()] * 3
    losses = detector.forward_train(**batch)
    assert losses["loss_iou"] == 0 and losses["loss_iou"].requires_grad


def test_cascade_with_the_branch_off_is_mmdets(cascade, batch, proposals):
    head, features = cascade.roi_head, cascade.extract_feat(batch["img"])
    off = without_branch(head.test_cfg)
    own, labels = head.simple_test_bboxes(features, batch["img_metas"], proposals, off, rescale=True)
    plain = cascade_config().roi_head
    plain = {key: value for key, value in plain.items() if "iou" not in key and key != "roi_generator"}
    config = cascade_config()
    config.roi_head = {**plain, "type": "CascadeRoIHead"}
    config.test_cfg.rcnn = off
    theirs = build_detector(ConfigDict(**config)).eval()
    missing, unexpected = theirs.load_state_dict(cascade.state_dict(), strict=False)
    assert not missing and all(".iou_head." in key for key in unexpected)  # mmdet's own checkpoints fit
    expected = theirs.roi_head.simple_test(features, proposals, batch["img_metas"], rescale=True)
    for boxes, classes, image in zip(own, labels, expected, strict=True):
        for label, rows in enumerate(image):
            np.testing.assert_allclose(boxes[classes == label].detach(), rows, rtol=1e-4, atol=1e-3)
    assert sum(map(len, own)) > 50


def test_cascade_candidates_are_the_boxes_of_the_last_stage(cascade, batch, proposals):
    head, metas = cascade.roi_head, batch["img_metas"]
    features = cascade.extract_feat(batch["img"])
    candidates = head.candidates(features, proposals, metas, score_thr=0.0)
    assert len(candidates.boxes) == sum(map(len, proposals)) and candidates.num_images == 3
    rois, logits, deltas = head._run_stages(features, proposals, metas)[2]
    own = candidates.image_index == 2
    raw, scores = head.bbox_head[-1].get_bboxes(rois, logits, deltas, metas[2]["img_shape"], None, cfg=None)
    torch.testing.assert_close(candidates.boxes[own], raw, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(candidates.class_scores[own], scores[:, :-1])


@pytest.mark.parametrize("name", ["cascade", "mask"])
def test_refinement_moves_boxes_uphill(name, request, batch, proposals):
    detector = request.getfixturevalue(name)
    head, features = detector.roi_head, detector.extract_feat(batch["img"])
    candidates = head.candidates(features, proposals, batch["img_metas"])
    predicted = head.score(features, candidates)
    assert predicted.ious.shape == (len(candidates.boxes), NUM_CLASSES)
    plain = head.select(features, candidates, predicted)
    refined = head.select(features, candidates, predicted, refine={"lamb": 2.0, "t": 3, "use_iou_score": False})
    gain = torch.cat([r.ious for r in refined]).mean() - torch.cat([p.ious for p in plain]).mean()
    assert [len(p.boxes) for p in plain] == [len(r.boxes) for r in refined] and gain > 0
    assert not torch.equal(torch.cat([p.boxes for p in plain]), torch.cat([r.boxes for r in refined]))


def test_cascade_detects_through_mmdets_interface(cascade, batch):
    results = cascade.simple_test(batch["img"], batch["img_metas"], rescale=True)
    assert [len(image) for image in results] == [NUM_CLASSES] * 3
    head, features = cascade.roi_head, cascade.extract_feat(batch["img"])
    proposals = cascade.rpn_head.simple_test_rpn(features, batch["img_metas"])
    boxes, _ = head.simple_test_bboxes(features, batch["img_metas"], proposals, head.test_cfg, rescale=True)
    assert [sum(map(len, image)) for image in results] == list(map(len, boxes))
    assert sum(map(len, boxes)) > 0


def test_cascade_without_proposals_detects_nothing(cascade, batch):
    head, features = cascade.roi_head, cascade.extract_feat(batch["img"])
    nothing = [torch.zeros(0, 5)] * 3
    for cfg in (head.test_cfg, without_branch(head.test_cfg)):
        boxes, labels = head.simple_test_bboxes(features, batch["img_metas"], nothing, cfg, rescale=True)
        assert [len(b) for b in boxes] == [len(b) for b in labels] == [0, 0, 0]


def test_mask_trains_masks_and_the_branch(batch):
    detector = build(mask_config()).train()
    masks = [BitmapMasks(np.ones((len(b), 96, 96), np.uint8), 96, 96) for b in batch["gt_bboxes"]]
    losses = detector.forward_train(**batch, gt_masks=masks)
    assert {"loss_cls", "loss_bbox", "loss_mask", "loss_iou"} <= set(losses)
    detector._parse_losses(losses)[0].backward()
    assert detector.roi_head.mask_head.conv_logits.weight.grad.abs().sum() > 0
    assert detector.roi_head.iou_head.fc_iou.weight.grad.abs().sum() > 0


def test_masks_are_predicted_on_the_refined_boxes(mask, batch, monkeypatch):
    seen = []
    real = mask.roi_head._mask_forward
    monkeypatch.setattr(mask.roi_head, "_mask_forward", lambda x, rois: seen.append(rois) or real(x, rois))
    results = mask.simple_test(batch["img"], batch["img_metas"], rescale=True)
    boxes = [np.concatenate(image[0]) for image in results]
    assert sum(len(rows) for rows in boxes) == len(torch.cat(seen)) > 0
    for (found, segments), meta in zip(results, batch["img_metas"], strict=True):
        assert [len(rows) for rows in found] == [len(rows) for rows in segments]
        assert all(m.shape == meta["ori_shape"][:2] for rows in segments for m in rows)
    # the boxes that masks are pooled on are those reported, back in the network's pixels
    first = torch.cat(seen)[torch.cat(seen)[:, 0] == 0, 1:].numpy() / batch["img_metas"][0]["scale_factor"]
    key = lambda rows: rows[np.lexsort(rows.T)]  # noqa: E731
    np.testing.assert_allclose(key(first), key(boxes[0][:, :4]), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.roi_head.pop("iou_assigner"), "roi_head: iou_assigner is missing"),
        (lambda c: c.roi_head.pop("roi_generator"), "roi_head: roi_generator is missing"),
        (lambda c: c.roi_head.iou_head.update(num_classes=7), "iou_head.num_classes=7 differs from bbox_head"),
        (lambda c: c.test_cfg.rcnn.iou.update(nms={"guide": "rnak"}), "guide='rnak' is not allowed"),
    ],
)
def test_a_wrong_cascade_config_is_named(damage, message):
    config = cascade_config()
    damage(config)
    with pytest.raises(ValueError, match=message):
        build_detector(config)


def test_the_cascade_leaves_the_branch_out_nowhere_in_silence():
    config = cascade_config()
    head = build(config).roi_head
    with pytest.raises(NotImplementedError, match="CascadeIoURoIHead: test-time augmentation is not implemented"):
        head.aug_test([], [], [])
    with pytest.raises(NotImplementedError, match="CascadeIoURoIHead: export to ONNX is not implemented"):
        head.onnx_export([], [], [])
    detector = build(config)
    with torch.no_grad():
        x = detector.extract_feat(torch.randn(1, 3, 96, 96))
        outputs = detector.roi_head.forward_dummy(x, torch.tensor([[5.0, 5, 40, 60], [20, 10, 90, 80]]))
    assert len(outputs) == 7 and outputs[-1].shape == (2, NUM_CLASSES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda head: head.iou_sampler.update(sampler(32, 0.25, False), type="OHEMSampler"),
            "roi_head.iou_sampler.type='OHEMSampler' is not",
        ),
        (
            lambda head: head.bbox_head[2].update(loss_cls={"type": "SeesawLoss", "num_classes": NUM_CLASSES}),
            "no SeesawLoss",
        ),
        (
            lambda head: head.bbox_head[1].update(
                type="DoubleConvFCBBoxHead", num_convs=1, num_fcs=1, conv_out_channels=16
            ),
            "'DoubleConvFCBBoxHead' takes x_cls, x_reg",
        ),
    ],
)
def test_what_the_cascade_cannot_train_is_refused(change, message):
    config = cascade_config()
    change(config.roi_head)
    with pytest.raises(ValueError, match=message):
        build_detector(config)

import copy
from collections import Counter
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from mmdet.models.builder import build_head
from torch.utils._python_dispatch import TorchDispatchMode

from iounet.core import iou_guided_nms, refine_boxes
from iounet.models import Detections
from iounet.models.detections import suppress
from tests.models.tiny import NUM_CLASSES, RCNN_TEST, build, detector_config

REFINE = RCNN_TEST["iou"]["refine"]


@pytest.fixture(scope="module")
def double():
    """In double precision, so that "equal" can mean 1e-9 although batches are computed in other block sizes."""
    return build(detector_config()).double()


@pytest.fixture
def features(double, batch):
    with torch.no_grad():
        return double.extract_feat(batch["img"].double())


@pytest.fixture
def scene(double, features, batch, proposals):
    return double.roi_head, features, batch["img_metas"], [p.double() for p in proposals]


def rcnn_test_cfg(**rcnn):
    cfg = detector_config().test_cfg.rcnn
    cfg.update(rcnn)
    return cfg


def select(scene, **settings):
    head, x, metas, proposals = scene
    candidates = head.candidates(x, proposals, metas)
    return head.select(x, candidates, head.score(x, candidates), **settings)


def assert_same(one: Detections, other: Detections, atol=1e-9):
    for field, expected in zip(one, other, strict=True):
        torch.testing.assert_close(field, expected, rtol=0, atol=atol)


def one_image_after_the_other(scene, multiclass, iou_threshold, guide, refine, score_thr=0.05, max_per_img=100):
    """The head's inference as plain loops over images, classes and boxes.

    The R-CNN branch regresses each proposal to the box of its best class, and the IoU branch scores that box. Each
    class is suppressed (IoU-Net, algorithm 1), the first boxes are refined (algorithm 2), and the best are kept.
    """
    head, x, metas, proposals = scene
    results = []
    for image, (meta, boxes) in enumerate(zip(metas, proposals, strict=True)):
        x_image = [level[image : image + 1] for level in x[:3]]
        rows = []
        for roi in torch.cat([torch.zeros(len(boxes), 1), boxes[:, :4]], dim=1).double()[:, None]:
            cls_score, bbox_pred = head.bbox_head(head.bbox_roi_extractor(x_image, roi))
            scores = cls_score.softmax(1)[0, :-1]
            best = int(scores.argmax())
            box = head.bbox_head.bbox_coder.decode(
                roi[:, 1:], bbox_pred[:, 4 * best : 4 * best + 4], max_shape=meta["img_shape"]
            )
            ious = head.iou_head.predict_iou(head.bbox_roi_extractor(x_image, torch.cat([roi[:, :1], box], dim=1)))[0]
            for label in range(NUM_CLASSES) if multiclass else [best]:
                if scores[label] >= score_thr:
                    rows.append((box[0], float(scores[label]), float(ious[label]), label))
        found = []
        for label in range(NUM_CLASSES):
            own = [row for row in rows if row[3] == label]
            if own:
                scores, ious = (torch.tensor([row[i] for row in own], dtype=torch.float64) for i in (1, 2))
                stacked = torch.stack([row[0] for row in own])
                keep, kept = iou_guided_nms(stacked, scores, ious, torch.zeros(len(own)), iou_threshold, guide=guide)
                found += [(stacked[i], float(s), float(ious[i]), label) for i, s in zip(keep, kept, strict=True)]
        found.sort(key=lambda row: -row[1])
        if refine is not None:
            refined = []
            for box, score, _, label in found[: refine["pre_refine"]]:

                def predict(b, labels, x_image=x_image):
                    roi = torch.cat([b.new_zeros(1, 1), b], dim=1)
                    return head.iou_head.predict_iou(head.bbox_roi_extractor(x_image, roi), labels)

                (box,), (iou,) = refine_boxes(
                    predict, box[None], torch.tensor([label]), refine["lamb"], refine["t"], refine["omega_1"],
                    refine["omega_2"],
                )  # fmt: skip
                refined.append((box, score * float(iou) if refine["use_iou_score"] else score, float(iou), label))
            found = sorted(refined, key=lambda row: -row[1])
        found = found[:max_per_img]
        results.append(
            Detections(
                torch.stack([row[0] for row in found]) if found else torch.zeros(0, 4).double(),
                torch.tensor([row[1] for row in found], dtype=torch.float64),
                torch.tensor([row[3] for row in found], dtype=torch.long),
                torch.tensor([row[2] for row in found], dtype=torch.float64),
            )
        )
    return results


@torch.no_grad()
@pytest.mark.parametrize(
    ("multiclass", "guide", "refine"),
    [
        *((multiclass, guide, None) for multiclass in (True, False) for guide in ("rank", "weight", "none")),
        (True, "weight", REFINE),
        (False, "rank", REFINE),
        (True, "none", {**REFINE, "use_iou_score": False, "pre_refine": 7, "lamb": 50.0}),
    ],
)
def test_a_batch_equals_the_method_box_by_box(scene, multiclass, guide, refine):
    settings = {"multiclass": multiclass, "iou_threshold": 0.4, "guide": guide, "refine": refine, "max_per_img": 30}
    results = select(scene, **settings)
    expected = one_image_after_the_other(scene, **settings)
    assert len(results) == 3
    assert len(results[0].boxes) > 5
    for result, image in zip(results, expected, strict=True):
        assert_same(result, image)
        assert (result.scores[:-1] >= result.scores[1:]).all()


def test_mmdet_format_rescaled_and_not(double, batch, proposals, scene):
    head, x, metas, doubles = scene
    results = head.simple_test(x, doubles, metas, rescale=True)
    plain = head.simple_test(x, doubles, metas, rescale=False)
    detections = select(scene, refine=REFINE)
    for image, (result, unscaled, found) in enumerate(zip(results, plain, detections, strict=True)):
        assert len(result) == NUM_CLASSES
        for label in range(NUM_CLASSES):
            own = found.labels == label
            expected = torch.cat([found.boxes[own], found.scores[own, None]], dim=1).numpy()
            np.testing.assert_allclose(unscaled[label], expected, rtol=0, atol=1e-9)
            expected[:, :4] /= metas[image]["scale_factor"]
            np.testing.assert_allclose(result[label], expected, rtol=0, atol=1e-9)
    assert sum(len(rows) for rows in results[0]) > 5


def test_the_whole_detector_alone_and_in_a_batch(detector, batch):
    # Through mmdet's own entry, float32, with the RPN's proposals.
    with torch.no_grad():
        together = detector.simple_test(batch["img"], batch["img_metas"], rescale=True)
        for image in range(3):
            (alone,) = detector.simple_test(
                batch["img"][image : image + 1], batch["img_metas"][image : image + 1], rescale=True
            )
            for one, other in zip(together[image], alone, strict=True):
                assert one.shape == other.shape
                np.testing.assert_allclose(one, other, rtol=0, atol=2e-3)


@torch.no_grad()
@pytest.mark.parametrize("rescale", [True, False])
def test_branch_off_equals_the_standard_head(config, detector, batch, proposals, rescale):
    head, metas, x = detector.roi_head, batch["img_metas"], detector.extract_feat(batch["img"])
    cfg = rcnn_test_cfg()
    del cfg["iou"]
    standard_config = copy.deepcopy(config.roi_head)
    standard_config.update(type="StandardRoIHead", test_cfg=cfg, train_cfg=None)
    del standard_config["iou_head"], standard_config["roi_generator"]
    standard = build_head(standard_config).eval()
    weights = {name: value for name, value in head.state_dict().items() if not name.startswith("iou_head.")}
    standard.load_state_dict(weights)
    expected = standard.simple_test(x, proposals, metas, rescale=rescale)

    config.test_cfg.rcnn.pop("iou")
    off = build(config).roi_head
    off.load_state_dict(head.state_dict())
    result = off.simple_test(x, proposals, metas, rescale=rescale)
    assert sum(len(rows) for rows in expected[0]) > 5
    for one, other in zip(result, expected, strict=True):
        for rows, expected_rows in zip(one, other, strict=True):
            np.testing.assert_array_equal(rows, expected_rows)
    # The same through the config that is passed, on a head built with the branch on.
    boxes, labels = head.simple_test_bboxes(x, metas, proposals, cfg, rescale=rescale)
    expected_boxes, expected_labels = standard.simple_test_bboxes(x, metas, proposals, cfg, rescale=rescale)
    torch.testing.assert_close((boxes, labels), (expected_boxes, expected_labels), rtol=0, atol=0)


def test_a_later_edit_of_the_config_counts(detector, batch):
    head = copy.deepcopy(detector.roi_head)
    with torch.no_grad():
        x = detector.extract_feat(batch["img"])
    boxes = [torch.tensor([[5.0, 5.0, 60.0, 60.0], [8.0, 5.0, 60.0, 60.0]])] * 3
    head.test_cfg.iou.refine = None
    nms_only = head.simple_test(x, boxes, batch["img_metas"])
    head.test_cfg.iou.refine = copy.deepcopy(REFINE)
    head.test_cfg.iou.refine.update(t=0, use_iou_score=False)
    no_steps = head.simple_test(x, boxes, batch["img_metas"])
    for one, other in zip(nms_only, no_steps, strict=True):
        for rows, expected in zip(one, other, strict=True):
            np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-6)
    head.test_cfg.iou.nms.guide = "rnak"
    with pytest.raises(ValueError, match="guide='rnak'"):
        head.simple_test(x, boxes, batch["img_metas"])


def test_no_steps_keep_the_boxes_and_multiply_the_scores(scene):
    plain = select(scene)
    still = select(scene, refine={"t": 0})
    for one, other in zip(plain, still, strict=True):
        product = one.scores * one.ious
        order = product.argsort(descending=True, stable=True)
        assert_same(other, one._replace(scores=product).take(order))


def test_one_step_is_lambda_times_gradient_times_size(scene):
    head, x, _, _ = scene
    plain = select(scene)[0]
    lamb, epsilon = 0.5, 1e-6
    moved = select(scene, refine={"t": 1, "lamb": lamb, "use_iou_score": False})[0]

    def predicted(boxes):
        roi = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
        with torch.no_grad():
            return head.iou_head.predict_iou(head.bbox_roi_extractor(x[:3], roi), plain.labels)

    gradient = torch.stack(
        [
            (predicted(plain.boxes + shift) - predicted(plain.boxes - shift)) / (2 * epsilon)
            for shift in torch.eye(4).double() * epsilon
        ],
        dim=1,
    )
    width, height = (plain.boxes[:, 2:] - plain.boxes[:, :2]).T
    step = lamb * gradient * torch.stack([width, height, width, height], dim=1)
    assert step.abs().max() > 1e-2
    torch.testing.assert_close(moved.boxes - plain.boxes, step, rtol=0, atol=1e-6)
    torch.testing.assert_close(moved.ious, predicted(moved.boxes), rtol=0, atol=1e-9)


def test_refined_boxes_are_not_clipped_and_only_the_first_are_kept(scene):
    refined = select(scene, refine={"lamb": 2000.0, "pre_refine": 4})
    plain = select(scene)
    assert [len(image.boxes) for image in refined] == [min(4, len(image.boxes)) for image in plain]
    assert refined[0].boxes.min() < 0 or refined[0].boxes.max() > 96
    first = select(scene, refine={"t": 0, "pre_refine": 4, "use_iou_score": False})
    for image, everything in zip(first, plain, strict=True):
        assert_same(image, everything.take(torch.arange(len(everything.boxes)) < 4))


def test_at_most_max_per_img(scene):
    everything = select(scene, max_per_img=-1)
    assert len(everything[0].boxes) > 3
    for image, full in zip(select(scene, max_per_img=3), everything, strict=True):
        assert_same(image, full.take(torch.arange(len(full.boxes)) < 3))


def test_leaving_out_hopeless_candidates_changes_nothing(scene):
    head, x, metas, proposals = scene
    all_of_them = head.candidates(x, proposals, metas, score_thr=0.0)
    possible = head.candidates(x, proposals, metas, score_thr=0.6)
    assert len(all_of_them.boxes) == 66
    assert 0 < len(possible.boxes) < 66
    for image, expected in zip(
        head.select(x, possible, head.score(x, possible), score_thr=0.6),
        head.select(x, all_of_them, head.score(x, all_of_them), score_thr=0.6),
        strict=True,
    ):
        assert_same(image, expected)


def test_candidates_are_clipped_to_their_own_image(scene):
    head, x, metas, proposals = scene
    candidates = head.candidates(x, proposals, metas, score_thr=0.0)
    assert candidates.num_images == 3
    assert candidates.image_index.bincount().tolist() == [40, 1, 25]
    assert candidates.class_scores.shape == (66, NUM_CLASSES)
    assert candidates.class_scores.sum(1).max() < 1
    reached = set()
    for image, meta in enumerate(metas):
        height, width, _ = meta["img_shape"]
        boxes = candidates.boxes[candidates.image_index == image]
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= width
        assert boxes[:, 3].max() <= height
        reached |= {image} if (boxes[:, 2] == width).any() else set()
    assert {0, 2} <= reached


@pytest.mark.parametrize("numbers", [(0, 1, 25), (40, 0, 0), (0, 0, 0), (1, 0, 0)])
def test_images_without_proposals(scene, numbers):
    head, x, metas, proposals = scene
    fewer = [boxes[:number] for boxes, number in zip(proposals, numbers, strict=True)]
    results = head.simple_test(x, fewer, metas, rescale=True)
    assert len(results) == 3
    for number, result in zip(numbers, results, strict=True):
        assert [rows.shape[1] for rows in result] == [5] * NUM_CLASSES
        assert (sum(len(rows) for rows in result) > 0) == (number > 0)


@pytest.mark.parametrize("refine", [None, REFINE])
def test_nothing_reaches_the_score(scene, refine):
    head, x, metas, proposals = scene
    cfg = rcnn_test_cfg(score_thr=1.1)
    cfg.iou.refine = refine
    boxes, labels = head.simple_test_bboxes(x, metas, proposals, cfg, rescale=True)
    assert [box.shape for box in boxes] == [(0, 5)] * 3
    assert [label.shape for label in labels] == [(0,)] * 3
    assert labels[0].dtype == torch.long


@pytest.mark.parametrize("loss", ["SmoothL1Loss", "CrossEntropyLoss"])
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_every_kind_of_head_is_read_in_ious(config, batch, proposals, loss, class_agnostic):
    config.roi_head.iou_head.update(class_agnostic=class_agnostic)
    config.roi_head.iou_head.loss_iou = {
        "type": loss,
        "loss_weight": 5.0,
        **({"use_sigmoid": True} if loss == "CrossEntropyLoss" else {}),
    }
    detector = build(config)
    head = detector.roi_head
    with torch.no_grad():
        x = detector.extract_feat(batch["img"])
    candidates = head.candidates(x, proposals, batch["img_metas"])
    predicted = head.score(x, candidates)
    ious = predicted.ious
    assert ious.shape == (len(candidates.boxes), NUM_CLASSES)
    torch.testing.assert_close((ious == ious[:, :1]).all(), torch.tensor(class_agnostic))
    if loss == "CrossEntropyLoss":
        assert 0 < ious.min() < ious.max() < 1
    for index, image in enumerate(head.select(x, candidates, predicted, refine={"t": 2})):
        rois = torch.cat([torch.full((len(image.boxes), 1), float(index)), image.boxes], dim=1)
        expected = head.iou_head.predict_iou(head.bbox_roi_extractor(x[:3], rois), image.labels)
        torch.testing.assert_close(image.ious, expected, rtol=0, atol=1e-4)


def test_nothing_given_is_changed_and_no_parameter_gets_a_gradient(scene):
    head, x, metas, proposals = scene
    given = copy.deepcopy((list(x), metas, proposals))
    candidates = head.candidates(x, proposals, metas)
    predicted = head.score(x, candidates)
    before = copy.deepcopy((candidates, predicted))
    results = head.select(x, candidates, predicted, refine=REFINE)
    torch.testing.assert_close((list(x), proposals), (given[0], given[2]), rtol=0, atol=0)
    torch.testing.assert_close(list(candidates[:3]), list(before[0][:3]), rtol=0, atol=0)
    torch.testing.assert_close(list(predicted.hidden), before[1].hidden, rtol=0, atol=0)
    assert torch.equal(predicted.ious, before[1].ious)
    assert all(parameter.grad is None for parameter in head.parameters())
    assert not any(field.requires_grad for image in results for field in image)


def test_memory_format_of_the_features_does_not_matter(scene):
    head, x, metas, proposals = scene
    results = select(scene, refine=REFINE)
    other = [level.contiguous(memory_format=torch.channels_last) for level in x]
    for image, expected in zip(select((head, other, metas, proposals), refine=REFINE), results, strict=True):
        assert_same(image, expected)


def test_trace_shows_every_step(scene):
    trace = []
    results = select(scene, refine={**REFINE, "trace": trace, "t": 3})
    assert len(trace) == 4
    assert sum(len(image.boxes) for image in results) == len(trace[0][0])
    ends = torch.cat([image.boxes for image in results])
    assert torch.equal(ends.sort(0).values, trace[-1][0].sort(0).values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda iou: iou.nms.update(guide="rnak"),
            "test_cfg.rcnn.iou.nms.guide='rnak' is not allowed: it must be 'rank' or",
        ),
        (lambda iou: iou.nms.update(iou_thr=0.5), r"test_cfg.rcnn.iou.nms has the unknown key 'iou_thr' \(=0.5\)"),
        (
            lambda iou: iou.nms.update(iou_threshold=50),
            "iou_threshold=50 is not allowed: it must be a number from 0 to 1",
        ),
        (lambda iou: iou.nms.update(multiclass=1), "multiclass=1 is not allowed: it must be True or False"),
        (
            lambda iou: iou.refine.update(t=-1),
            "test_cfg.rcnn.iou.refine.t=-1 is not allowed: it must be a whole number",
        ),
        (lambda iou: iou.refine.update(t=2.5), "refine.t=2.5"),
        (lambda iou: iou.refine.update(lamb="0.5"), "refine.lamb='0.5' is not allowed: it must be a number above 0"),
        (
            lambda iou: iou.refine.update(omega_2=0.01),
            "refine.omega_2=0.01 is not allowed: it must be a number, 0 or less",
        ),
        (lambda iou: iou.refine.update(lambda_=2.0), "unknown key 'lambda_'.*its keys are pre_refine, t, omega_1"),
        (lambda iou: iou.update(refin={}), r"test_cfg.rcnn.iou has the unknown key 'refin'.*its keys are nms, refine"),
        (
            lambda iou: iou.update(fc_dtype="fp16"),
            "test_cfg.rcnn.iou.fc_dtype='fp16' is not allowed: it must be 'float32' or 'bfloat16' or 'float16'",
        ),
        (lambda iou: iou.update(fc_dtype=["bfloat16"]), r"fc_dtype=\['bfloat16'\] is not allowed"),
        (lambda iou: iou.update(nms=0.5), "test_cfg.rcnn.iou.nms=0.5 is not allowed: it must be a dict"),
    ],
)
def test_a_bad_test_config_is_named_when_the_head_is_built(config, change, message):
    change(config.test_cfg.rcnn.iou)
    with pytest.raises(ValueError, match=message):
        build(config)


def test_the_published_bce_config_names_no_guide(config, scene):
    del config.test_cfg.rcnn.iou.nms["guide"]
    head = build(config).double().roi_head
    for one, other in zip(
        head.simple_test(*scene[1:2], scene[3], scene[2]),
        scene[0].simple_test(*scene[1:2], scene[3], scene[2]),
        strict=True,
    ):
        for rows, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(rows, expected)


def test_refinement_needs_a_differentiable_extractor(config, batch, proposals):
    config.roi_head.bbox_roi_extractor.roi_layer = {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0}
    detector = build(config)
    with torch.no_grad():
        x = detector.extract_feat(batch["img"])
    with pytest.raises(ValueError, match="no gradient with respect to the boxes: pool with PrRoIPool"):
        detector.roi_head.simple_test(x, proposals, batch["img_metas"])


def test_augmented_and_async_testing_say_no(detector, batch):
    with pytest.raises(NotImplementedError, match="test-time augmentation is not implemented for the IoU branch"):
        detector.roi_head.aug_test([], [], [])
    with pytest.raises(NotImplementedError, match="async testing"):
        detector.roi_head.async_simple_test()
    with pytest.raises(NotImplementedError, match="IoURoIHead: export to ONNX is not implemented for the IoU branch"):
        detector.onnx_export(batch["img"], [{**batch["img_metas"][0], "img_shape_for_onnx": torch.tensor([96, 96])}])


def test_counting_operations_counts_the_branch(detector, config, batch):
    with torch.no_grad():
        outputs = detector.forward_dummy(batch["img"][:1])[-1]
    assert len(outputs) == 3 and outputs[-1].shape[-1] == detector.roi_head.iou_head.num_classes
    config.test_cfg.rcnn.pop("iou")
    with torch.no_grad():
        assert len(build(config).forward_dummy(batch["img"][:1])[-1]) == 2


def test_class_scores_are_those_of_the_loss(config, batch, proposals):
    """SeesawLoss has two logits more than classes, which a softmax over all would take for classes."""
    config.roi_head.bbox_head.loss_cls = {"type": "SeesawLoss", "p": 0.8, "q": 2.0, "num_classes": NUM_CLASSES}
    head = build(config).roi_head
    with torch.no_grad():
        x = build(config).extract_feat(batch["img"])
        candidates = head.candidates(x, proposals, batch["img_metas"], score_thr=0.0)
    assert candidates.class_scores.shape[1] == NUM_CLASSES


class ForeignExtractor(torch.nn.Module):
    """An extractor that only has autograd to offer."""

    def __init__(self, own):
        super().__init__()
        self.own, self.num_inputs = own, own.num_inputs

    def forward(self, feats, rois):
        return self.own(feats, rois)


@torch.no_grad()
def test_any_extractor_that_is_differentiable_in_the_rois_serves(scene, monkeypatch):
    head = scene[0]
    expected = select(scene, refine=REFINE)
    monkeypatch.setitem(head._modules, "bbox_roi_extractor", ForeignExtractor(head.bbox_roi_extractor))
    for image, other in zip(select(scene, refine=REFINE), expected, strict=True):
        assert_same(image, other)


@torch.no_grad()
def test_refinement_is_in_full_precision_under_autocast(batch, proposals):
    detector = build(detector_config())
    head, x = detector.roi_head, detector.extract_feat(batch["img"])
    x = [level.bfloat16() for level in x]
    candidates = head.candidates([level.float() for level in x], proposals, batch["img_metas"])
    found, rows = suppress(candidates, head.score([level.float() for level in x], candidates).ious)
    arguments = (found, candidates.image_index[rows])
    expected, _ = head.refine([level.float() for level in x], *arguments, lamb=20.0)
    with torch.autocast("cpu", torch.bfloat16):
        refined, _ = head.refine(x, *arguments, lamb=20.0)
        hidden = [layer[rows] for layer in head.score(x, candidates).hidden]
        assert hidden[0].dtype == torch.bfloat16  # too coarse to start from
        started, _ = head.refine(x, *arguments, hidden=hidden, lamb=20.0)
    assert not torch.equal(expected.boxes, found.boxes)
    assert_same(refined, expected, atol=0)
    assert_same(started, expected, atol=0)


class OpCount(TorchDispatchMode):
    """Counts what is dispatched to ATen and to our own operators, views included."""

    # Operators whose result the host has to wait for: on a GPU each would synchronise.
    SYNCHRONISING = ("_local_scalar_dense", "nonzero", "equal", "unique", "masked_select", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.ops = Counter()
        self.syncs = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.ops[name] += 1
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if by_mask or name.startswith(self.SYNCHRONISING):
            self.syncs[name] += 1
        return func(*args, **(kwargs or {}))


def slow_refinement(head, x, detections, image_index, **refine):
    """The refinement by autograd through the whole head, which drops the boxes that stop."""

    def predict(boxes, rows):
        rois = torch.cat([image_index[rows, None].to(boxes.dtype), boxes], dim=1)
        return head.iou_head.predict_iou(head.bbox_roi_extractor(x[:3], rois), detections.labels[rows])

    rows = torch.arange(len(image_index))
    return refine_boxes(predict, detections.boxes, rows, keep_shape=False, **refine)


@torch.no_grad()
def test_refinement_is_fast_in_counts_that_noise_cannot_move(scene, monkeypatch):
    head, x, metas, proposals = scene
    candidates = head.candidates(x, proposals, metas)
    predicted = head.score(x, candidates)
    found, rows = suppress(candidates, predicted.ious)
    image_index = candidates.image_index[rows]
    first = torch.cat([(image_index == image).nonzero()[:20, 0] for image in range(3)])
    found, image_index = found.take(first), image_index[first]
    assert 20 < len(found.boxes) <= 64
    with OpCount() as slow:
        boxes, ious = slow_refinement(head, x, found, image_index, step_size=20.0)
    assert slow.syncs  # the counter sees them
    # as on a GPU
    monkeypatch.setattr("iounet.core.refine.refine_boxes", partial(refine_boxes, keep_shape=True))
    trace = []
    head.refine(x, found, image_index, lamb=20.0, trace=trace)
    torch.testing.assert_close(trace[-1], (boxes, ious), rtol=0, atol=1e-10)
    moved = [(after[0] != before[0]).any(1) for before, after in pairwise(trace)]
    assert moved[0].any()
    assert not moved[-1].all()  # early stops are among them
    fast = OpCount()

    def counted(*args, **kwargs):
        with fast:
            return refine_boxes(*args, **kwargs, keep_shape=True)

    hidden = [layer[rows][first] for layer in predicted.hidden]
    with OpCount() as around:  # with the first gradient before, and the order after
        head.refine(x, found, image_index, lamb=20.0, hidden=hidden)
    assert not around.syncs
    assert around.ops["prroi_pool"] == 5  # six positions; at the first one the scoring pass has been
    monkeypatch.setattr("iounet.core.refine.refine_boxes", counted)
    head.refine(x, found, image_index, lamb=20.0)
    assert sum(fast.ops.values()) <= 100, fast.ops.most_common()
    assert sum(around.ops.values()) <= 120, around.ops.most_common()
    assert fast.ops["prroi_pool"] == 6
    assert sum(slow.ops.values()) > 250


@torch.no_grad()
def test_nms_is_fast_in_counts_that_noise_cannot_move(scene):
    head, x, metas, proposals = scene
    one = [level[:1] for level in x]
    candidates = head.candidates(one, proposals[:1], metas[:1])
    ious = head.score(one, candidates).ious
    with OpCount() as count:
        found, _ = suppress(candidates, ious)
    assert 5 < len(found.boxes) < len(candidates.boxes) * NUM_CLASSES
    rounds = count.ops["equal"]  # of settling who is kept: as many as the longest chain of boxes needs
    assert sum(count.ops.values()) <= 80 + 6 * rounds, count.ops.most_common()
    assert sum(count.syncs.values()) <= 4 + rounds, count.syncs.most_common()


def test_reduced_precision_reaches_scoring_and_refinement_and_is_off_by_default(
    detector, batch, proposals, monkeypatch
):
    head, metas = copy.deepcopy(detector.roi_head), batch["img_metas"]
    with torch.no_grad():
        x = detector.extract_feat(batch["img"])
    cast, used = head.iou_head.cast, []
    monkeypatch.setattr(head.iou_head, "cast", lambda dtype: used.append(cast(dtype)) or used[-1])
    for name in ("predict", "of_labels"):
        original = getattr(head.iou_head, name)

        def spy(*args, original=original, **kwargs):
            used.append(args[1])
            return original(*args, **kwargs)

        monkeypatch.setattr(head.iou_head, name, spy)

    def found(**iou):
        cfg = rcnn_test_cfg()
        cfg.iou.update(iou)
        used.clear()
        boxes, _ = head.simple_test_bboxes(x, metas, proposals, cfg)
        return boxes, list(used)

    default, layers = found()
    assert layers == [None, None, None]
    named, _ = found(fc_dtype="float32")
    torch.testing.assert_close(named, default, rtol=0, atol=0)
    reduced, layers = found(fc_dtype="bfloat16")
    assert layers[0] is not None
    assert layers == [layers[0]] * 3  # cast once, for the scores and for the refinement
    for one, other in zip(reduced, default, strict=True):
        assert one.dtype == torch.float32
        assert len(one) == pytest.approx(len(other), abs=3)
    assert not torch.equal(reduced[0][:5], default[0][:5])
    torch.testing.assert_close(reduced[0][0], default[0][0], rtol=0, atol=0.2)

    # What load_state_dict or a training changes counts in the next call.
    with torch.no_grad():
        for layer in head.iou_head.shared_fcs:
            layer.weight.data.zero_()
            layer.bias.data.zero_()
    flat, _ = found(fc_dtype="bfloat16", refine=None)
    expected, _ = found(fc_dtype="float32", refine=None)
    torch.testing.assert_close(flat, expected, rtol=0, atol=0)


def test_float16_is_refused_before_anything_is_computed(detector, batch, proposals, monkeypatch):
    monkeypatch.setattr("iounet.models.iou_head._cpu_computes_float16", lambda: False)
    cfg = rcnn_test_cfg()
    cfg.iou.fc_dtype = "float16"
    with pytest.raises(ValueError, match=r"test_cfg.rcnn.iou.fc_dtype='float16' is not possible here"):
        detector.roi_head.simple_test_bboxes(None, batch["img_metas"], proposals, cfg)


@torch.no_grad()
def test_the_scoring_pass_serves_a_refinement_of_its_own_precision_only(detector, batch, proposals):
    head, metas = detector.roi_head, batch["img_metas"]
    x = detector.extract_feat(batch["img"])
    candidates, layers = head.candidates(x, proposals, metas), head.iou_head.cast("bfloat16")
    full, reduced = head.score(x, candidates), head.score(x, candidates, layers)
    assert reduced.layers is layers
    found, rows = suppress(candidates, reduced.ious)
    image_index = candidates.image_index[rows]

    def refine(predicted, layers):
        hidden = [layer[rows] for layer in predicted.hidden]
        with OpCount() as count:
            (boxes, _, _, ious), _ = head.refine(x, found, image_index, t=1, hidden=hidden, layers=layers)
        return boxes, ious, count.ops["prroi_pool"]

    boxes, ious, pooled = refine(reduced, layers)
    again, same, pooled_again = refine(full, layers)
    assert (pooled, pooled_again) == (1, 2)
    torch.testing.assert_close((boxes, ious), (again, same), rtol=0, atol=2e-3)
    assert boxes.dtype == ious.dtype == torch.float32

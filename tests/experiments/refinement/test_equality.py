"""A refiner with the weights of an IoU-Net of mmdet's is that IoU-Net: features, IoUs, losses, NMS, refinement."""

import numpy as np
import pytest
import torch

from experiments.config import resolve_config, set_classes
from experiments.data.datasets import build_split, build_training_set, dataset_classes
from experiments.models import build_model
from experiments.refinement.settings import refiner_arguments
from experiments.refinement.training import as_tensor
from experiments.refinement.weights import renamed
from iounet.core.iou_head import IoULoss, IoUPredictor
from iounet.models import IoUHead
from iounet.refiner import IoURefiner
from suite.errors import SuiteError
from suite.images import read_image
from suite.layout import DataFolder

VARIANT = "samp1000_lw5.0"


def configured(suite, data):
    cfg = resolve_config(suite, VARIANT)
    set_classes(cfg, dataset_classes(DataFolder(data)))
    return cfg


@pytest.fixture(scope="module")
def pair(tiny_suite, tiny_data):
    """An IoU-Net with random weights, and the refiner of its weights."""
    cfg = configured(tiny_suite, tiny_data)
    torch.manual_seed(5)
    detector = build_model(cfg, initialize=True)
    detector.roi_head.bbox_head.fc_cls.weight.data *= 30  # else all scores would be alike
    detector.roi_head.iou_head.fc_iou.weight.data *= 100  # else no box would move
    refiner = IoURefiner(**refiner_arguments(cfg, dataset_classes(DataFolder(tiny_data)), "the test"))
    refiner.load_state_dict(renamed(detector.state_dict()))  # strictly
    return cfg, detector.eval(), refiner.eval()


@pytest.fixture(scope="module")
def shown(pair, tiny_data):
    """Two images: as tensors of their files, and as mmdet's pipeline makes them."""
    dataset = build_split(pair[0], DataFolder(tiny_data), "val", 2)
    files = [tiny_data / "val" / info["filename"] for info in dataset.data_infos]
    theirs = torch.stack([dataset[row]["img"][0].data for row in range(2)])
    return [as_tensor(read_image(file)) for file in files], theirs


def test_it_sees_what_the_detector_sees(pair, shown):
    images, theirs = shown
    torch.testing.assert_close(pair[2].prepare(images).images, theirs)


@pytest.mark.parametrize("size", [(64, 48), (150, 200)])
def test_images_are_scaled_as_mmdet_scales_them(pair, tiny_suite, tiny_data, size, shown):
    cfg = resolve_config(tiny_suite.changed(training={"image_size": list(size)}), VARIANT)
    set_classes(cfg, dataset_classes(DataFolder(tiny_data)))
    arguments = refiner_arguments(cfg, ["a"], "the test")
    scaled = [step for step in cfg.data.test.pipeline if "img_scale" in step]
    if not scaled:  # a suite of images that keep their size
        arguments["image_size"] = size
        cfg.data.test.pipeline[1] = {
            **{key: value for key, value in cfg.data.test.pipeline[1].items() if key != "scale_factor"},
            "img_scale": size,
        }
    dataset = build_split(cfg, DataFolder(tiny_data), "val", 2)
    theirs = dataset[0]["img"][0].data
    own = IoURefiner(**arguments).prepare(shown[0][:1])
    height, width = own.sizes[0]
    assert (height, width) == theirs.shape[1:]
    difference = (own.images[0, :, :height, :width] - theirs).abs()
    assert difference.max() < 2.5 / 57  # two of 255 values: another rounding of the same interpolation
    assert own.factors[0].tolist() == pytest.approx(dataset[0]["img_metas"][0].data["scale_factor"].tolist())


def test_features_are_the_detectors(pair, shown):
    with torch.no_grad():
        expected = pair[1].extract_feat(shown[1])
        found = pair[2].features(shown[1])
    assert len(found) == len(expected) == 3
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
    assert float(found[0].std()) > 0.01


@pytest.mark.parametrize("guide", ["rank", "weight", "none"])
@pytest.mark.parametrize("rescore", [True, False])
def test_nms_and_refinement_are_the_detectors(pair, shown, guide, rescore):
    _, detector, refiner = pair
    images, theirs = shown
    metas = [{"img_shape": (96, 96, 3), "scale_factor": np.ones(4, np.float32)}] * 2
    head = detector.roi_head
    with torch.no_grad():
        maps = detector.extract_feat(theirs)
        candidates = head.candidates(maps, detector.rpn_head.simple_test_rpn(maps, metas), metas)
        predicted = head.score(maps, candidates)
        refine = {"pre_refine": 20, "t": 4, "lamb": 3.0, "use_iou_score": rescore}
        expected = head.select(maps, candidates, predicted, guide=guide, refine=refine)
    box, label = (candidates.class_scores >= 0.05).nonzero(as_tuple=True)
    rows = [box[candidates.image_index[box] == image] for image in range(2)]
    labels = [label[candidates.image_index[box] == image] for image in range(2)]
    found = refiner.refine(
        images,
        [candidates.boxes[own] for own in rows],
        [candidates.class_scores[own, kind] for own, kind in zip(rows, labels, strict=True)],
        labels,
        guide=guide,
        max_per_image=20,
        step_size=3.0,
        num_steps=4,
        rescore=rescore,
    )
    started = {tuple(one) for one in candidates.boxes.tolist()}
    moved = 0
    for own, other in zip(found, expected, strict=True):
        assert len(own.scores) == len(other.scores) > 5
        assert torch.equal(own.labels, other.labels)
        torch.testing.assert_close(own.scores, other.scores, rtol=0, atol=1e-4)
        torch.testing.assert_close(own.ious, other.ious, rtol=0, atol=1e-4)
        torch.testing.assert_close(own.boxes, other.boxes, rtol=0, atol=5e-3)
        moved += sum(tuple(one) not in started for one in other.boxes.tolist())
    assert moved > 10


@pytest.mark.parametrize("kind", ["smooth_l1", "bce"])
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_the_head_is_mmdets(kind, class_agnostic):
    shape = {"in_channels": 36, "fc_channels": [16, 8], "num_classes": 5, "class_agnostic": class_agnostic}
    config = {"type": "SmoothL1Loss", "beta": 0.3, "loss_weight": 4.0}
    if kind == "bce":
        config = {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 4.0}
    theirs = IoUHead(**shape, target_norm={"mean": 0.4, "std": 0.2}, loss_iou=config)
    ours = IoUPredictor(
        **shape, target_norm={"mean": 0.4, "std": 0.2}, is_logit=kind == "bce", loss_iou=IoULoss(kind, 4.0, 0.3)
    )
    for head, draw in ((theirs, theirs.init_weights), (ours, ours.reset_parameters)):
        torch.manual_seed(1)
        draw()
        torch.nn.init.normal_(head.fc_iou.weight)
    torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), rtol=0, atol=0)
    features, labels = torch.randn(7, 4, 3, 3), torch.randint(0, 5, (7,))
    for method in ("predict_iou", "forward"):
        own = getattr(ours, method)(features)
        torch.testing.assert_close(own, getattr(theirs, method)(features), rtol=0, atol=0)
    pairs = [head.of_labels(labels).with_gradient(features) for head in (ours, theirs)]
    torch.testing.assert_close(*pairs, rtol=0, atol=0)
    targets = torch.rand(7)
    losses = [head.loss(head(features), targets, labels) for head in (ours, theirs)]
    torch.testing.assert_close(*losses)
    gradients = [
        torch.autograd.grad(own["loss_iou"], head.fc_iou.weight)[0]
        for own, head in zip(losses, (ours, theirs), strict=True)
    ]
    torch.testing.assert_close(*gradients)


def test_a_training_step_is_that_of_the_iou_branch(pair, tiny_data):
    cfg, detector, refiner = pair
    dataset = build_training_set(cfg, DataFolder(tiny_data))
    item = dataset[0]
    image, metas = item["img"].data[None], [item["img_metas"].data]
    boxes, labels = [item["gt_bboxes"].data], [item["gt_labels"].data]
    torch.manual_seed(7)
    own = refiner.loss(image, [meta["img_shape"] for meta in metas], boxes, labels)
    torch.manual_seed(7)
    head = detector.roi_head
    rois, ious, kinds = head._iou_targets(boxes, labels, metas)
    expected = head.iou_head.loss(head.iou_head(head._pool(detector.extract_feat(image), rois)), ious, kinds)
    for key in ("loss_iou", "iou_error"):
        torch.testing.assert_close(own[key], expected[key], rtol=1e-4, atol=1e-5)
    assert own["loss_iou"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda cfg: cfg.model.backbone.update(type="ResNeXt"),
            "model.backbone.type='ResNeXt': a refiner has a ResNet",
        ),
        (lambda cfg: cfg.model.backbone.update(style="caffe"), "model.backbone.style='caffe': that of a refiner is"),
        (
            lambda cfg: cfg.model.backbone.update(stem_channels=3),
            "model.backbone.stem_channels=3: that of a refiner is",
        ),
        (lambda cfg: cfg.model.backbone.update(strides=(1, 1, 1)), r"model.backbone.strides=\(1, 1, 1\)"),
        (
            lambda cfg: cfg.model.backbone.update(groups=2),
            "model.backbone.groups=2: a refiner has no such setting",
        ),
        (lambda cfg: cfg.model.neck.update(type="PAFPN"), "model.neck.type='PAFPN': that of a refiner is 'FPN'"),
        (
            lambda cfg: cfg.model.neck.update(norm_cfg={"type": "BN"}),
            "model.neck.norm_cfg=.*: that of a refiner is None",
        ),
        (
            lambda cfg: cfg.model.roi_head.bbox_roi_extractor.update(type="SampledRoIExtractor"),
            ".*bbox_roi_extractor.type='SampledRoIExtractor': that of a refiner is 'PrRoIExtractor'",
        ),
        (lambda cfg: cfg.model.roi_head.bbox_roi_extractor.update(finest_scale=14), ".*finest_scale=14: that of a"),
        (lambda cfg: cfg.model.train_cfg.rcnn.iou_assigner.update(pos_iou_thr=0.3), ".*iou_assigner.pos_iou_thr=0.3"),
        (lambda cfg: cfg.model.roi_head.iou_head.loss_iou.update(type="L1Loss"), ".*loss_iou.type='L1Loss': that of"),
        (lambda cfg: cfg.data.train.pipeline.pop(3), "data.train.pipeline has no Normalize"),
    ],
)
def test_networks_that_no_refiner_has_are_refused(tiny_suite, tiny_data, change, message):
    cfg = configured(tiny_suite, tiny_data)
    change(cfg)
    with pytest.raises(SuiteError, match=f"where it is: {message}"):
        refiner_arguments(cfg, ["a"], "where it is")

"""Each treatment of a batch against what it is made of: mmdet's own detections, mmcv's NMS, the refiner's `refine`."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmcv.ops import soft_nms
from mmdet.datasets import build_dataloader

from experiments.config import config_hash, resolve_config
from experiments.models import open_checkpoint
from experiments.refinement.training import as_tensor
from experiments.treatments.batch import LEAST, Batch, Clock, Sight
from experiments.treatments.detector import BoxSource
from experiments.treatments.rows import treatments_of
from iounet.refiner import IoURefiner
from suite.images import read_image
from suite.treatments import (
    CLASS_AGNOSTIC,
    GUIDED,
    HARD,
    HEADS,
    PER_CLASS,
    PLAIN,
    REFINEMENT,
    REGRESSION,
    SIGMA,
    SOFT_GAUSSIAN,
    SOFT_LINEAR,
    STEPS,
    Treatment,
)

IMAGES = 3
NUM_CLASSES = 5


@pytest.fixture(scope="module", params=["faster_rcnn", "cascade_rcnn", "torchvision_faster_rcnn"])
def given(request, there):
    """A detector's boxes on some images, with everything that looks at them."""
    suite, layout = there.suite, there.layout
    checkpoint = layout.run(request.param, 0).checkpoint
    source = BoxSource(suite, request.param, checkpoint, there.data, "val")
    own = open_checkpoint(suite, request.param, checkpoint, there.data, "val")
    (batch,) = itertools.islice(build_dataloader(source.dataset, IMAGES, 0, dist=False, shuffle=False), 1)
    images, metas = batch["img"][0].data[0], batch["img_metas"][0].data[0]
    pixels = [
        as_tensor(read_image(there.data.images("val") / info["filename"]))
        for info in source.dataset.data_infos[:IMAGES]
    ]
    refiners = {head: IoURefiner.load(path) for head, path in there.refiners.items()}
    candidates = source.candidates(images, metas)
    maps = source.maps(images)
    made = Batch(
        candidates,
        IMAGES,
        {head: Sight(refiner, pixels) for head, refiner in refiners.items()},
        lambda boxes: source.regress(boxes, maps=maps, metas=metas),
        Clock(torch.device("cpu")),
    )
    return SimpleNamespace(
        suite=suite, batch=made, source=source, model=own.model, images=images, metas=metas, pixels=pixels,
        refiners=refiners, candidates=candidates, maps=maps, detector=request.param,
    )  # fmt: skip


@pytest.fixture
def two_stages(given):
    """The same, of a detector that has a box head."""
    if not given.source.has_regression:
        pytest.skip("torchvision's box head is not asked again")
    return given


def by_image(given):
    """Boxes, scores and labels of the candidates of each image."""
    found, index = given.candidates
    rows = [index == image for image in range(IMAGES)]
    return [[column[own] for own in rows] for column in (found.boxes, found.scores, found.labels)]


def step(given, published=STEPS[0]):
    return given.suite.scale.step(published)


def test_without_a_treatment_they_are_the_detectors_own(given):
    own = given.model.simple_test(given.images, given.metas, rescale=True)
    for found, arrays in zip(given.batch.detections(PLAIN), own, strict=True):
        assert len(found.scores) > 10
        expected = torch.from_numpy(np.concatenate(arrays))
        order = expected[:, 4].argsort(descending=True, stable=True)
        torch.testing.assert_close(found.scores, expected[order, 4])
        for label, array in enumerate(arrays):
            ours = found.take(found.labels == label)
            torch.testing.assert_close(ours.boxes, torch.from_numpy(array)[:, :4])
            torch.testing.assert_close(ours.scores, torch.from_numpy(array)[:, 4])
        assert not found.ious.any()


def test_candidates_are_more_than_what_nms_keeps(given):
    kept = sum(len(found.scores) for found in given.batch.detections(PLAIN))
    assert len(given.candidates.image_index) > 2 * kept
    assert given.candidates.found.scores.min() >= 0.05
    assert (given.candidates.image_index.diff() >= 0).all()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rescored", [False, True])
@pytest.mark.parametrize("published", STEPS)
def test_guided_nms_and_refinement_are_the_refiners(given, head, rescored, published):
    size = step(given, published)
    treatment = Treatment(GUIDED, 0.6, head, REFINEMENT, 5, size, rescored)
    expected = given.refiners[head].refine(
        given.pixels,
        *by_image(given),
        guide="rank",
        iou_threshold=0.6,
        step_size=size.actual,
        rescore=rescored,
    )
    for found, own in zip(given.batch.detections(treatment), expected, strict=True):
        assert len(own.scores)
        for ours, theirs in zip(found, own, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_after_some_steps_they_are_where_so_many_steps_lead(given, count):
    size = step(given, 2.0)
    treatment = Treatment(HARD, 0.5, PER_CLASS, REFINEMENT, count, size)
    kept = given.batch.detections(PLAIN)
    expected = given.refiners[PER_CLASS].refine(
        given.pixels,
        [own.boxes for own in kept],
        [own.scores for own in kept],
        [own.labels for own in kept],
        step_size=size.actual,
        num_steps=count,
        rescore=False,
    )
    found = given.batch.detections(treatment)
    for ours, theirs, start in zip(found, expected, kept, strict=True):
        torch.testing.assert_close(ours.boxes, theirs.boxes)
        torch.testing.assert_close(ours.scores, start.scores)
    moved = max(float((a.boxes - b.boxes).abs().max()) for a, b in zip(found, kept, strict=True))
    assert moved > 0.1 if count else moved < 1e-4


def test_guided_nms_keeps_scores_of_clusters_and_ious(given):
    found = given.batch.detections(Treatment(GUIDED, 0.5, PER_CLASS))
    other = given.batch.detections(Treatment(GUIDED, 0.5, CLASS_AGNOSTIC))
    plain = given.batch.detections(PLAIN)
    for guided, own in zip(found, plain, strict=True):
        assert torch.allclose(guided.scores.max(), own.scores.max())
        assert guided.ious.unique().numel() > 1
    assert any(a.boxes.shape != b.boxes.shape or (a.boxes != b.boxes).any() for a, b in zip(found, other, strict=True))


@pytest.mark.parametrize(("kind", "method"), [(SOFT_LINEAR, "linear"), (SOFT_GAUSSIAN, "gaussian")])
def test_soft_nms_is_mmcvs_of_each_class(given, kind, method):
    threshold = None if kind == SOFT_GAUSSIAN else 0.4
    boxes, scores, labels = by_image(given)
    for image, found in enumerate(given.batch.detections(Treatment(kind, threshold))):
        rows = []
        for label in range(NUM_CLASSES):
            own = labels[image] == label
            if not own.any():
                continue
            kept, _ = soft_nms(
                boxes[image][own].contiguous(), scores[image][own].contiguous(), 0.4, SIGMA, LEAST, method
            )
            rows.append(kept)
        together = torch.cat(rows)
        best = together[together[:, 4].argsort(descending=True, stable=True)][:100]
        torch.testing.assert_close(found.scores, best[:, 4])
        assert (found.scores.diff() <= 0).all()


def test_regression_decodes_the_last_heads_offsets_of_the_label(two_stages):
    given = two_stages
    start, after = given.batch.detections(PLAIN), given.batch.detections(Treatment(moved_by=REGRESSION, num_steps=1))
    head = given.source.model.roi_head
    is_cascade = given.detector == "cascade_rcnn"
    box_head = head.bbox_head[-1] if is_cascade else head.bbox_head
    extractor = head.bbox_roi_extractor[-1] if is_cascade else head.bbox_roi_extractor
    for image, (before, found) in enumerate(zip(start, after, strict=True)):
        rois = torch.cat([torch.full((len(before.boxes), 1), float(image)), before.boxes], dim=1)
        with torch.no_grad():
            _, offsets = box_head(extractor(given.maps[:3], rois))
        if not is_cascade:
            offsets = offsets.view(len(rois), NUM_CLASSES, 4)[torch.arange(len(rois)), before.labels]
        expected = box_head.bbox_coder.decode(before.boxes, offsets, max_shape=given.metas[image]["img_shape"])
        torch.testing.assert_close(found.boxes, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.scores, before.scores)
        assert (found.boxes - before.boxes).abs().max() > 0.1


def test_each_iteration_starts_where_the_one_before_ended(two_stages):
    once, twice = (two_stages.batch.detections(Treatment(moved_by=REGRESSION, num_steps=count)) for count in (1, 2))
    assert any((a.boxes != b.boxes).any() for a, b in zip(once, twice, strict=True))


def test_an_image_without_boxes_has_no_detections(given):
    def batch_of(candidates):
        return Batch(
            candidates,
            IMAGES,
            {head: Sight(refiner, given.pixels) for head, refiner in given.refiners.items()},
            lambda boxes: given.source.regress(boxes, maps=given.maps, metas=given.metas),
            Clock(torch.device("cpu")),
        )

    second, none = (batch_of(given.candidates.take(given.candidates.image_index == image)) for image in (1, IMAGES))
    for treatment in treatments_of(given.suite, given.detector):
        found = second.detections(treatment)
        assert [bool(len(own.scores)) for own in found] == [False, True, False], treatment.name
        assert [len(own.scores) for own in none.detections(treatment)] == [0] * IMAGES, treatment.name


def test_the_config_of_a_source_is_the_detectors(given):
    cfg = resolve_config(given.suite, given.detector)
    assert given.source.config_hash == config_hash(cfg)
    assert given.source.has_regression == (given.detector != "torchvision_faster_rcnn")

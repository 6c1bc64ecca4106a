"""The refiner by itself: what it refuses, its files, its refinement, its training."""

import pytest
import torch
from torchvision.ops import batched_nms

from iounet.core import box_iou, refine_boxes
from iounet.refiner import IoURefiner
from iounet.refiner.backbone import ResNet
from tests.refiner.conftest import CATEGORIES, SMALL, build


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"categories": []}, "categories=.* must be different names"),
        ({"categories": ["a", "a"]}, "categories=.* must be different names"),
        ({"depth": 20}, "depth=20 is unknown: choose one of 18, 34"),
        ({"num_stages": 5}, "num_stages=5 must be from 1 to 4"),
        ({"frozen_stages": 4}, "frozen_stages=4 must be from -1 to num_stages=3"),
        ({"loss": "l1"}, "loss='l1' is unknown: choose one of 'smooth_l1', 'bce'"),
        ({"step_size": 0}, "step_size=0 must be above 0"),
        ({"target_norm": {"mean": 0.5}}, "target_norm="),
        ({"roi_generator": {"per_iou": 3}}, "roi_generator: give either per_iou or sample_num"),
    ],
)
def test_arguments_that_make_no_sense_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        IoURefiner(**{"categories": CATEGORIES, **SMALL, **arguments})


@pytest.mark.parametrize("depth", [18, 50])
def test_the_backbone_is_torchvisions(depth):
    import torchvision

    torch.manual_seed(0)
    theirs = getattr(torchvision.models, f"resnet{depth}")(weights=None).eval()
    ours = ResNet(depth).eval()
    state = {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    ours.load_state_dict(state)  # strictly
    image = torch.randn(1, 3, 64, 64)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
    maps = ours(image)
    for stage, (own, channels, stride) in enumerate(zip(maps, ours.out_channels, ours.strides, strict=True)):
        x = getattr(theirs, f"layer{stage + 1}")(x)
        torch.testing.assert_close(own, x)
        assert own.shape[1:] == (channels, 64 // stride, 64 // stride)


def test_frozen_stages_and_statistics_stay_as_they_are():
    model = build(frozen_stages=1, norm_eval=True).train()
    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[1] for name in fixed} == {"conv1", "bn1", "layer1"}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.features(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    learning = build(norm_eval=False).train()
    learning.features(torch.randn(2, 3, 64, 64))
    assert not torch.equal(learning.backbone.bn1.running_mean, before["backbone.bn1.running_mean"])


def test_predicted_ious_are_differentiable_in_the_boxes(model):
    maps = model.features(torch.randn(1, 3, 64, 64))
    rois = torch.tensor([[0, 5.0, 6.0, 40.0, 50.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(model.predict_iou(maps, rois, torch.tensor([1])).sum(), rois)
    assert gradient[0, 1:].abs().min() > 0


# --- files ------------------------------------------------------------------------------------------------------------


def test_one_file_is_the_whole_model(tmp_path, batch):
    model = build(image_size=(80, 60), loss="bce", step_size=0.3)
    model.save(tmp_path / "refiner.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["refiner.pth"]
    loaded = IoURefiner.load(tmp_path / "refiner.pth")
    assert loaded.config == model.config
    assert (loaded.categories, loaded.step_size, loaded.training) == (CATEGORIES, 0.3, False)
    for own, other in zip(loaded.refine(*batch), model.refine(*batch), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=0)


def test_files_that_hold_no_refiner_are_named(tmp_path):
    path = tmp_path / "some.pth"
    with pytest.raises(FileNotFoundError, match=r"some.pth: no such file"):
        IoURefiner.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"some.pth is not a readable file of weights \(7 bytes\)"):
        IoURefiner.load(path)
    torch.save({"meta": {}, "state_dict": {}}, path)
    with pytest.raises(ValueError, match=r"some.pth holds no refiner, but meta, state_dict"):
        IoURefiner.load(path)
    contents = build().contents()
    torch.save({**contents, "version": 99}, path)
    with pytest.raises(ValueError, match=r"some.pth is of version 99, and this iounet reads up to 1"):
        IoURefiner.load(path)
    torch.save({**contents, "config": {**contents["config"], "channels": 8}}, path)
    with pytest.raises(ValueError, match=r"some.pth is damaged: .*size mismatch"):
        IoURefiner.load(path)


# --- refinement -------------------------------------------------------------------------------------------------------


def test_without_nms_and_steps_boxes_are_rescored_alone(model, batch):
    _, boxes, scores, labels = batch
    found = model.refine(*batch, num_steps=0)
    assert [len(own.scores) for own in found] == [30, 0, 12]
    for image in (0, 2):
        order = scores[image].argsort(descending=True, stable=True)
        plain = model.refine(*batch, num_steps=0, rescore=False)[image]
        torch.testing.assert_close(plain.boxes, boxes[image][order])
        torch.testing.assert_close(plain.scores, scores[image][order])
        assert torch.equal(plain.labels, labels[image][order])
        torch.testing.assert_close(found[image].scores.sum(), (plain.scores * plain.ious).sum())
        assert (found[image].scores.diff() <= 0).all()
        assert not torch.equal(found[image].boxes, plain.boxes)  # another order


def test_boxes_go_where_the_plain_algorithm_takes_them(model, batch):
    images, boxes, scores, labels = batch
    own = model.refine(*batch, num_steps=3, step_size=4.0, rescore=False)[0]
    prepared = model.prepare(images[:1])
    maps = model.features(prepared.images)
    order = scores[0].argsort(descending=True, stable=True)

    def predict(boxes, labels):
        return model.predict_iou(maps, torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1), labels)

    expected, ious = refine_boxes(predict, boxes[0][order], labels[0][order], step_size=4.0, num_steps=3)
    torch.testing.assert_close(own.boxes, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(own.ious, ious.detach(), rtol=0, atol=1e-4)
    assert (own.boxes - boxes[0][order]).abs().max() > 0.5


def test_nms_by_class_score_is_ordinary_nms(model, batch):
    _, boxes, scores, labels = batch
    found = model.refine(*batch, guide="none", num_steps=0, rescore=False, iou_threshold=0.4)
    for image in (0, 2):
        keep = batched_nms(boxes[image], scores[image], labels[image], 0.4)
        assert len(keep) < len(boxes[image])
        torch.testing.assert_close(found[image].boxes, boxes[image][keep])
        torch.testing.assert_close(found[image].scores, scores[image][keep])


def test_nms_is_guided_by_the_predicted_iou(model, batch):
    every = model.refine(*batch, num_steps=0, rescore=False)[0]
    kept = model.refine(*batch, guide="rank", num_steps=0, rescore=False, iou_threshold=0.3)[0]
    assert 3 <= len(kept.scores) < len(every.scores)
    # a box with no better one of its class beside it is kept
    overlap = (box_iou(every.boxes[:, None], every.boxes) > 0.3) & (every.labels[:, None] == every.labels)
    best = (overlap & (every.ious[None] > every.ious[:, None])).sum(1) == 0
    assert {tuple(box) for box in every.boxes[best].tolist()} <= {tuple(box) for box in kept.boxes.tolist()}
    assert not torch.equal(kept.boxes, model.refine(*batch, guide="none", num_steps=0, iou_threshold=0.3)[0].boxes)


def test_only_the_best_of_an_image_are_refined(model, batch):
    found = model.refine(*batch, max_per_image=5, rescore=False)
    assert [len(own.scores) for own in found] == [5, 0, 5]
    assert torch.equal(found[0].scores, batch[2][0].sort(descending=True).values[:5])
    high = model.refine(*batch, score_threshold=0.5, rescore=False)
    assert [len(own.scores) for own in high] == [int((own >= 0.5).sum()) for own in batch[2]]


def test_images_do_not_depend_on_their_batch(model, batch):
    images, boxes, scores, labels = batch
    rows = [0, 2]  # of one size
    assert model.padded(64, 96) == (64, 96) != model.padded(48, 80)
    together = model.refine(*([column[row] for row in rows] for column in batch))
    for own, row in zip(together, rows, strict=True):
        alone = model.refine([images[row]], [boxes[row]], [scores[row]], [labels[row]])[0]
        torch.testing.assert_close(own.boxes, alone.boxes, rtol=0, atol=2e-2)  # a step on the edge of the early stop
        torch.testing.assert_close(own.scores, alone.scores, rtol=0, atol=1e-3)


def test_boxes_are_in_pixels_of_the_image_whatever_the_networks_input(batch):
    images, boxes, scores, labels = ([column[0]] for column in batch)
    model = build(image_size=(48, 32))
    prepared = model.prepare(images)
    assert prepared.sizes == [(32, 48)]
    torch.testing.assert_close(prepared.factors, torch.full((1, 4), 0.5))
    still = model.refine(images, boxes, scores, labels, num_steps=0, rescore=False)[0]
    torch.testing.assert_close(still.boxes, boxes[0][scores[0].argsort(descending=True)])
    moved = model.refine(images, boxes, scores, labels, rescore=False, step_size=2.0)[0]
    distance = (moved.boxes - still.boxes).abs().max()
    assert 0.1 < distance < 20


def test_labels_of_a_class_agnostic_model_only_tell_boxes_apart(batch):
    images, boxes, scores, labels = ([column[0]] for column in batch)
    model = build(class_agnostic=True)
    for offset in (0, 70):
        found = model.refine(images, boxes, scores, [labels[0] + offset], guide="none", num_steps=0, rescore=False)[0]
        keep = batched_nms(boxes[0], scores[0], labels[0], 0.5)
        assert torch.equal(found.labels, labels[0][keep] + offset)
    with pytest.raises(ValueError, match=r"labels\[0\] must be 0 or more, got -1"):
        model.refine(images, boxes, scores, [labels[0] * 0 - 1])


def test_no_box_at_all(model, batch):
    images = batch[0][:1]
    for guide in (None, "rank", "none"):
        (found,) = model.refine(images, [torch.zeros(0, 4)], [torch.zeros(0)], [torch.zeros(0).long()], guide=guide)
        assert (found.boxes.shape, found.ious.shape) == ((0, 4), (0,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: (b[0], b[1][:2], b[2], b[3]), "boxes must be of 3 images like images, got 2"),
        (
            lambda b: (b[0], [b[1][0][:, :3], *b[1][1:]], b[2], b[3]),
            r"boxes\[0\] must have shape \[K, 4\], got \[30, 3",
        ),
        (lambda b: (b[0], b[1], [*b[2][:2], b[2][2][:1]], b[3]), r"scores\[2\] must have shape \[12\] like boxes\[2\]"),
        (lambda b: (b[0], b[1], b[2], [b[3][0] + 2, *b[3][1:]]), r"labels\[0\] must be from 0 to 2, got 4"),
        (lambda b: ([b[0][0][:1], *b[0][1:]], b[1], b[2], b[3]), r"images\[0\] must have shape \[3, height, width\]"),
        (lambda b: ([], [], [], []), "images is empty"),
    ],
)
def test_wrong_shapes_are_named(model, batch, change, message):
    with pytest.raises(ValueError, match=message):
        model.refine(*change(batch))


def test_refining_changes_nothing_given(model, batch):
    copies = [[tensor.clone() for tensor in column] for column in batch]
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    first = model.refine(*batch, guide="weight")
    assert model.training
    model.eval()
    again = model.refine(*batch, guide="weight")
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    torch.testing.assert_close([list(column) for column in batch], copies, rtol=0, atol=0)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


# --- training ---------------------------------------------------------------------------------------------------------


def squares(number, generator):
    """Images with a bright rectangle each, their sizes, ground truth."""
    images = torch.zeros(number, 3, 64, 64)
    boxes, labels = [], []
    for image in images:
        x, y = (torch.rand(2, generator=generator) * 24).tolist()
        w, h = (20 + torch.rand(2, generator=generator) * 16).tolist()
        image[:, int(y) : int(y + h), int(x) : int(x + w)] = 2.0
        boxes.append(torch.tensor([[int(x), int(y), int(x + w), int(y + h)]]).float())
        labels.append(torch.tensor([len(boxes) % 3]))
    return images, [(64, 64)] * number, boxes, labels


@pytest.mark.parametrize("loss", ["smooth_l1", "bce"])
def test_it_learns(loss):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = IoURefiner(CATEGORIES, **{**SMALL, "loss": loss, "beta": 0.3}).train()
    data = squares(6, generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    errors = []
    for _ in range(60):
        losses = model.loss(*data, generator)
        optimizer.zero_grad()
        losses["loss_iou"].backward()
        optimizer.step()
        errors.append(float(losses["iou_error"]))
    assert sum(errors[-10:]) < 0.6 * sum(errors[:5]) * 2
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_loss_follows_its_generator():
    model, data = build().train(), squares(2, torch.Generator().manual_seed(0))
    first, again, other = (
        model.loss(*data, torch.Generator().manual_seed(seed))["loss_iou"].item() for seed in (3, 3, 4)
    )
    assert first == again != other


def test_images_without_ground_truth_touch_every_parameter():
    model = build().train()
    empty = [torch.zeros(0, 4)], [torch.zeros(0).long()]
    loss = model.loss(torch.randn(1, 3, 64, 64), [(64, 64)], *empty)["loss_iou"]
    loss.backward()
    assert loss == 0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_ranks_average_over_the_rois_of_all():
    model, data = build(), squares(2, torch.Generator().manual_seed(0))
    alone = model.loss(*data, torch.Generator().manual_seed(0))["loss_iou"]
    twice = model.loss(*data, torch.Generator().manual_seed(0), mean_over_ranks=lambda count: count * 2)["loss_iou"]
    torch.testing.assert_close(twice * 2, alone)

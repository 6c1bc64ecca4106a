import pytest
import torch
from mmdet.models import SingleRoIExtractor
from mmdet.models.builder import build_roi_extractor
from torch.utils._python_dispatch import TorchDispatchMode

from iounet.models import PrRoIExtractor
from iounet.ops import _extension, prroi_pool, prroi_pool_multilevel

OURS = {"type": "PrRoIPool2D", "pooled_height": 7, "pooled_width": 5}
STRIDES = [4, 8, 16, 32]


def features(dtype=torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 256 // s, 320 // s, generator=generator, dtype=dtype) for s in STRIDES]


def rois_of_every_level(dtype=torch.float64) -> torch.Tensor:
    # √area 20, 111.9, 112, 230, 500: levels 0, 0, 1, 2, 3 (the last is larger than the image)
    sides = [20.0, 111.9, 112.0, 230.0, 500.0]
    return torch.tensor([[i % 2, 3.3, 5.1, 3.3 + side, 5.1 + side] for i, side in enumerate(sides)], dtype=dtype)


def build(roi_layer=None, strides=STRIDES, **kwargs) -> PrRoIExtractor:
    return PrRoIExtractor(roi_layer=roi_layer or OURS, out_channels=3, featmap_strides=strides, **kwargs)


@pytest.mark.parametrize(
    ("roi_layer", "size"),
    [
        (OURS, (7, 5)),
        ({"type": "PrRoIPool", "output_size": 7}, (7, 7)),
        ({"type": "PrRoIPool2D", "output_size": (3, 4)}, (3, 4)),
        ({"type": "PrRoIPool", "pooled_height": 2, "pooled_width": 3}, (2, 3)),
    ],
)
def test_both_names_take_both_ways_to_give_the_size(roi_layer, size):
    extractor = build_roi_extractor(
        {"type": "PrRoIExtractor", "roi_layer": roi_layer, "out_channels": 3, "featmap_strides": STRIDES}
    )
    assert extractor(features(), rois_of_every_level()).shape == (5, 3, *size)
    assert not list(extractor.parameters())
    assert not extractor.state_dict()
    assert type(extractor.roi_layers[0]).__module__.startswith("iounet.ops")


def test_each_roi_is_pooled_from_its_level():
    feats, rois = features(), rois_of_every_level()
    pooled = build()(feats, rois)
    for roi, level, output in zip(rois, [0, 0, 1, 2, 3], pooled, strict=True):
        expected = prroi_pool(feats[level], roi[None], (7, 5), 1 / STRIDES[level])[0]
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)


def test_levels_are_mmdets():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(500, 2, generator=generator) * 100
    boxes = torch.cat([torch.zeros(500, 1), corner, corner + torch.rand(500, 2, generator=generator) ** 2 * 900], dim=1)
    ours, theirs = build(finest_scale=40), SingleRoIExtractor({"type": "RoIAlign", "output_size": 7}, 3, STRIDES, 40)
    assert torch.equal(ours.map_roi_levels(boxes, 4), theirs.map_roi_levels(boxes, 4))
    assert ours.map_roi_levels(boxes, 4).unique().tolist() == [0, 1, 2, 3]


def test_levels_are_chosen_inside_one_operator():
    feats, rois, extractor = features(), rois_of_every_level(), build()
    rois[1, 3:] = rois[1, 1:3] + 56 * (2 - 1e-6)  # on the bound of level 1, give or take the last digit
    rois[0, 3] = -50.0
    names = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.append(str(func))
            return func(*args, **(kwargs or {}))

    extractor(feats, rois)  # builds the kernel
    with Record():
        pooled = extractor(feats, rois)
    levels = extractor.map_roi_levels(rois, 4)
    scales = [1 / stride for stride in STRIDES]
    assert torch.equal(pooled, prroi_pool_multilevel(feats, rois, levels, (7, 5), scales))
    if _extension.available("cpu"):
        assert names == ["iounet.prroi_pool.default"]


def test_a_box_turned_inside_out_goes_to_the_first_level():
    rois = torch.tensor([[0.0, 50.0, 10.0, 20.0, 90.0]])
    extractor = build()
    assert extractor.map_roi_levels(rois, 4).tolist() == [0]
    assert extractor(features(torch.float32), rois).abs().max() == 0


def test_gradients_reach_every_level_and_the_rois():
    feats = [level.requires_grad_() for level in features()]
    rois = rois_of_every_level()[:2].requires_grad_()  # no RoI on levels 1 to 3
    build()(feats, rois).pow(2).sum().backward()
    assert feats[0].grad.abs().sum() > 0
    assert rois.grad[:, 1:].abs().min() > 0
    # A level that no RoI uses still takes part: distributed training waits for its gradient.
    for level in feats[1:]:
        assert level.grad is not None
        assert level.grad.abs().sum() == 0


def test_no_rois_one_level_and_scaled_rois():
    feats = features()
    extractor = build()
    assert extractor(feats, torch.zeros(0, 5, dtype=torch.float64)).shape == (0, 3, 7, 5)
    one = build(strides=[8])
    rois = rois_of_every_level()
    torch.testing.assert_close(one(feats[1:2], rois), prroi_pool(feats[1], rois, (7, 5), 1 / 8), rtol=0, atol=1e-12)
    # A scale factor enlarges about the centre, after the level was chosen.
    roi = torch.tensor([[0.0, 10.0, 20.0, 50.0, 40.0]], dtype=torch.float64)
    larger = torch.tensor([[0.0, 0.0, 15.0, 60.0, 45.0]], dtype=torch.float64)
    torch.testing.assert_close(extractor(feats, roi, 1.5), extractor(feats, larger), rtol=0, atol=1e-12)


def test_mmcv_layers_equal_mmdets_extractor_also_on_channels_last():
    layer = {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0}
    feats, rois = features(torch.float32), rois_of_every_level(torch.float32)
    theirs = SingleRoIExtractor(layer, 3, STRIDES)(feats, rois)
    ours = build(layer)
    torch.testing.assert_close(ours(feats, rois), theirs, rtol=0, atol=0)
    channels_last = [level.contiguous(memory_format=torch.channels_last) for level in feats]
    torch.testing.assert_close(ours(channels_last, rois), theirs, rtol=0, atol=0)


def test_half_precision_switch_of_mmdet():
    # What wrap_fp16_model does. Half features are pooled in float32 and come out in half again.
    extractor = build()
    extractor.fp16_enabled = True
    feats = [level.half() for level in features(torch.float32)]
    rois = rois_of_every_level(torch.float32)
    pooled = extractor(feats, rois)
    assert pooled.dtype == torch.float16
    torch.testing.assert_close(pooled, build()([level.float() for level in feats], rois).half(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("roi_layer", "message"),
    [
        ({"type": "PrRoIPooling", "output_size": 7}, "type='PrRoIPooling' is neither one of .*PrRoIPool2D.* mmcv.ops"),
        ({"output_size": 7}, "type=None"),
        ({"type": "PrRoIPool2D", "pooled_height": 7}, r"takes either output_size, or .*; got \['pooled_height'\]"),
        ({"type": "PrRoIPool", "output_size": 7, "sampling_ratio": 0}, r"got \['output_size', 'sampling_ratio'\]"),
        ({"type": "PrRoIPool", "output_size": 0}, r"must be one or two positive integers, got \(0, 0\)"),
    ],
)
def test_messages(roi_layer, message):
    with pytest.raises(ValueError, match=message):
        build(roi_layer)

import pytest
import torch

from iounet.core.boxes import apply_deltas, box_iou
from iounet.core.roi_generator import RoIGenerator

PUBLISHED = {
    "pre_sample": 4000,
    "xy_steps": 16,
    "wh_steps": 16,
    "xy_range": (0, 1),
    "area_range": (1 / 3, 3),
    "nonlinearity": 2,
    "per_iou": None,
    "sample_num": 1000,
    "max_num": 1000,
    "compensate": None,
}
GT = torch.tensor([[10.0, 20.0, 110.0, 60.0], [300.0, 200.0, 333.3, 290.7], [0.0, 0.0, 512.0, 512.0]]).double()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bins_of(rois: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    iou = box_iou(rois, gt)
    return (iou * 10 + 1e-6).long().clamp(max=9)


def drawn_bins(generator: RoIGenerator, num_gt: int, seed: int = 0) -> torch.Tensor:
    _, deltas = generator.draw(num_gt, dtype=torch.float64, generator=seeded(seed))
    unit = torch.tensor([-0.5, -0.5, 0.5, 0.5], dtype=torch.float64)
    return bins_of(apply_deltas(unit, deltas), unit)


def test_published_arguments_draw_equal_shares_and_exactly_sample_num():
    generator = RoIGenerator(**PUBLISHED)
    assert generator.generate_roi(GT[:1], generator=seeded()).shape == (1000, 4)
    assert generator.generate_roi(GT, generator=seeded()).shape == (1000, 4)
    # One ground truth: 201 deltas per bin, of which 5 of 1005 are left out.
    counts = drawn_bins(generator, 1).bincount(minlength=10)
    assert counts[:5].sum() == 0
    assert counts.sum() == 1000
    assert 196 <= int(counts[5:].min()) <= int(counts[5:].max()) <= 201
    # Many: 1000 of 50 × 1005 at random; five standard deviations of a share of 200 are 63.
    counts = drawn_bins(generator, 50).bincount(minlength=10)
    assert counts.sum() == 1000
    assert (counts[5:] - 200).abs().max() < 63


def test_every_roi_has_the_iou_of_its_bin_with_the_gt_it_came_from():
    generator = RoIGenerator(per_iou=30, sample_num=None, start_bin=0.2, end_bin=0.9, max_num=10_000)
    rois = generator.generate_roi(GT, generator=seeded(3))
    gt_index, deltas = generator.draw(len(GT), dtype=torch.float64, generator=seeded(3))
    torch.testing.assert_close(rois, apply_deltas(GT[gt_index], deltas), rtol=0, atol=0)
    bins = bins_of(rois, GT[gt_index])
    for gt in range(len(GT)):
        assert bins[gt_index == gt].bincount(minlength=10).tolist() == [0, 0, 30, 30, 30, 30, 30, 30, 30, 0]


def test_a_delta_near_a_bins_edge_is_put_where_its_iou_says():
    # Every delta of the whole table, recomputed from the boxes themselves.
    generator = RoIGenerator(pre_sample=10**6, per_iou=1, sample_num=None, start_bin=0.1, end_bin=1.0)
    unit = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    for index in range(1, 10):
        iou = box_iou(apply_deltas(unit, generator._bins[index]), unit)
        assert len(iou) > 0
        assert iou.min() >= index / 10 - 1e-9
        assert iou.max() < index / 10 + 0.1 + 1e-9


def test_a_bin_with_fewer_deltas_than_its_share_repeats_them_evenly():
    generator = RoIGenerator(**PUBLISHED)
    top = generator._bins[9]
    assert len(top) < 201  # else this test says nothing
    gt_index, deltas = RoIGenerator(**{**PUBLISHED, "start_bin": 0.9, "sample_num": 200}).draw(1, dtype=torch.float64)
    assert len(gt_index) == 200
    _, repeats = deltas.unique(dim=0, return_counts=True)
    assert len(repeats) == len(top)
    assert repeats.max() - repeats.min() <= 2  # 2 or 3 of each, less the one left out


def test_one_draw_of_deltas_serves_every_gt_and_max_num_caps():
    uncapped = RoIGenerator(per_iou=4, sample_num=None, max_num=1000)
    gt_index, deltas = uncapped.draw(3, generator=seeded())
    assert len(gt_index) == 4 * 5 * 3
    sets = [{tuple(delta) for delta in deltas[gt_index == gt].tolist()} for gt in range(3)]
    assert sets[0] == sets[1] == sets[2]
    assert len(RoIGenerator(per_iou=4, sample_num=None, max_num=50).generate_roi(GT)) == 50


def test_compensate_draws_more_from_its_bin():
    generator = RoIGenerator(per_iou=10, sample_num=None, compensate={0.9: 1.5, 0.5: 1})
    assert drawn_bins(generator, 1).bincount(minlength=10).tolist() == [0, 0, 0, 0, 0, 11, 10, 10, 10, 16]


def test_bins_named_by_tenths_as_in_published_configs():
    tenths = RoIGenerator(per_iou=10, sample_num=None, start_bin=5, end_bin=10, compensate={9: 1.5})
    named = RoIGenerator(per_iou=10, sample_num=None, start_bin=0.5, end_bin=1.0, compensate={0.9: 1.5})
    assert torch.equal(tenths.generate_roi(GT, generator=seeded()), named.generate_roi(GT, generator=seeded()))


def test_reproducible_whatever_the_state_of_the_global_generator():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = RoIGenerator()
        state = torch.random.get_rng_state()
        torch.manual_seed(2)
        second = RoIGenerator()
        assert torch.equal(first.generate_roi(GT, generator=seeded()), second.generate_roi(GT, generator=seeded()))
        # The draw itself follows the run's seed: same state, same RoIs; other state, others.
        torch.random.set_rng_state(state)
        one = first.generate_roi(GT)
        other = first.generate_roi(GT)
        torch.random.set_rng_state(state)
        assert torch.equal(first.generate_roi(GT), one)
        assert not torch.equal(one, other)


def test_construction_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    RoIGenerator()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_clipping_dtype_and_no_gt():
    generator = RoIGenerator(sample_num=100)
    gt = torch.tensor([[0.0, 0.0, 60.0, 40.0]])
    rois = generator.generate_roi(gt, max_shape=(48, 64, 3))
    assert rois.dtype == torch.float32
    assert rois.min() >= 0
    assert rois[:, 2].max() <= 64
    assert rois[:, 3].max() <= 48
    free = generator.generate_roi(gt)
    assert free.min() < 0
    empty = generator.generate_roi(gt[:0], max_shape=(48, 64))
    assert empty.shape == (0, 4)
    assert gt.tolist() == [[0.0, 0.0, 60.0, 40.0]]


def test_holds_no_module_state():
    assert not isinstance(RoIGenerator(), torch.nn.Module)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per_iou": 30}, "either per_iou or sample_num"),
        ({"sample_num": None}, "either per_iou or sample_num"),
        ({"sample_num": 0}, "sample_num=0 must be a whole number, 1 or more"),
        ({"max_num": 2.5}, "max_num=2.5"),
        ({"pre_sample": -1}, "pre_sample=-1"),
        ({"xy_steps": 1}, "xy_steps=1 must be 2 or more"),
        ({"xy_range": (1, 0)}, "xy_range=.*low < high"),
        ({"area_range": (0, 3)}, "area_range="),
        ({"nonlinearity": 0}, "nonlinearity=0 must be positive"),
        ({"start_bin": 0.55}, "start_bin=0.55 must be a multiple of 0.1"),
        ({"end_bin": 11}, "end_bin=11"),
        ({"start_bin": 0.9, "end_bin": 0.9}, "start_bin=0.9 must lie below end_bin=0.9"),
        ({"compensate": {0.3: 2}}, "compensate names bin 0.3"),
        ({"compensate": {0.9: 0.5}}, "a factor must be 1 or more"),
        ({"xy_steps": 2, "wh_steps": 2}, "no delta has an IoU of .*raise xy_steps or wh_steps"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        RoIGenerator(**arguments)


def test_a_batch_is_drawn_as_its_images_are_one_after_the_other():
    generator = RoIGenerator(**{**PUBLISHED, "sample_num": 50})
    images = [GT[:2].float(), GT[:0].float(), GT[2:].float()]
    shapes = [(100, 300, 3), (64, 64), (200, 400)]
    source = seeded(5)
    expected = [generator.generate_roi(*image, generator=source) for image in zip(images, shapes, strict=True)]
    rois = generator.generate_rois(images, shapes, generator=seeded(5))
    assert torch.equal(rois[:, 1:], torch.cat(expected))
    assert rois[:, 0].tolist() == [0] * 50 + [2] * 50
    assert generator.generate_rois(images[1:2], shapes[1:2]).shape == (0, 5)

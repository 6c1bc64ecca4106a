"""What is measured of RoI poolings, on the tiny suite with random weights, and the arithmetic behind it."""

import json
from pathlib import Path

import pytest
import torch

from experiments.config import resolve_config
from experiments.models import build_model, open_checkpoint
from experiments.pooling import gradients, values
from experiments.pooling.gradients import Gradients, Jumps, compare, existing, iou_gradient, scan, shifted
from experiments.pooling.measure import main, measure_pooling
from experiments.pooling.rows import EXACT, SAMPLES, pooled_settings, pooled_variant
from experiments.pooling.scenes import BORDER, ROWS, Boxes, all_sizes, scenes_of
from experiments.pooling.times import PLAIN, interleaved
from experiments.pooling.values import Values, exact_pool
from suite.errors import NotInSuite, SuiteError
from suite.layout import DataFolder
from suite.suite import load_suite

VARIANT = "samp1000_lw5.0"


@pytest.fixture(scope="module")
def checkpoint(tiny_suite, tmp_path_factory):
    """Random weights: they detect much."""
    torch.manual_seed(0)
    model = build_model(resolve_config(tiny_suite, VARIANT))
    model.init_weights()
    path = tmp_path_factory.mktemp("weights") / "checkpoint.pth"
    classes = ["circle", "triangle", "cross", "bar", "ring"]
    torch.save({"meta": {"classes": classes}, "state_dict": model.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def scene(tiny_suite, checkpoint, tiny_data):
    data = DataFolder(tiny_data)
    opened = open_checkpoint(tiny_suite, VARIANT, checkpoint, data, "val")
    (found,) = scenes_of(opened, data, "val", 2, 4)
    return found


@pytest.fixture(scope="module")
def measured(tiny_suite, checkpoint, tiny_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("measured") / "measured.json"
    place = {"checkpoints": {0: checkpoint}, "data": DataFolder(tiny_data), "out": out}
    result = measure_pooling(tiny_suite, **place, images=2, rounds=2, places=1)
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    return json.loads(out.read_text())


def test_what_is_compared_follows_from_the_suite():
    suite = load_suite("experiments/shapes.yaml")
    assert pooled_variant(suite) == VARIANT
    assert [s.name for s in pooled_settings(suite)] == ["off", "rank", "rank_refine0.15", "rank_refine0.6"]


def test_a_suite_without_an_iou_net_is_refused(tiny_suite, tmp_path, capsys):
    variants = {"faster_rcnn": tiny_suite.raw["variants"]["faster_rcnn"]}
    alone = tiny_suite.changed(variants=variants)
    with pytest.raises(NotInSuite, match=r"'tiny': samp1000_lw5.0 \(role `main`\).*add one under `variants:`"):
        pooled_variant(alone)
    (tmp_path / "alone.yaml").write_text(alone.text)
    with pytest.raises(SystemExit, match="error: not in suite 'tiny': samp1000_lw5.0"):
        main(["--suite", str(tmp_path / "alone.yaml")])


def test_an_iou_net_of_another_extractor_is_refused(tiny_suite, tmp_path):
    own = tmp_path / "own.py"
    base = tiny_suite.variant(VARIANT).config
    own.write_text(
        f"_base_ = ['{Path(base).resolve()}']\n"
        "model = dict(roi_head=dict(bbox_roi_extractor=dict(type='SingleRoIExtractor')))\n"
    )
    variants = {**tiny_suite.raw["variants"], VARIANT: {"family": "iounet", "config": str(own)}}
    with pytest.raises(SuiteError, match=r"bbox_roi_extractor.type is 'SingleRoIExtractor'.*'PrRoIExtractor'"):
        pooled_variant(tiny_suite.changed(variants=variants))


def test_a_missing_checkpoint_is_named_with_what_to_do(tiny_suite, tiny_data, tmp_path):
    place = {"checkpoints": {0: tmp_path / "none.pth"}, "data": DataFolder(tiny_data), "out": tmp_path / "out.json"}
    with pytest.raises(SuiteError, match=r"none.pth is missing: train it first"):
        measure_pooling(tiny_suite, **place)
    assert not (tmp_path / "out.json").exists()


def test_the_file(measured):
    assert (measured["suite"], measured["variant"], measured["split"]) == ("tiny", VARIANT, "val")
    assert (measured["seeds"], list(measured["checkpoints"])) == ([0], ["0"])
    assert measured["settings"] == ["off", "rank", "rank_refine0.25"]
    assert measured["samples"] == SAMPLES
    assert measured["measured"]["rows"] == list(ROWS)
    (found,), (moved,), (jumps,) = (measured[part] for part in ("values", "gradients", "jumps"))
    assert len(found["rois"]) == len(moved["rois"]) == len(ROWS)
    own = ROWS.index("own")
    assert found["rois"][own] > 100
    assert found["error"][EXACT][own] < 1e-5
    errors = [found["error"][f"align{n}"][own] for n in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 10
    assert found["error"]["align8"][BORDER] > 5 * errors[-1]  # another surface
    assert found["conventions"]["plain_torch"] < 1e-12
    assert found["conventions"]["aligned_false"] < 1e-12
    assert found["conventions"]["unmoved"] > 2 * errors[1]
    for pooling in SAMPLES:
        row = {key: own_rows[own] for key, own_rows in moved["against_exact"][pooling].items()}
        assert row["error"] > 0 and row["low_cosine"] <= row["cosine"] <= 1
    assert moved["against_exact"]["align8"]["error"][own] < moved["against_exact"]["align1"]["error"][own] / 4
    assert jumps["share"][EXACT] < min(jumps["share"][pooling] for pooling in SAMPLES)
    timed = measured["times"]["timed"]
    assert list(timed["forward"]) == [EXACT, *SAMPLES]
    assert list(timed["gradient"]) == [EXACT, PLAIN, *SAMPLES]
    assert timed["forward"][EXACT]["ratio"] == {"median": 1.0, "q1": 1.0, "q3": 1.0}


def test_which_gradients_exist():
    assert existing() == {
        "torchvision.ops.roi_align": False,
        "mmcv.ops.roi_align": False,
        "sampled in plain torch": True,
        "iounet.ops.prroi_pool": True,
    }


def test_classes_are_by_the_length_of_bins_and_by_what_is_inside_the_map(scene):
    assert [level.shape[-2:] for level in scene.maps] == [(24, 24), (12, 12), (6, 6)]
    sides = [10.0, 20.0, 40.0, 84.0]  # bins of 0.36, 0.71, 1.43, 3 cells of 4 pixels
    rois = torch.tensor([[0, 2.0, 2.0, 2 + side, 2 + side] for side in sides])
    assert scene.classes(rois).tolist() == [0, 1, 2, 3]
    assert scene.classes(torch.tensor([[0, 0.0, 0.0, 92.0, 92.0]])).tolist() == [3]
    for off in ([0, 0.0, 0.0, 92.1, 92.0], [0, -0.1, 0.0, 30.0, 30.0], [0, 10.0, 70.0, 30.0, 96.0]):
        assert scene.classes(torch.tensor([off])).tolist() == [BORDER]


def test_longer_and_shorter_boxes_keep_their_centres_and_stay_inside(scene):
    boxes = Boxes(torch.tensor([[1, 30.0, 30.0, 50.0, 40.0], [0, 70.0, 70.0, 90.0, 90.0]]), torch.tensor([3, 4]))
    found = {factor: (sized, classes) for factor, sized, classes in all_sizes(boxes, scene, (0.5, 2.0))}
    assert list(found) == [1.0, 0.5, 2.0]
    assert found[1.0][0].rois.tolist() == boxes.rois.tolist()
    assert found[0.5][0].rois.tolist() == [[1, 35, 32.5, 45, 37.5], [0, 75, 75, 85, 85]]
    assert (found[2.0][0].rois.tolist(), found[2.0][0].labels.tolist()) == ([[1, 20, 25, 60, 45]], [3])


def test_the_exact_gradient_is_the_difference_quotient_of_the_predicted_iou(scene):
    double = scene.double()
    inside = double.classes(double.kept.rois) != BORDER
    boxes = double.kept.take(inside.nonzero()[:5, 0])
    assert len(boxes.rois) == 5

    def predicted(rois):
        return double.head.of_labels(boxes.labels)(exact_pool(double, rois))

    found = iou_gradient(EXACT, double, boxes)
    for column in range(4):
        step = torch.zeros(5, dtype=torch.float64)
        step[column + 1] = 1e-6
        quotient = (predicted(boxes.rois + step) - predicted(boxes.rois - step)) / 2e-6
        torch.testing.assert_close(found[:, column], quotient, rtol=1e-5, atol=1e-9)


def test_own_boxes_are_those_that_are_not_resized(scene):
    whole, plain = Values((0.5, 2.0)), Values(())
    for part in (whole, plain):
        part.add(scene)
    own, border = ROWS.index("own"), BORDER
    found, expected = whole.summary(), plain.summary()
    assert found["rois"][own] == expected["rois"][own] == sum(expected["rois"][:border])
    assert sum(found["rois"][:border]) > found["rois"][own]
    assert found["rois"][border] == expected["rois"][border]
    assert found["error"]["align2"][own] == pytest.approx(expected["error"]["align2"][own])
    moved = Gradients((0.5,))
    moved.add(scene)
    counts = moved.summary()["rois"]
    assert 0 < counts[own] < sum(counts[:border])


def test_relative_errors_by_hand():
    found = values.relative_roots(torch.tensor([4.0, 0.0, 0.0]), torch.tensor([16.0, 9.0, 0.0]))
    assert found == [0.5, 0.0, None]


def test_gradients_beside_exact_ones_by_hand():
    exact = torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])
    own = torch.tensor([[0.5, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 4.0]])
    found = compare(own, exact)
    assert found["cosine"] == 1
    assert found["low_cosine"] == pytest.approx(0.1, abs=1e-6)  # between 0 and 1 at a tenth of the way
    assert found["norm"] == 1
    assert found["error"] == pytest.approx(((0.25 + 20) / 9) ** 0.5, rel=1e-6)
    assert set(compare(own[:0], exact[:0]).values()) == {None}


def test_what_is_differentiated_must_be_torchvisions(scene, monkeypatch):
    pool = values.sampled_pool
    monkeypatch.setattr(values, "sampled_pool", lambda *arguments: pool(*arguments) + 1e-6)
    with pytest.raises(
        RuntimeError, match=r"align1: plain torch and torchvision's kernel differ by .*nothing is measu"
    ):
        Values(()).add(scene)


def test_a_gradient_without_kinks_has_no_jumps(scene):
    jumps = Jumps(places=1)
    jumps.add(scene)
    found = jumps.summary()
    assert found["places"] > 50
    assert found["change"][EXACT] < gradients.JUMP
    assert found["share"]["align1"] < 0.1  # most places are between two kinks
    assert found["change"]["align1"] < gradients.JUMP


def test_moving_a_roi_keeps_its_image_and_size():
    rois = torch.tensor([[1, 2.0, 3.0, 5.0, 8.0], [0, 2.0, 3.0, 5.0, 8.0]])
    assert shifted(rois, 1.0).tolist() == [[1, 3, 4, 6, 9], [0, 3, 4, 6, 9]]
    assert shifted(rois, torch.tensor([[1.0, 0], [0, 2.0]])).tolist() == [[1, 3, 3, 6, 8], [0, 2, 5, 5, 10]]


def test_a_scan_is_a_step_function_with_samples_and_the_values_own_slope(scene):
    path = scan(scene)
    shift, value, slope = (torch.tensor(path[key][EXACT]) if key != "shift" else torch.tensor(path[key])
                           for key in ("shift", "value", "derivative"))  # fmt: skip
    quotient = (value[2:] - value[:-2]) / (shift[2:] - shift[:-2])
    torch.testing.assert_close(slope[1:-1], quotient, rtol=0.05, atol=1e-4 * float(slope.abs().max()) + 1e-5)
    sampled = torch.tensor(path["derivative"]["align1"]).diff().abs()
    exact = slope.diff().abs()
    tiny = 1e-6 * float(slope.abs().max()) + 2e-8
    assert (sampled < tiny).double().mean() > 0.7
    assert sampled.max() > 5 * exact.max()


def test_every_function_takes_its_turn_to_go_first():
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = interleaved(functions, 3, synchronize=lambda: None)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert [len(own) for own in times.values()] == [3, 3, 3]

"""The timing of inference: its rows, its gate, its arithmetic. No test looks at how long something took."""

import copy
import json

import pytest
import torch

from experiments.config import resolve_config, set_classes
from experiments.data.datasets import build_split, dataset_classes
from experiments.evaluation.inference import detect
from experiments.evaluation.metrics import evaluate_detections
from experiments.models import build_model, load_model
from experiments.speed.detector import Detector
from experiments.speed.measure import _stopwatch, quartiles, stages_of, summary, time_rounds
from experiments.speed.rows import TimedSetting, timed_settings, timed_variants
from experiments.speed.timing import _cost_of_precision, time_inference
from iounet.models import IoUHead
from suite.errors import NotInSuite, SuiteError
from suite.layout import DataFolder
from suite.roles import FIRST
from suite.settings import Setting, StepSize
from suite.suite import load_suite


@pytest.fixture(scope="module")
def checkpoints(tiny_suite, tmp_path_factory):
    """Random weights of both variants: they detect much."""
    folder = tmp_path_factory.mktemp("weights")
    classes = ["circle", "triangle", "cross", "bar", "ring"]
    paths = {}
    for variant in timed_variants(tiny_suite):
        torch.manual_seed(0)
        model = build_model(resolve_config(tiny_suite, variant))
        model.init_weights()
        paths[variant] = folder / f"{variant}.pth"
        torch.save({"meta": {"classes": classes}, "state_dict": model.state_dict()}, paths[variant])
    return paths


@pytest.fixture
def quick(tiny_suite):
    return tiny_suite.changed(speed={"rounds": 4, "images": 2})


def with_classes(suite, data_dir):
    cfg = resolve_config(suite, FIRST)
    set_classes(cfg, dataset_classes(DataFolder(data_dir)))
    return cfg


def test_rows_are_the_published_tables_and_one_in_reduced_precision():
    shapes = load_suite("experiments/shapes.yaml")
    names = [(row.key, row.variant, row.setting.name) for row in timed_settings(shapes)]
    assert names == [
        ("faster_rcnn", "faster_rcnn", "off"),
        ("branch_off", "samp1000_lw5.0", "off"),
        ("nms", "samp1000_lw5.0", "rank"),
        ("regular_nms", "samp1000_lw5.0", "none"),
        ("refine", "samp1000_lw5.0", "rank_refine0.15"),
        ("refine_bfloat16", "samp1000_lw5.0", "rank_refine0.15"),
    ]
    assert [row.fc_dtype for row in timed_settings(shapes)] == [None] * 5 + ["bfloat16"]


def test_what_a_suite_does_not_evaluate_is_not_timed(tiny_suite):
    assert [row.key for row in timed_settings(tiny_suite)] == [
        "faster_rcnn",
        "branch_off",
        "nms",
        "refine",
        "refine_bfloat16",
    ]
    variants = {key: entry for key, entry in tiny_suite.raw["variants"].items() if key != "faster_rcnn"}
    suite = tiny_suite.changed(variants=variants)
    with pytest.raises(NotInSuite, match=r"not in suite 'tiny': faster_rcnn \(role `baseline`\)"):
        timed_settings(suite)
    with pytest.raises(NotInSuite, match=r"suite 'tiny' times nothing \(`speed: null`\)"):
        timed_settings(tiny_suite.changed(speed=None))


def test_the_file_of_a_run(quick, checkpoints, tiny_data, tmp_path):
    out = tmp_path / "speed" / "cpu.json"
    time_inference(quick, device="cpu", checkpoints=checkpoints, data=DataFolder(tiny_data), out=out)
    record = json.loads(out.read_text())
    assert (record["device"], record["threads"], record["seed"], record["split"]) == ("cpu", 1, 0, "val")
    assert [block["batch_size"] for block in record["blocks"]] == [1, 6]
    for block in record["blocks"]:
        assert list(block["rows"]) == ["faster_rcnn", "branch_off", "nms", "refine", "refine_bfloat16"]
        assert block["rows"]["refine_bfloat16"]["adds_ms"]["to"] == "refine"
        assert block["checked"]["largest_difference"] <= 1e-3
        assert block["rows"]["faster_rcnn"]["ratio"] == {"median": 1.0, "q1": 1.0, "q3": 1.0}
        assert "adds_ms" not in block["rows"]["faster_rcnn"]
        row = block["rows"]["refine"]
        assert row["fps"] == pytest.approx(1000 * block["batch_size"] / row["latency_ms"]["median"], rel=1e-3)
        assert row["adds_ms"]["to"] == "nms"
        assert set(row["stages_ms"]) == {"features", "proposals", "pooling", "iou_scores", "refinement", "rest"}
        assert min(row["stages_ms"].values()) > 0
    reduced = record["reduced_precision"]
    assert (reduced["row"], reduced["fc_dtype"], reduced["compared_with"]) == ("refine_bfloat16", "bfloat16", "refine")
    assert reduced["images"] == 12
    metrics = reduced["metrics"]
    assert list(metrics) == ["refine", "refine_bfloat16"]
    assert reduced["AP_difference"] == metrics["refine_bfloat16"]["AP"] - metrics["refine"]["AP"]
    assert record["checkpoints"]["faster_rcnn"]["sha256"] != record["checkpoints"]["samp1000_lw5.0"]["sha256"]


def test_a_timing_whose_file_snakemake_deleted_is_not_repeated(quick, checkpoints, tiny_data, tmp_path, monkeypatch):
    blocks = []

    def block(suite, rows, detectors, opened, data, batch_size, device):
        blocks.append(batch_size)
        return {"batch_size": batch_size, "number": len(blocks)}

    monkeypatch.setattr("experiments.speed.timing._time_block", block)
    monkeypatch.setattr("experiments.speed.timing._cost_of_precision", lambda *_: None)
    place = {"device": "cpu", "checkpoints": checkpoints, "data": DataFolder(tiny_data), "out": tmp_path / "cpu.json"}
    first = time_inference(quick, **place)
    place["out"].unlink()
    assert time_inference(quick, **place) == json.loads(place["out"].read_text()) == json.loads(json.dumps(first))
    assert len(blocks) == 2
    time_inference(quick.changed(speed={"rounds": 8, "images": 2}), **place)
    assert len(blocks) == 4


def test_nothing_is_timed_that_detects_otherwise_than_the_evaluation(
    quick, checkpoints, tiny_data, tmp_path, monkeypatch
):
    def shifted(self, images, metas):
        found = self.model.simple_test(images, metas, rescale=True)
        return [[boxes + 0.01 for boxes in by_class] for by_class in found]

    monkeypatch.setattr(Detector, "__call__", shifted)
    out = tmp_path / "cpu.json"
    with pytest.raises(RuntimeError, match=r"row 'faster_rcnn'.*largest difference 0.01"):
        time_inference(quick, device="cpu", checkpoints=checkpoints, data=DataFolder(tiny_data), out=out)
    assert not out.exists()


def test_a_lost_detection_is_found_by_the_gate(quick, checkpoints, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Detector, "__call__", lambda self, images, metas: [[boxes[1:] for boxes in image] for image in
                                                           self.model.simple_test(images, metas, rescale=True)]
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="nothing is timed"):
        time_inference(
            quick, device="cpu", checkpoints=checkpoints, data=DataFolder(tiny_data), out=tmp_path / "cpu.json"
        )


def test_settings_share_a_model_and_leave_it_as_it_was(tiny_suite, checkpoints, tiny_data):
    model = load_model(resolve_config(tiny_suite, "samp1000_lw5.0"), checkpoints["samp1000_lw5.0"])
    before = copy.deepcopy(model.roi_head.test_cfg)
    detector = Detector(model, Setting("none", StepSize(0.125, 0.125), 3))
    with detector.active():
        assert model.roi_head.test_cfg.iou.nms.guide == "none"
        assert (model.roi_head.test_cfg.iou.refine.lamb, model.roi_head.test_cfg.iou.refine.t) == (0.125, 3)
    assert model.roi_head.test_cfg == before
    with Detector(model, Setting("rank")).active():
        assert "refine" not in model.roi_head.test_cfg.iou
    with Detector(model, Setting()).active():
        assert "iou" not in model.roi_head.test_cfg


def test_every_row_sees_every_batch_and_takes_its_turn_to_go_first():
    calls = []
    detectors = {key: lambda images, metas, key=key: calls.append((key, images)) for key in "abc"}
    timed = time_rounds(detectors, [(0, []), (1, [])], rounds=3, batches_per_round=1, synchronize=lambda: None)
    assert [key for key, _ in calls[::3]] == ["a", "b", "c"]
    assert [image for _, image in calls] == [0] * 3 + [1] * 3 + [0] * 3
    assert [len(one[key]) for one in timed for key in "abc"] == [1] * 9


def test_a_stopwatch_counts_the_first_call_and_is_gone_after_the_block():
    class Model:
        def work(self, value):
            return value + 1

    model, spent, synchronized = Model(), {}, []
    with _stopwatch(model, "work", "stage", spent, lambda: synchronized.append(1)):
        assert model.work(1) == 2
        first = spent["stage"]
        assert model.work(2) == 3
    assert spent == {"stage": first}
    assert len(synchronized) == 4
    assert "work" not in vars(model)


def test_the_baseline_has_no_iou_stages(tiny_suite, checkpoints):
    model = load_model(resolve_config(tiny_suite, "faster_rcnn"), checkpoints["faster_rcnn"])
    assert [stage for _, _, stage in stages_of(model)] == ["features", "proposals", "pooling"]


def test_ratios_are_of_a_rounds_own_times():
    rows = [TimedSetting("faster_rcnn", "f", Setting()), TimedSetting("branch_off", "i", Setting())]
    # the machine is twice as slow in the second round: the ratio stays
    timed = [
        {"faster_rcnn": [{"total": scale * 0.010}], "branch_off": [{"total": scale * 0.012}]} for scale in (1, 2, 1)
    ]
    staged = [
        {
            "faster_rcnn": [{"total": 0.010, "pooling": 0.006}],
            "branch_off": [{"total": 0.012, "pooling": 0.002}],
        }
    ] * 2
    own = summary(rows, timed, staged, batch_size=4)["branch_off"]
    assert own["ratio"] == {"median": 1.2, "q1": 1.2, "q3": 1.2}
    assert own["ratio_without_pooling"]["median"] == 2.5
    assert own["latency_ms"] == {"median": 12.0, "q1": 12.0, "q3": 18.0}
    assert own["fps"] == pytest.approx(4000 / 12, abs=1e-3)
    assert own["adds_ms"] == {"to": "faster_rcnn", "median": 2.0, "q1": 2.0, "q3": 3.0}
    assert own["stages_ms"] == {"pooling": 2.0, "rest": 10.0}


def test_quartiles():
    assert quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == {"median": 3.0, "q1": 2.0, "q3": 4.0}


def test_the_ap_of_a_row_is_in_its_own_precision(quick, checkpoints, tiny_data, tmp_path, monkeypatch):
    used = []
    cast = IoUHead.cast

    def spy(head, fc_dtype):
        used.append(fc_dtype)
        return cast(head, fc_dtype)

    monkeypatch.setattr(IoUHead, "cast", spy)
    model = load_model(resolve_config(quick, FIRST), checkpoints[FIRST])
    rows = [row for row in timed_settings(quick) if row.key.startswith("refine")]
    detectors = {row.key: Detector(model, row.setting, row.fc_dtype) for row in rows}
    dataset = build_split(with_classes(quick, tiny_data), DataFolder(tiny_data), "val")
    cost = _cost_of_precision(rows, detectors, dataset, batch_size=6, workers=0)
    assert used == ["float32"] * 2 + ["bfloat16"] * 2  # in every batch once
    # against the evaluation's own path
    evaluated = detect(model, dataset, [rows[0].setting], batch_size=6)[rows[0].setting.name]
    metrics = evaluate_detections(dataset.coco, evaluated, dataset.img_ids).metrics
    assert cost["metrics"]["refine"] == metrics
    assert _cost_of_precision(rows[:1], detectors, dataset, batch_size=6, workers=0) is None


def test_the_evaluation_follows_a_config_in_reduced_precision(quick, checkpoints, tiny_data):
    model = load_model(resolve_config(quick, FIRST), checkpoints[FIRST])
    dataset = build_split(with_classes(quick, tiny_data), DataFolder(tiny_data), "val")
    setting = Setting("rank", StepSize(0.15, 0.15), 5)
    full, again = (detect(model, dataset, [setting], batch_size=6)[setting.name] for _ in range(2))
    model.roi_head.test_cfg.iou.fc_dtype = "bfloat16"
    reduced = detect(model, dataset, [setting], batch_size=6)[setting.name]
    assert full == again
    assert full.iou != reduced.iou
    assert max(reduced.iou) == pytest.approx(max(full.iou), abs=0.02)


def test_a_precision_that_the_device_lacks_is_an_error_before_the_timing(
    quick, checkpoints, tiny_data, tmp_path, monkeypatch
):
    monkeypatch.setattr("iounet.models.iou_head._cpu_computes_float16", lambda: False)
    quick = quick.changed(speed={**quick.raw["speed"], "fc_dtype": "float16"})
    with pytest.raises(SuiteError, match=r"speed.fc_dtype cannot be timed: .*'float16' is not possible here"):
        time_inference(
            quick, device="cpu", checkpoints=checkpoints, data=DataFolder(tiny_data), out=tmp_path / "cpu.json"
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error_that_says_what_to_do(quick, checkpoints, tiny_data, tmp_path):
    with pytest.raises(SuiteError, match="choose 'cpu'"):
        time_inference(
            quick, device="cuda", checkpoints=checkpoints, data=DataFolder(tiny_data), out=tmp_path / "cuda.json"
        )

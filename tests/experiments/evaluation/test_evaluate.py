"""Evaluation: the settings of one pass equal mmdet's own testing; what is refused."""

import json

import numpy as np
import pytest
import torch

from experiments.config import resolve_config
from experiments.data.datasets import build_split
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.inference import detect
from experiments.models import build_model, load_model
from suite.errors import SuiteError
from suite.files import read_json
from suite.layout import DataFolder, EvaluationFolder
from suite.settings import Setting, StepSize


@pytest.fixture(scope="module")
def cfg(tiny_suite):
    return resolve_config(tiny_suite, "samp1000_lw5.0")


@pytest.fixture(scope="module")
def checkpoint(cfg, tiny_suite, tmp_path_factory):
    """Random weights: nothing in these tests needs good detections, only many."""
    torch.manual_seed(0)
    model = build_model(cfg, initialize=True)
    path = tmp_path_factory.mktemp("weights") / "checkpoint.pth"
    classes = ["circle", "triangle", "cross", "bar", "ring"]
    torch.save({"meta": {"classes": classes}, "state_dict": model.state_dict()}, path)
    return path


@pytest.mark.parametrize(
    "setting",
    [
        Setting(),
        Setting("rank"),
        Setting("weight", StepSize(0.25, 0.25), 2),
        Setting("rank", StepSize(0.125, 0.125), 1, "movement"),
        Setting("rank", part="score"),
    ],
    ids=lambda setting: setting.name,
)
def test_a_setting_gives_what_mmdets_own_testing_gives(cfg, checkpoint, tiny_data, setting):
    from mmdet.datasets import build_dataloader

    dataset = build_split(cfg, DataFolder(tiny_data), "val")
    others = [Setting("none", StepSize(1.0, 1.0), 3), Setting("rank", StepSize(0.125, 0.125), 1)]
    found = detect(load_model(cfg, checkpoint), dataset, [others[0], setting, others[1]], batch_size=5)[setting.name]

    own = resolve_config_with(cfg, setting)
    model = load_model(own, checkpoint)
    expected = []
    for batch in build_dataloader(dataset, 5, 0, dist=False, shuffle=False):
        with torch.no_grad():
            images, metas = batch["img"][0].data[0], batch["img_metas"][0].data[0]
            expected += model.simple_test(images, metas, rescale=True)
    rows = [
        (i, label, *box) for i, result in enumerate(expected) for label, boxes in enumerate(result) for box in boxes
    ]
    ours = [
        (dataset.img_ids.index(i), dataset.cat_ids.index(c), b[0], b[1], b[0] + b[2], b[1] + b[3], s)
        for i, c, b, s in zip(found.image_id, found.category_id, found.bbox, found.score, strict=True)
    ]
    assert len(ours) > 100
    np.testing.assert_allclose(sorted(ours), sorted(rows), atol=2e-3)


def resolve_config_with(cfg, setting):
    own = type(cfg)(json.loads(json.dumps(cfg._cfg_dict)))
    if setting.guide is None:
        del own.model.test_cfg.rcnn["iou"]
    else:
        own.model.test_cfg.rcnn.iou.nms["guide"] = setting.guide
        if setting.part is not None:
            own.model.test_cfg.rcnn.iou.refine.use_iou_score = setting.part == "score"
        if setting.part == "score":
            own.model.test_cfg.rcnn.iou.refine.t = 0
        elif setting.step_size is None:
            del own.model.test_cfg.rcnn.iou["refine"]
        else:
            own.model.test_cfg.rcnn.iou.refine.update(lamb=setting.step_size.actual, t=setting.num_steps)
    return own


def test_files_of_an_evaluation(tiny_suite, tiny_data, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (tmp_path / "rank_refine9.json").write_text("{}")
    evaluate(
        tiny_suite,
        "samp1000_lw5.0",
        0,
        "val",
        checkpoint=checkpoint,
        data=DataFolder(tiny_data),
        out=EvaluationFolder(tmp_path),
    )
    settings = ["off", "rank", "rank_refine0.25"]
    expected = {f"{s}.json" for s in settings} | {f"{s}.matches.json.gz" for s in settings}
    expected |= {"detections.json.gz", "diagnostics.json", "evaluation.json", ".lock", ".result"}
    assert {path.name for path in tmp_path.iterdir()} == expected
    detections = read_json(tmp_path / "detections.json.gz")
    assert len(detections["images"]) == 12
    for setting in settings:
        record = read_json(tmp_path / f"{setting}.json")
        assert record["detections"] == len(detections["settings"][setting]["score"])
        known = [iou is not None for iou in detections["settings"][setting]["iou"]]
        assert all(known) if setting != "off" else not any(known)
    diagnostics = read_json(tmp_path / "diagnostics.json")
    assert diagnostics["checkpoint_sha256"] == record["checkpoint_sha256"]
    assert (diagnostics["variant"], diagnostics["seed"], diagnostics["split"]) == ("samp1000_lw5.0", 0, "val")
    assert diagnostics["images"] == 12


def test_an_evaluation_whose_index_snakemake_deleted_is_not_repeated(
    tiny_suite, tiny_data, checkpoint, tmp_path, monkeypatch
):
    """But one of another checkpoint, commit or setting is, and one that lacks a file."""
    out = EvaluationFolder(tmp_path / "out")
    passes = []

    def counted(*args, **kwargs):
        passes.append(args)
        return detect(*args, **kwargs)

    def again(suite=tiny_suite, checkpoint=checkpoint, **kwargs):
        before = len(passes)
        place = {"checkpoint": checkpoint, "data": DataFolder(tiny_data), "out": out}
        found = evaluate(suite, "samp1000_lw5.0", 0, "val", **place, **kwargs)
        assert out.index.is_file()
        return found, len(passes) - before

    monkeypatch.setattr("experiments.evaluation.evaluate.detect", counted)
    first, repeated = again()
    assert repeated == 1
    index = out.index.read_bytes()
    out.index.unlink()
    assert again() == (json.loads(json.dumps(first)), 0)
    assert out.index.read_bytes() == index
    out.matches("rank").unlink()
    assert again()[1] == 1
    other = tmp_path / "other.pth"
    state = torch.load(checkpoint, weights_only=True)
    torch.save({**state, "meta": {**state["meta"], "seed": 1}}, other)
    assert again(checkpoint=other)[1] == 1
    assert again(checkpoint=other)[1] == 0
    fewer = tiny_suite.changed(inference={**tiny_suite.raw["inference"], "num_steps": 1})
    assert again(fewer, checkpoint=other)[1] == 1
    monkeypatch.setattr("suite.provenance.git_state", lambda: {"git_commit": "another", "git_dirty": False})
    assert again(fewer, checkpoint=other)[1] == 1


@pytest.mark.parametrize("name", ["notes.json", "precious.json.gz", "README.md"])
def test_a_folder_with_other_files_is_refused_before_anything_is_computed(tiny_suite, tiny_data, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(SuiteError, match=rf"holds '{name}', which is no part of an evaluation: choose another --out"):
        evaluate(
            tiny_suite,
            "faster_rcnn",
            0,
            "val",
            checkpoint=tmp_path / "none.pth",
            data=DataFolder(tiny_data),
            out=EvaluationFolder(tmp_path),
        )
    assert (tmp_path / name).read_text() == "mine"


def test_an_old_index_does_not_outlive_what_it_speaks_of(tiny_suite, tiny_data, checkpoint, tmp_path, monkeypatch):
    out = EvaluationFolder(tmp_path)
    out.index.write_text("{}")

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.evaluation.files.evaluate_detections", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tiny_suite, "samp1000_lw5.0", 0, "val", checkpoint=checkpoint, data=DataFolder(tiny_data), out=out)
    assert not out.index.exists()


def test_a_missing_checkpoint_says_what_to_run(tiny_suite, tiny_data, tmp_path):
    with pytest.raises(SuiteError, match="none.pth is missing: train it first"):
        evaluate(
            tiny_suite,
            "faster_rcnn",
            0,
            "val",
            checkpoint=tmp_path / "none.pth",
            data=DataFolder(tiny_data),
            out=EvaluationFolder(tmp_path),
        )


def test_a_checkpoint_of_another_model_is_named(tiny_suite, checkpoint):
    with pytest.raises(SuiteError, match="checkpoint.pth does not fit its config"):
        load_model(resolve_config(tiny_suite, "faster_rcnn"), checkpoint)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("triangle circle cross bar ring", "its class 1 is 'triangle', that of the data is 'circle'"),
        ("circle triangle cross bar", "its class 5 is none, that of the data is 'ring'"),
    ],
)
def test_classes_in_another_order_are_not_evaluated(tiny_suite, tiny_data, checkpoint, tmp_path, classes, message):
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    torch.save({"meta": {"CLASSES": classes.split()}, "state_dict": state}, tmp_path / "epoch_12.pth")
    with pytest.raises(SuiteError, match=f"epoch_12.pth: {message}"):
        evaluate(
            tiny_suite,
            "samp1000_lw5.0",
            0,
            "val",
            checkpoint=tmp_path / "epoch_12.pth",
            data=DataFolder(tiny_data),
            out=EvaluationFolder(tmp_path / "out"),
        )


def test_a_file_that_is_no_run_is_named(tiny_suite, tmp_path):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "foreign.pth")
    with pytest.raises(SuiteError, match="foreign.pth does not fit its config: 'state_dict'"):
        load_model(resolve_config(tiny_suite, "faster_rcnn"), tmp_path / "foreign.pth")


def test_an_unknown_split_is_named(cfg, tiny_data):
    with pytest.raises(SuiteError, match="tset.json is missing: make the data first"):
        build_split(cfg, DataFolder(tiny_data), "tset")

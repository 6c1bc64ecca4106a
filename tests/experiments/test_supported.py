"""Configs that a training here cannot follow are refused when they are resolved, with variant, file and key."""

from pathlib import Path

import pytest

from experiments.config import resolve_config
from suite.errors import SuiteError
from suite.suite import ROOT, load_suite

BASE = ROOT / "tests/workflow/configs/own_faster_rcnn.py"


@pytest.fixture
def resolved(tmp_path):
    """Resolves the project's smallest config with lines of one's own below it."""

    def resolve(text, base=BASE):
        path = tmp_path / "mine.py"
        path.write_text(f"_base_ = [{str(base)!r}]\n{text}\n")
        variants = {"mine": {"family": "baseline", "config": str(path)}}
        return resolve_config(load_suite("tests/workflow/tiny.yaml").changed(variants=variants), "mine")

    return resolve


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("load_from = 'epoch_12.pth'", "load_from = 'epoch_12.pth' has no effect here: a training starts from"),
        (
            "resume_from = 'epoch_12.pth'",
            "resume_from = .* has no effect here: a training that was stopped is continued",
        ),
        ("fp16 = dict(loss_scale=512.0)", r"fp16 = .* has no effect here: set `precision = 'fp16'`"),
        ("custom_hooks = [dict(type='EMAHook')]", "custom_hooks = .* has no effect here"),
        ("workflow = [('train', 1), ('val', 1)]", "workflow = .* has no effect here"),
        ("evaluation = dict(interval=5)", "evaluation = .* has no effect here"),
        ("evaluation = dict(metric='bbox', classwise=True)", "evaluation = .* has no effect here"),
        ("total_epochs = 24", "total_epochs = 24 has no effect here: set `runner"),
        ("momentum_config = dict(policy='cyclic')", "momentum_config = .* has no effect here"),
        ("seed = 3", "seed = 3 has no effect here: the suite's `seeds`"),
        ("runner = dict(_delete_=True, type='IterBasedRunner', max_iters=9)", "runner.type = 'IterBasedRunner' is not"),
        ("runner = dict(max_epochs=0)", "runner.max_epochs is 0, expected 1 or more"),
        ("runner = None", "key 'runner' is None"),
        ("lr_config = None", "key 'lr_config' is None"),
        ("model = None", "key 'model' is None"),
        ("model = dict(roi_head=None)", "model.roi_head is None, expected a dict"),
        ("model = dict(backbone=None)", "model.backbone is None"),
        ("model = dict(_delete_=True, type='RetinaNet', backbone=dict(depth=18))", "model.test_cfg is None"),
        (
            "data = dict(train=dict(_delete_=True, type='RepeatDataset', times=3, dataset=dict(type='CocoDataset')))",
            "data.train is of type 'RepeatDataset': give a data set with a pipeline of its own",
        ),
        ("data = dict(test=None)", "data.test is of type None"),
        ("model = dict(", "cannot be read: SyntaxError"),
        ("import nowhere_to_be_found", "cannot be read: ModuleNotFoundError"),
    ],
)
def test_what_is_refused(resolved, text, message):
    with pytest.raises(SuiteError, match=rf"variant 'mine', .*mine\.py:? {message}"):
        resolved(text)


def test_a_base_that_is_missing_is_named(resolved, tmp_path):
    with pytest.raises(SuiteError, match="variant 'mine', .*mine.py cannot be read: FileNotFoundError.*nowhere.py"):
        resolved("", base=tmp_path / "nowhere.py")


@pytest.mark.parametrize(
    "text",
    [
        "load_from = None\nresume_from = None\nworkflow = [('train', 1)]",
        "custom_hooks = [dict(type='NumClassCheckHook')]",
        "evaluation = dict(interval=1, metric='bbox')",
        "checkpoint_config = dict(interval=1)\nlog_level = 'INFO'\ndist_params = dict(backend='nccl')",
        "lr_config = dict(_delete_=True, policy='poly', power=0.9)",
    ],
)
def test_what_happens_anyway_is_accepted(resolved, text):
    resolved(text)


def test_no_clipping_as_mmdet_writes_it(resolved):
    assert resolved("optimizer_config = None").optimizer_config == {}


@pytest.mark.parametrize("name", ["shapes", "coco"])
def test_the_projects_own_configs_are_supported(name):
    suite = load_suite(f"experiments/{name}.yaml")
    for variant in suite.trained:
        assert Path(suite.variant(variant).config).is_file()
        resolve_config(suite, variant)

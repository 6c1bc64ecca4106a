"""Configs that mmdet would train otherwise than they say, or not at all: each is refused, with file and key or value.

`tests/experiments/test_supported.py` has those of other trainings than this project's, `tests/suite/test_bad_suites.py`
the suites.
"""

from pathlib import Path

import mmdet
import pytest

from experiments.config import resolve_config, set_classes
from experiments.data.datasets import build_training_set
from experiments.models import build_model
from suite.errors import SuiteError
from suite.layout import DataFolder
from suite.suite import ROOT, load_suite
from sweeps.space import Search

BASES = {"baseline": "own_faster_rcnn", "iounet": "tiny_iounet"}

# a family's smallest config, with these lines below it -> what the message must name, when it is resolved
BAD = [
    ("baseline", "optimizer = dict(lr=0)", "optimizer.lr is 0"),
    ("baseline", "optimizer = dict(lr=-0.1)", "optimizer.lr is -0.1"),
    ("baseline", "optimizer = dict(lr='0.02')", "optimizer.lr is '0.02'"),
    ("baseline", "optimizer = dict(lr=float('nan'))", "optimizer.lr is nan"),
    ("baseline", "optimizer = dict(type='Adamw')", "optimizer = {'type': 'Adamw'"),
    ("baseline", "optimizer = dict(momentun=0.9)", "momentun"),
    ("baseline", "optimizer = dict(weight_decay=-1)", "optimizer = {"),
    ("baseline", "lr_config = dict(policy='stpe')", "lr_config = {'policy': 'stpe'"),
    ("baseline", "lr_config = dict(_delete_=True)", "lr_config = {}"),
    ("baseline", "lr_config = dict(step=['8'])", "lr_config = {"),
    ("baseline", "lr_config = dict(warmup_iters=-1)", "lr_config = {"),
    ("baseline", "lr_config = dict(warmup='slow')", "slow"),
    ("baseline", "lr_config = dict(gama=0.1)", "gama"),
    ("baseline", "optimizer_config = dict(grad_clp=dict(max_norm=1))", "grad_clp"),
    ("baseline", "optimizer_config = dict(type='NoHook')", "NoHook"),
    (
        "baseline",
        "precision = 'fp16'\noptimizer_config = dict(type='GradientCumulativeOptimizerHook', cumulative_iters=4)",
        "optimizer_config.cumulative_iters has no effect with precision = 'fp16'",
    ),
    ("baseline", "runner = dict(max_iters=9)", "runner.max_iters has no effect"),
    ("baseline", "runner = dict(max_epochs='12')", "runner.max_epochs is '12'"),
    ("baseline", "auto_scale_lr = dict(_delete_=True, enable=True)", "auto_scale_lr.base_batch_size is None"),
    ("baseline", "auto_scale_lr = dict(base_batch_size=0)", "auto_scale_lr.base_batch_size is 0"),
    ("baseline", "data = dict(samples_per_gpu=0)", "data.samples_per_gpu is 0"),
    ("baseline", "data = dict(samples_per_gpu=2.5)", "data.samples_per_gpu is 2.5"),
    ("baseline", "data = dict(workers_per_gpu=-1)", "data.workers_per_gpu is -1"),
    ("baseline", "log_interval = 0", "log_interval is 0"),
    ("baseline", "data = dict(train=dict(ann_file='trian.json'))", "ann_file = 'trian.json'"),
    ("baseline", "data = dict(train=dict(img_prefix='data/coco/train2017/'))", "img_prefix = 'data/coco/train2017/'"),
    ("baseline", "data = dict(train=dict(ann_file='val.json', img_prefix='val/'))", "data.train is split 'val', "),
    ("baseline", "data = dict(train=dict(pipeline=[]))", "data.train"),
    ("baseline", "data = dict(val=None)", "data.val"),
    ("baseline", "model = dict(train_cfg=None)", "model.train_cfg has no `rcnn`"),
    ("baseline", "model = dict(test_cfg=dict(rcnn=None))", "model.test_cfg has no `rcnn`"),
    ("baseline", "model = dict(roi_head='StandardRoIHead')", "model.roi_head is 'StandardRoIHead'"),
    ("baseline", "model = dict(roi_head=dict(iou_head=dict(type='IoUHead')))", "family is 'baseline'"),
    ("baseline", "raise RuntimeError('no')", "cannot be read: RuntimeError: no"),
    ("baseline", "_base_ = ['a.py', 'a.py']", "cannot be read"),
    ("baseline", "x = {{ nowhere }}", "cannot be read"),
    ("iounet", "model = dict(roi_head=dict(iou_head=None))", "model.roi_head has no iou_head"),
    ("iounet", "model = dict(roi_head=dict(iou_head=dict(loss_iou=None)))", "model.roi_head.iou_head.loss_iou is None"),
    ("iounet", "model = dict(roi_head=dict(roi_generator=None))", "model.roi_head.roi_generator is None"),
    ("iounet", "model = dict(test_cfg=dict(rcnn=dict(iou=None)))", "model.test_cfg.rcnn.iou is None"),
    ("iounet", "model = dict(test_cfg=dict(rcnn=dict(iou=dict(nms=dict(guide='rnak')))))", "'rnak'"),
    ("iounet", "model = dict(test_cfg=dict(rcnn=dict(iou=dict(refine=dict(lamb=0)))))", "refine.lamb is 0"),
    ("iounet", "model = dict(test_cfg=dict(rcnn=dict(iou=dict(refine=dict(lamb='2')))))", "refine.lamb is '2'"),
]  # fmt: skip
# likewise, when the detector is built
BAD_MODELS = [
    ("baseline", "model = dict(type='FasterRCN')", "FasterRCN"),
    ("baseline", "model = dict(backbone=dict(type='ResNte'))", "ResNte"),
    ("baseline", "model = dict(backbone=dict(depth=17))", "17"),
    ("baseline", "model = dict(roi_head=dict(bbox_head=dict(fc_out_chanels=32)))", "fc_out_chanels"),
    ("baseline", "custom_imports = dict(imports=['nowhere_at_all'], allow_failed_imports=False)", "nowhere_at_all"),
    ("iounet", "model = dict(roi_head=dict(type='IoURoiHead'))", "IoURoiHead"),
    ("iounet", "model = dict(roi_head=dict(roi_generator=dict(sampel_num=9)))", "sampel_num"),
    ("iounet", "model = dict(train_cfg=dict(rcnn=dict(iou_sampler=None)))", "iou_sampler"),
]
# likewise, when the data are read
BAD_DATA_SETS = [
    ("data = dict(train=dict(type='CocoDatset'))", "CocoDatset"),
    ("data = dict(train=dict(filter_empty=True))", "filter_empty"),
    ("train_pipeline = [dict(type='LoadImg')]\ndata = dict(train=dict(pipeline=train_pipeline))", "LoadImg"),
]
GOOD = [
    ("baseline", ""),
    (
        "baseline",
        "optimizer = dict(_delete_=True, type='AdamW', lr=1, weight_decay=1, paramwise_cfg=dict(norm_decay_mult=0))",
    ),
    ("baseline", "optimizer_config = dict(_delete_=True, grad_clip=dict(max_norm=35, norm_type=2))"),
    ("baseline", "optimizer_config = dict(type='GradientCumulativeOptimizerHook', cumulative_iters=4)"),
    ("baseline", "lr_config = dict(_delete_=True, policy='CosineAnnealing', min_lr=0)"),
    ("baseline", "lr_config = dict(_delete_=True, policy='step', step=3)"),
    ("baseline", "auto_scale_lr = dict(enable=False)"),
    ("baseline", "data = dict(train=dict(ann_file='pretrain.json', img_prefix='pretrain/'))"),
    ("iounet", "model = dict(test_cfg=dict(rcnn=dict(iou=dict(refine=None))))"),
    ("iounet", "model = dict(test_cfg=dict(rcnn=dict(iou=dict(nms=dict(guide='none')))))"),
]
BAD_SWEEPS = [
    ({"base": "nowhere"}, "'nowhere'"),
    ({"base": "faster_rcnn"}, "'faster_rcnn' of `sweep:` has no IoU branch"),
    ({"published": ["nowhere"]}, "'nowhere'"),
    ({"published": ["faster_rcnn"]}, "'faster_rcnn' of `sweep:` has no IoU branch"),
    ({"split": "tnue"}, "sweep.split is 'tnue'"),
    ({"split": "val"}, "sweep.split and report_split are both 'val'"),
    ({"space": {"loss_weight": [6, 20]}}, "sweep.space.loss_weight is [6, 20], which leaves out 5"),
    ({"space": {"per_iou": [10, 90]}}, "sweep.space has no per_img"),
]


@pytest.fixture
def suite_of(tmp_path):
    """A suite of one variant: the smallest config of a family, with lines of one's own below it."""

    def make(family, lines):
        base = ROOT / f"tests/workflow/configs/{BASES[family]}.py"
        path = tmp_path / "mine.py"
        path.write_text(f"_base_ = [{str(base)!r}]\n{lines}\n")
        return load_suite("tests/workflow/tiny.yaml").changed(
            variants={"mine": {"family": family, "config": str(path)}}
        )

    return make


def refusal(call):
    """The message of the `SuiteError` that a call must end with."""
    with pytest.raises(SuiteError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(("family", "lines", "fragment"), BAD, ids=[lines[:60] for _, lines, _ in BAD])
def test_a_bad_config_is_refused_when_it_is_resolved(suite_of, family, lines, fragment):
    message = refusal(lambda: resolve_config(suite_of(family, lines), "mine"))
    assert message.startswith("variant 'mine', ") and "mine.py" in message
    assert fragment in message


@pytest.mark.parametrize(("family", "lines", "fragment"), BAD_MODELS, ids=[lines for _, lines, _ in BAD_MODELS])
def test_a_model_that_cannot_be_built_is_refused_by_file(suite_of, family, lines, fragment):
    message = refusal(lambda: build_model(resolve_config(suite_of(family, lines), "mine")))
    assert "mine.py: its model cannot be built: " in message
    assert fragment in message


@pytest.mark.parametrize(("lines", "fragment"), BAD_DATA_SETS)
def test_a_data_set_that_cannot_be_built_is_refused_by_file(suite_of, tiny_data, lines, fragment):
    cfg = resolve_config(suite_of("baseline", lines), "mine")
    set_classes(cfg, ["circle"])
    message = refusal(lambda: build_training_set(cfg, DataFolder(tiny_data)))
    assert "train.json" in message and fragment in message


@pytest.mark.parametrize(("changes", "fragment"), BAD_SWEEPS, ids=[str(changes) for changes, _ in BAD_SWEEPS])
def test_a_sweep_that_its_configs_do_not_fit_is_refused(changes, fragment):
    block = {"base": "samp1000_lw5.0", "space": {"loss_weight": [1, 20]}, **changes}
    assert fragment in refusal(lambda: Search(load_suite("tests/workflow/tiny.yaml").changed(sweep=block)))


@pytest.mark.parametrize(("family", "lines"), GOOD, ids=[lines[:60] for _, lines in GOOD])
def test_a_good_config_is_accepted(suite_of, family, lines):
    cfg = resolve_config(suite_of(family, lines).changed(training={"epochs": 2}), "mine")
    assert cfg.log_interval in (1, 50)


def test_mmdets_own_config_needs_its_images_named_only(tmp_path):
    base = Path(mmdet.__file__).parent / ".mim/configs/faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py"
    images = "train=dict(ann_file='train.json', img_prefix='train/')"
    (tmp_path / "mine.py").write_text(f"_base_ = [{str(base)!r}]\ndata = dict({images})\n")
    variants = {"mine": {"family": "baseline", "config": str(tmp_path / "mine.py")}}
    cfg = resolve_config(load_suite("tests/workflow/tiny.yaml").changed(variants=variants), "mine")
    assert cfg.log_interval == 50

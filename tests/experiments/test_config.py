"""A resolved config: what suite, data and machine change in it; its hashes."""

from pathlib import Path

import pytest

from experiments.config import config_hash, default_setting, fit_schedule, resolve_config, set_classes, training_hash
from suite.blocks import Scale
from suite.errors import SuiteError
from suite.settings import Setting, StepSize
from suite.suite import load_suite

COCO = "experiments/coco.yaml"


def coco(**changes):
    return load_suite(COCO).changed(**changes)


def tiny(**changes):
    return load_suite("tests/workflow/tiny.yaml").changed(**changes)


def config(**training):
    return resolve_config(coco(training=training), "samp1000_lw5.0")


@pytest.mark.parametrize(("gpus", "images", "rate"), [(1, 2, 0.0025), (2, 2, 0.005), (8, 2, 0.02), (4, 1, 0.005)])
def test_the_learning_rate_is_for_the_images_of_a_batch(gpus, images, rate):
    cfg = config(images_per_gpu=images)
    changed, (note,) = fit_schedule(cfg, gpus, 10_000)
    assert cfg.optimizer.lr == pytest.approx(rate)
    assert changed == {"lr": {"published": 0.02, "actual": pytest.approx(rate)}}
    assert note.startswith(f"learning rate {rate:g}: 0.02 for 16 images, scaled to {gpus} process")


def test_the_published_machine_trained_with_a_quarter():
    cfg = config()
    fit_schedule(cfg, 2, 29_317)
    assert cfg.optimizer.lr == 0.02 / 4  # 2 GPUs with 2 images each
    assert (cfg.runner.max_epochs, cfg.lr_config.step, cfg.lr_config.warmup_iters) == (12, [8, 11], 500)


def test_a_short_training_has_a_short_warm_up():
    cfg = config(epochs=3)
    changed, notes = fit_schedule(cfg, 1, 40)
    assert cfg.lr_config.warmup_iters == 12 and changed["warmup_iters"] == {"published": 500, "actual": 12}
    assert any("warm-up of 12 iterations" in note for note in notes)


def test_a_config_without_scaling_is_left_alone():
    cfg = resolve_config(load_suite("experiments/shapes.yaml"), "faster_rcnn")
    assert fit_schedule(cfg, 4, 1) == ({}, [])


@pytest.mark.parametrize(("epochs", "steps"), [(12, [8, 11]), (24, [16, 22]), (6, [4, 6]), (1, [1])])
def test_the_steps_move_with_the_length(epochs, steps):
    cfg = config(epochs=epochs)
    assert (cfg.runner.max_epochs, cfg.lr_config.step) == (epochs, steps)


def test_the_image_size_reaches_every_pipeline():
    cfg = config(image_size=[640, 400])
    assert cfg.data.train.pipeline[2].img_scale == (640, 400)
    assert cfg.data.test.pipeline[1].img_scale == cfg.data.val.pipeline[1].img_scale == (640, 400)


def test_a_sweep_can_train_on_another_split():
    cfg = config(split="trainwithouttune")
    assert (cfg.data.train.ann_file, cfg.data.train.img_prefix) == ("trainwithouttune.json", "trainwithouttune/")
    assert cfg.data.test.ann_file == "val.json"


def test_what_a_suite_changes_in_a_training_changes_its_hash():
    plain = training_hash(config())
    changes = [{"epochs": 6}, {"image_size": [640, 400]}, {"images_per_gpu": 4}, {"split": "trainwithouttune"}]
    hashes = {training_hash(config(**change)) for change in changes}
    assert len(hashes) == 4 and plain not in hashes
    assert training_hash(config(backbone_weights="elsewhere.pth")) == plain


@pytest.mark.parametrize("name", ["samp1000_lw5.0", "cascade_rcnn", "mask_rcnn"])
def test_every_head_gets_the_classes_of_the_data(name):
    others = {n: {"family": "iounet", "config": e.config} for n, e in load_suite(COCO).untrained.items()}
    suite = coco(variants=others | load_suite(COCO).raw["variants"])
    cfg = resolve_config(suite, name)
    set_classes(cfg, ["a", "b", "c"])
    assert "80" not in str(cfg.model.roi_head.get("bbox_head")) + str(cfg.model.roi_head.get("mask_head"))
    assert cfg.model.roi_head.iou_head.num_classes == 3
    assert cfg.data.train.classes == cfg.data.test.classes == ("a", "b", "c")


def test_the_coco_suite_has_the_published_hyper_parameters():
    suite = coco()
    for name, (loss, weight, rois) in {
        "samp1000_lw5.0": ("SmoothL1Loss", 5.0, {"per_iou": None, "sample_num": 1000}),
        "samp1000_lw5.0_bce": ("CrossEntropyLoss", 5.0, {"per_iou": None, "sample_num": 1000}),
        "max1000_lw5.0_periou30": ("SmoothL1Loss", 5.0, {"per_iou": 30, "sample_num": None, "max_num": 1000}),
        "max1000_lw5.0_periou50": ("SmoothL1Loss", 5.0, {"per_iou": 50, "sample_num": None, "max_num": 1000}),
        "max1000_lw10.0_periou50": ("SmoothL1Loss", 10.0, {"per_iou": 50, "sample_num": None, "max_num": 1000}),
    }.items():
        cfg = resolve_config(suite, name)
        head = cfg.model.roi_head
        assert (head.iou_head.loss_iou.type, head.iou_head.loss_iou.loss_weight) == (loss, weight)
        assert {key: head.roi_generator[key] for key in rois} == rois
        assert head.iou_head.fc_channels == [1024, 1024] and head.iou_head.in_channels == 256 * 49
        assert cfg.data.train.pipeline[2].img_scale == (1333, 800) and cfg.data.samples_per_gpu == 2
    assert suite.seeds == (0,) and suite.scale == Scale(1.0, 1.0, 1.0, 1.0, 1.0) and suite.pretraining is None


def test_the_base_is_mmdets_own_faster_rcnn():
    from pathlib import Path

    import mmdet
    from mmcv import Config

    path = Path(mmdet.__file__).parent / ".mim/configs/faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py"
    theirs, ours = Config.fromfile(str(path)), resolve_config(coco(), "faster_rcnn")
    for key in ("model", "optimizer", "optimizer_config", "lr_config", "runner", "train_pipeline", "test_pipeline"):
        assert ours[key] == theirs[key], key
    assert ours.auto_scale_lr.base_batch_size == theirs.auto_scale_lr.base_batch_size
    assert (ours.data.samples_per_gpu, ours.data.workers_per_gpu) == (2, 2)


@pytest.mark.parametrize("name", ["cascade_rcnn", "mask_rcnn"])
def test_the_other_detectors_are_mmdets_but_for_the_branch(name):
    from pathlib import Path

    import mmdet
    from mmcv import Config

    path = Path(mmdet.__file__).parent / f".mim/configs/_base_/models/{name}_r50_fpn.py"
    theirs = Config.fromfile(str(path)).model
    ours = Config.fromfile(coco().untrained[name].config, import_custom_modules=False).model
    for key in ("backbone", "neck", "rpn_head"):
        assert ours[key] == theirs[key], key
    for key in ("bbox_head", "mask_head", "mask_roi_extractor", "stage_loss_weights"):
        assert ours.roi_head.get(key) == theirs.roi_head.get(key), key
    for phase in ("rpn", "rpn_proposal"):
        assert ours.train_cfg[phase] == theirs.train_cfg[phase], phase
    assert ours.test_cfg.rpn == theirs.test_cfg.rpn
    assert {k: v for k, v in ours.test_cfg.rcnn.items() if k != "iou"} == theirs.test_cfg.rcnn
    if name == "cascade_rcnn":
        assert ours.train_cfg.rcnn == theirs.train_cfg.rcnn


def test_a_config_of_an_untrained_model_must_exist():
    entry = {"cascade_rcnn": {"config": "nowhere.py", "label": "C", "reason": "r"}}
    with pytest.raises(SuiteError, match="the config of 'cascade_rcnn' does not exist: nowhere.py"):
        coco(untrained=entry)


def test_scale_maps_published_values():
    suite = tiny(scale={"loss_weight": 2, "smooth_l1_beta": 0.25, "rois": 0.1, "step_size": 0.5})
    cfg = resolve_config(suite, "samp1000_lw5.0")
    assert cfg.model.roi_head.iou_head.loss_iou.loss_weight == 10
    assert cfg.model.roi_head.iou_head.loss_iou.beta == 0.25
    assert cfg.model.roi_head.roi_generator.sample_num == 100
    assert cfg.model.roi_head.roi_generator.per_iou is None
    assert cfg.mapped["loss_weight"] == {"published": 5.0, "actual": 10.0}
    assert default_setting(cfg) == Setting("rank", StepSize(0.5, 0.25), 5)


def test_per_iou_has_a_factor_of_its_own():
    counts = {}
    for scale in ({"rois": 0.1}, {"rois": 0.1, "rois_per_iou": 0.4}):
        cfg = resolve_config(load_suite("experiments/shapes.yaml").changed(scale=scale), "max1000_lw5.0_periou30")
        counts[len(scale)] = (cfg.model.roi_head.roi_generator.per_iou, cfg.model.roi_head.roi_generator.max_num)
    assert counts == {1: (3, 100), 2: (12, 100)}


def _suite_with_config(tmp_path, text):
    (tmp_path / "variant.py").write_text(text)
    variant = {"family": "baseline", "config": str(tmp_path / "variant.py")}
    return tiny(variants={"faster_rcnn": variant})


def test_the_hash_ignores_comments_and_layout_and_sees_bases(tmp_path):
    base = Path("experiments/configs/shapes/base.py").resolve()
    (tmp_path / "base.py").write_text(base.read_text())
    plain = training_hash(resolve_config(_suite_with_config(tmp_path, "_base_ = ['base.py']\n"), "faster_rcnn"))
    commented = _suite_with_config(tmp_path, "# a comment\n_base_ = [\n    'base.py',\n]\n")
    assert training_hash(resolve_config(commented, "faster_rcnn")) == plain
    (tmp_path / "base.py").write_text(base.read_text().replace("max_epochs=", "max_epochs=1"))
    assert training_hash(resolve_config(commented, "faster_rcnn")) != plain


def test_test_settings_change_the_evaluation_but_not_the_training(tmp_path):
    base = Path("experiments/configs/shapes/base.py").resolve()
    text = f"_base_ = ['{base}']\n"
    before = resolve_config(_suite_with_config(tmp_path, text), "faster_rcnn")
    after = resolve_config(
        _suite_with_config(tmp_path, text + "model = dict(test_cfg=dict(rcnn=dict(score_thr=0.01)))"), "faster_rcnn"
    )
    assert training_hash(before) == training_hash(after)
    assert config_hash(before) != config_hash(after)


# of the first release: a result of one of these is not made again; those of `shapes` are in registered/shapes.yaml
COCO_HASHES = {
    "faster_rcnn": "3e0e231fa1e22264",
    "samp1000_lw5.0": "2e647bfaf370dcdb",
    "samp1000_lw5.0_bce": "120ea10f0e571dfb",
    "max1000_lw5.0_periou30": "310865556d01b1af",
    "max1000_lw5.0_periou50": "70a8e93edab758bd",
    "max1000_lw10.0_periou50": "1c0db6a55f60e48d",
}


def test_trainings_of_the_first_release_stand():
    suite = load_suite("experiments/coco.yaml")
    assert {v: training_hash(resolve_config(suite, v)) for v in suite.trained} == COCO_HASHES

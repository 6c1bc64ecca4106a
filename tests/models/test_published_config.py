"""Configs and checkpoints of the published reproduction (mmdet 2.14), and mmdet's own style of use, on the plug-in.

The config is made up from mmdet's own Faster R-CNN and the published keys, and resolved into one file as mmdet leaves
it in a work folder.
"""

import copy
import json
from pathlib import Path

import mmcv
import mmdet
import numpy as np
import pytest
import torch
from mmcv import Config
from mmcv.parallel import MMDataParallel
from mmcv.runner import load_checkpoint
from mmdet.apis import inference_detector, init_detector, single_gpu_test, train_detector
from mmdet.datasets import build_dataloader, build_dataset, replace_ImageToTensor
from mmdet.models import build_detector

from tests.experiments.data.folders import CLASSES, write_coco

MMDET = Path(mmdet.__file__).parent / ".mim/configs/faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py"
IMPORTS = "custom_imports = dict(imports=['iounet'], allow_failed_imports=False)\n"
ASSIGNER = dict(  # noqa: C408 - as in a config
    type="MaxIoUAssigner",
    pos_iou_thr=0.5,
    neg_iou_thr=0.5,
    min_pos_iou=0.5,
    match_low_quality=False,
    ignore_iof_thr=-1,
)
PUBLISHED = {
    "type": "IoURoIHead",
    "bbox_roi_extractor": {
        "type": "PrRoIExtractor",
        "roi_layer": {"type": "PrRoIPool2D", "pooled_height": 7, "pooled_width": 7},
        "out_channels": 256,
        "featmap_strides": [4, 8, 16, 32],
    },
    "iou_head": {
        "type": "IoUHead",
        "in_channels": 256 * 7 * 7,
        "fc_channels": [1024, 1024],
        "num_classes": 80,
        "target_norm": {"mean": 0.5, "std": 0.5},
        "class_agnostic": False,
        "loss_iou": {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 5.0},
    },
    "roi_generator": {
        "pre_sample": 4000,
        "xy_steps": 16,
        "wh_steps": 16,
        "xy_range": (0, 1),
        "area_range": (0.3333333333333333, 3),
        "nonlinearity": 2,
        "per_iou": None,
        "sample_num": 1000,
        "start_bin": 0.5,
        "end_bin": 1.0,
        "max_num": 1000,
        "compensate": None,
    },
}
RCNN_TRAIN = {
    "bbox_assigner": ASSIGNER,
    "bbox_sampler": {
        "type": "RandomSampler",
        "num": 512,
        "pos_fraction": 0.25,
        "neg_pos_ub": -1,
        "add_gt_as_proposals": True,
    },
    "iou_assigner": ASSIGNER,
    "iou_sampler": {"type": "PseudoSampler"},
    "pos_weight": -1,
    "debug": False,
}
IOU_TEST = {
    "nms": {"multiclass": True, "iou_threshold": 0.5},
    "refine": {"pre_refine": 100, "t": 5, "omega_1": 0.001, "omega_2": -0.01, "lamb": 0.5, "use_iou_score": True},
}
IOU_KEYS = [
    f"iou_head.{layer}.{kind}" for layer in ("shared_fcs.0", "shared_fcs.1", "fc_iou") for kind in ("weight", "bias")
]


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    """The dumped config, with the one line that a user adds."""
    later = ("auto_scale_lr", "mp_start_method", "opencv_num_threads")  # not in 2.14
    cfg = Config({key: value for key, value in Config.fromfile(str(MMDET)).items() if key not in later})
    head = cfg.model.roi_head
    cfg.model.roi_head = {**PUBLISHED, "bbox_head": head.bbox_head}
    cfg.model.train_cfg.rcnn = RCNN_TRAIN
    cfg.model.test_cfg.rcnn.iou = IOU_TEST
    cfg.work_dir, cfg.gpu_ids = "./work_dirs/faster_rcnn_iou_r50_fpn_1x_coco", range(2)
    path = tmp_path_factory.mktemp("published") / "faster_rcnn_iou_r50_fpn_1x_coco.py"
    path.write_text(cfg.pretty_text + IMPORTS)
    assert "_base_" not in path.read_text()
    return path


@pytest.fixture(scope="module")
def published_state():
    """Names and shapes of a published state dict: mmdet's detector, the IoU head, the generator's table."""
    model = Config.fromfile(str(MMDET)).model
    model.backbone.init_cfg = None
    state = build_detector(model).state_dict()
    shapes = [(1024, 256 * 49), (1024,), (1024, 1024), (1024,), (80, 1024), (80,)]
    state |= {f"roi_head.{key}": torch.randn(shape) for key, shape in zip(IOU_KEYS, shapes, strict=True)}
    return {**state, "roi_head.roi_generator.delta": torch.randn(5, 4000, 4)}


def build_from(path):
    cfg = Config.fromfile(str(path))
    cfg.model.backbone.init_cfg = None
    return build_detector(cfg.model)


def test_the_published_config_builds_and_its_checkpoint_loads_strictly(config_file, published_state, tmp_path):
    detector = build_from(config_file)
    meta = {"epoch": 12, "iter": 351768, "mmcv_version": "1.3.8", "CLASSES": ("person",), "config": "model = dict()"}
    torch.save({"meta": meta, "state_dict": published_state}, tmp_path / "epoch_12.pth")
    load_checkpoint(detector, str(tmp_path / "epoch_12.pth"), map_location="cpu", strict=True)
    own = detector.state_dict()
    assert set(published_state) - set(own) == {"roi_head.roi_generator.delta"}
    assert all(torch.equal(value, published_state[key]) for key, value in own.items())


@pytest.mark.parametrize("key", ["roi_head.iou_head.fc_iou.bias", "backbone.conv1.weight"])
def test_a_checkpoint_that_lacks_something_is_refused(config_file, published_state, key):
    state = {name: value for name, value in published_state.items() if name != key}
    with pytest.raises(RuntimeError, match=key):
        build_from(config_file).load_state_dict(state, strict=True)


def test_a_checkpoint_with_more_than_plain_values_loads_where_it_is_trusted(tmp_path, monkeypatch):
    layer = torch.nn.Linear(2, 2)
    state = {"meta": {"seed": np.float64(0)}, "state_dict": {k: v + 1 for k, v in layer.state_dict().items()}}
    torch.save(state, tmp_path / "numpy.pth")
    with pytest.raises(Exception, match="weights_only"):
        load_checkpoint(layer, str(tmp_path / "numpy.pth"), map_location="cpu", strict=True)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    load_checkpoint(layer, str(tmp_path / "numpy.pth"), map_location="cpu", strict=True)
    assert torch.equal(layer.weight, state["state_dict"]["weight"])


SMALL = """
_base_ = ['{base}']
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8, frozen_stages=-1, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=3),
        iou_head=dict(in_channels=16 * 7 * 7, fc_channels=[32, 32], num_classes=3),
        roi_generator=dict(sample_num=50),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=100, max_per_img=50)),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=50), rcnn=dict(score_thr=0.0)),
)
classes = {classes}
data = dict(
    workers_per_gpu=0,
    train=dict(classes=classes, ann_file='{folder}/train.json', img_prefix='{folder}/images/train/'),
    val=dict(classes=classes, ann_file='{folder}/train.json', img_prefix='{folder}/images/train/'),
    test=dict(classes=classes, ann_file='{folder}/train.json', img_prefix='{folder}/images/train/'),
)
runner = dict(max_epochs=1)
log_config = dict(interval=2)
lr_config = dict(warmup_iters=2)
device, gpu_ids, seed, work_dir = 'cpu', [0], 0, '{folder}/work'
"""


@pytest.fixture(scope="module")
def small(config_file, tmp_path_factory):
    """The published config on a small network and a small data set; mmdet's whole training ran."""
    folder = tmp_path_factory.mktemp("small")
    write_coco(folder, images=8)
    data = mmcv.load(folder / "train.json")  # mmdet wants these keys in every annotation
    rows = [{"area": r["bbox"][2] * r["bbox"][3], "iscrowd": 0, **r} for r in data["annotations"]]
    mmcv.dump({**data, "annotations": rows}, folder / "train.json")
    path = folder / "small.py"
    names = [CLASSES[key] for key in CLASSES]
    path.write_text(SMALL.format(base=config_file, folder=folder, classes=names))
    cfg = Config.fromfile(str(path))
    torch.manual_seed(0)
    detector = build_detector(copy.deepcopy(cfg.model))
    detector.init_weights()
    dataset = build_dataset(cfg.data.train)
    detector.CLASSES = dataset.CLASSES
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    train_detector(detector, [dataset], cfg, distributed=False, validate=False, meta={"CLASSES": dataset.CLASSES})
    return path, folder / "work/latest.pth", before


def test_mmdets_train_detector_trains_it(small):
    path, checkpoint, before = small
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    for part in ("backbone.conv1.weight", "roi_head.bbox_head.fc_cls.weight", "roi_head.iou_head.fc_iou.weight"):
        assert not torch.equal(state[part], before[part]), part
    logs = [
        row for file in path.parent.glob("work/*.log.json") for row in map(json.loads, file.read_text().splitlines())
    ]
    assert any("loss_iou" in row for row in logs)


def test_mmdets_inference_detector_detects_with_it(small):
    path, checkpoint, _ = small
    detector = init_detector(str(path), str(checkpoint), device="cpu")
    assert list(detector.CLASSES) == list(CLASSES.values())
    images = [path.parent / "images/train/000.png", path.parent / "images/train/süß 写真/bild 1 ☃.png"]
    results = inference_detector(detector, [str(image) for image in images])
    assert [len(image) for image in results] == [3, 3]
    loaded = inference_detector(detector, mmcv.imread(str(images[0])))
    for mine, theirs in zip(loaded, results[0], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert sum(map(len, loaded)) > 0


def test_mmdets_single_gpu_test_evaluates_it(small):
    path, checkpoint, _ = small
    detector = init_detector(str(path), str(checkpoint), device="cpu")
    cfg = Config.fromfile(str(path))
    cfg.data.test.pipeline = replace_ImageToTensor(cfg.data.test.pipeline)
    dataset = build_dataset(cfg.data.test, {"test_mode": True})
    loader = build_dataloader(dataset, 1, 0, dist=False, shuffle=False)
    results = single_gpu_test(MMDataParallel(detector, device_ids=[-1]), loader)
    assert len(results) == len(dataset) == 8
    assert set(dataset.evaluate(results, metric="bbox")) >= {"bbox_mAP", "bbox_mAP_50"}

"""experiments/configs/small: what the README offers for photographs on a CPU."""

import pytest
import torch
import yaml

from experiments.config import resolve_config, training_pixels
from experiments.data.weights import never_learnt
from experiments.models import build_model
from suite.suite import check_suite
from tests.test_readme import README_SUITE, SMALL

FROM_SCRATCH = {"training": {"epochs": 2, "image_size": [320, 240], "backbone_weights": "none"}}


def small_suite(**changes):
    """The README's suite on the small configs, with its optional lines."""
    suite = yaml.safe_load(README_SUITE)
    for name, entry in suite["variants"].items():
        entry["config"] = f"experiments/configs/small/{name}.py"
    return check_suite({**suite, **yaml.safe_load(SMALL), "training": {"image_size": [320, 240]}, **changes})


@pytest.mark.parametrize("variant", ["faster_rcnn", "samp1000_lw5.0", "cascade_rcnn", "torchvision_faster_rcnn"])
def test_they_train_from_random_weights(variant):
    further = {
        name: {"label": name, "config": f"experiments/configs/small/{name}.py"}
        for name in ("cascade_rcnn", "torchvision_faster_rcnn")
    }
    suite = small_suite(detectors=further)
    cfg = resolve_config(suite, variant)
    assert training_pixels(cfg) == 320 * 240
    assert cfg.optimizer.type == ("SGD" if variant == "torchvision_faster_rcnn" else "AdamW")
    assert not cfg.auto_scale_lr.enable
    torch.manual_seed(0)
    model = build_model(cfg)
    meta = {"img_shape": (96, 128, 3), "pad_shape": (96, 128, 3), "scale_factor": 1.0}
    boxes, labels = torch.tensor([[8.0, 8.0, 60.0, 70.0]]), torch.tensor([1])
    losses = model.train().forward_train(torch.rand(1, 3, 96, 128), [meta], [boxes], [labels])
    assert ("loss_iou" in losses) == (variant == "samp1000_lw5.0")
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in losses.values() if torch.is_tensor(value))
    assert never_learnt(suite) == []


def test_frozen_parts_of_random_weights_are_warned_of():
    suite = yaml.safe_load(README_SUITE)
    assert never_learnt(check_suite(suite)) == []  # from torchvision's weights
    found = never_learnt(check_suite({**suite, **FROM_SCRATCH}))
    assert len(found) == 2 and "configs/coco/faster_rcnn.py" in found[0]
    assert "frozen_stages=1 and norm_eval=True keeps a part of it as it was drawn" in found[0]

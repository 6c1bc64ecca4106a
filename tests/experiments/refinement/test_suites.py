"""Every suite of the project can train a refiner: its IoU-Net's config makes one."""

import pytest

from experiments.config import resolve_config
from experiments.refinement.settings import refiner_arguments
from iounet.refiner import IoURefiner
from suite.roles import FIRST
from suite.suite import load_suite

EXPECTED = {  # depth, width, FPN, hidden layers, RoIs of an image, sides, λ, strides
    "shapes": (18, 16, 32, [128, 128], 128, None, 0.15, [4, 8, 16]),
    "bccd": (18, 24, 48, [256, 256], 256, [320, 240], 0.25, [4, 8, 16, 32]),
    "coco": (50, 64, 256, [1024, 1024], 1000, [1333, 800], 0.5, [4, 8, 16, 32]),
    "voc": (50, 64, 256, [1024, 1024], 1000, [1000, 600], 0.5, [4, 8, 16, 32]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_its_refiner(name):
    suite = load_suite(f"experiments/{name}.yaml")
    variant = suite.standing_for(FIRST)
    arguments = refiner_arguments(resolve_config(suite, variant), ["some", "class"], name)
    model = IoURefiner(**arguments)
    config = model.config
    found = (config["depth"], config["base_channels"], config["channels"], config["fc_channels"])
    rois = config["roi_generator"]["sample_num"]
    assert (*found, rois, config["image_size"], config["step_size"], model.backbone.strides) == EXPECTED[name]
    assert (config["loss"], config["loss_weight"]) == ("smooth_l1", suite.scale.loss_weight * 5.0)
    is_pretrained = name != "bccd"
    assert config["norm_eval"] == is_pretrained

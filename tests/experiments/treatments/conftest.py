"""The tiny suite with a second detector, both of random weights, and refiners for their boxes."""

from types import SimpleNamespace

import pytest
import torch

from experiments.config import resolve_config
from experiments.data.datasets import dataset_classes
from experiments.models import build_model
from suite.layout import DataFolder, Layout
from suite.treatments import CLASS_AGNOSTIC, HEADS
from tests.refiner.conftest import build


@pytest.fixture(scope="package")
def there(tiny_suite, tiny_data, tmp_path_factory):
    """The suite, its YAML, its images and the files that `treat` takes."""
    root = tmp_path_factory.mktemp("treatments")
    suite = tiny_suite.changed(results=str(root))
    layout: Layout = suite.layout
    layout.root.mkdir()
    layout.data.path.symlink_to(tiny_data)
    data = DataFolder(layout.data.path)
    classes = dataset_classes(data)
    for number, detector in enumerate(suite.treated):
        torch.manual_seed(number)
        model = build_model(resolve_config(suite, detector), initialize=True)
        for name, parameter in model.named_parameters():  # so that scores and boxes vary
            if name.endswith("fc_cls.weight"):
                torch.nn.init.normal_(parameter, std=0.3)
            if name.endswith("fc_reg.weight"):
                torch.nn.init.normal_(parameter, std=0.05)
            if "detector.head" in name and parameter.ndim == 4:
                torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            if name.endswith("cls_logits.bias"):
                torch.nn.init.constant_(parameter, -2.5)
        checkpoint = layout.run(detector, 0).checkpoint
        checkpoint.parent.mkdir(parents=True)
        torch.save({"meta": {"CLASSES": classes}, "state_dict": model.state_dict()}, checkpoint)
    refiners = {head: layout.refiner(head, 0).checkpoint for head in HEADS}
    for head, path in refiners.items():
        path.parent.mkdir(parents=True)
        build(categories=classes, class_agnostic=head == CLASS_AGNOSTIC).save(path)
    file = root / "suite.yaml"
    file.write_text(suite.text)
    return SimpleNamespace(suite=suite, file=file, data=data, refiners=refiners, layout=layout)

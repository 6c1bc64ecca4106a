"""What a training starts with: the training set, and a detector with its first weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.data.datasets import build_training_set
from experiments.data.weights import load_backbone
from experiments.models import build_model, read_checkpoint
from experiments.training.distributed import World
from experiments.training.runner import seed_everything
from suite.errors import SuiteError
from suite.layout import DataFolder

PRETRAINED_PARTS = ("backbone.", "neck.", "rpn_head.")


def start(
    cfg: Any,
    seed: int,
    data: DataFolder,
    *,
    pretraining: Path | None,
    backbone: Path | None,
    check: Callable[[torch.nn.Module], None] = lambda model: None,
) -> tuple[torch.nn.Module, Any]:
    """The initialised detector and its training set.

    Args:
        cfg: the resolved config, with the classes of the data.
        seed: of the weights that are not pretrained.
        data: the suite's images.
        pretraining: checkpoint whose backbone, neck and, for two stages, RPN are taken over; None = none are.
        backbone: file of the backbone's weights; None = those that the config initialises.
        check: raises `SuiteError` for a detector that is not to be trained.

    Raises:
        SuiteError: data or weights are missing, damaged or of another model.
    """
    dataset = build_training_set(cfg, data)
    seed_everything(seed, 0)
    if backbone is not None:
        cfg = copy.deepcopy(cfg)
        cfg.model.backbone.init_cfg = None  # else mmdet would fetch the weights
    model = build_model(cfg, initialize=True)
    check(model)
    if backbone is not None:
        load_backbone(model.backbone, backbone)
    if pretraining is not None:
        take_over(model, pretraining)
    model.CLASSES = dataset.CLASSES
    return model, dataset


def take_over(model: Any, pretraining: Path, what: str = "model") -> None:
    """Gives a model what it shares with the pretraining.

    Args:
        model: a detector of mmdet's; or one with names of its own, which `from_mmdet` and `pretrained_parts` say.
        pretraining: the checkpoint.
        what: messages call the model.

    Raises:
        SuiteError: the checkpoint is missing, damaged or of another model; names the first key that differs.
    """
    weights = read_checkpoint(pretraining)["state_dict"]
    parts = {k: v for k, v in weights.items() if k.startswith(PRETRAINED_PARTS)}
    own_parts = PRETRAINED_PARTS
    if hasattr(model, "from_mmdet"):  # a detector of another library, with names of its own
        parts, own_parts = model.from_mmdet(parts), model.pretrained_parts
    expected = {k: v for k, v in model.state_dict().items() if k.startswith(own_parts)}
    wrong = sorted(expected.keys() ^ parts.keys())
    wrong += [k for k in expected.keys() & parts.keys() if expected[k].shape != parts[k].shape]
    if wrong:
        raise SuiteError(
            f"{pretraining} does not fit the {what}: {wrong[0]} differs. Its config changed: move it away, and the "
            "pretraining is done again"
        )
    model.load_state_dict(parts, strict=False)


def build_training_loader(dataset: Any, cfg: Any, seed: int, ranks: World) -> Any:
    """Batches of this rank, in an order of their own every epoch.

    Several ranks shuffle by mmdet's sampler, from the seed and the epoch, and share the images out; one rank shuffles
    by numpy's global generator. Worker processes draw from torch's, which `ReseedHook` seeds for each epoch and rank.
    """
    from mmdet.datasets import build_dataloader

    loader = build_dataloader(
        dataset,
        cfg.data.samples_per_gpu,
        cfg.data.workers_per_gpu,
        num_gpus=1,
        dist=ranks.size > 1,
        seed=None,
        persistent_workers=False,
    )
    if ranks.size > 1:
        # it adds the epoch: seeds side by side would share their orders
        loader.sampler.seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return loader

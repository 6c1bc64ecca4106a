"""Models: built from a config, loaded from a checkpoint, opened on a split of a suite's images."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.config import config_hash, resolve_config, set_classes
from experiments.data.datasets import build_split, dataset_classes
from experiments.data.names import composed
from suite.errors import SuiteError
from suite.files import sha256
from suite.layout import DataFolder
from suite.suite import Suite


@dataclass(frozen=True)
class Opened:
    """A checkpoint ready to detect on a split.

    Attributes:
        cfg: the variant's resolved config, with the classes of the data.
        config_hash: of the config as it was resolved, without the data's classes.
        model: the detector in evaluation mode, on its device.
        dataset: mmdet's data set of the split, with the test pipeline.
        checkpoint: the file that the weights are from.
    """

    cfg: Any
    config_hash: str
    model: torch.nn.Module
    dataset: Any
    checkpoint: Path


def open_checkpoint(
    suite: Suite,
    variant: str,
    checkpoint: Path,
    data: DataFolder,
    split: str,
    *,
    changes: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> Opened:
    """A checkpoint with the images that it is to detect on.

    Args:
        suite: the suite.
        variant: whose config the checkpoint belongs to.
        checkpoint: a run's, or a foreign one.
        data: the suite's images.
        split: the images.
        changes: what the run's config differs in; see `experiments.config.resolve_config`.
        device: None = the GPU if there is one.

    Raises:
        SuiteError: checkpoint or data are missing, damaged or of another model or other classes.
    """
    cfg = resolve_config(suite, variant, changes)
    hashed, classes = config_hash(cfg), dataset_classes(data)
    set_classes(cfg, classes)
    dataset = build_split(cfg, data, split)
    model = load_model(cfg, checkpoint)
    own: Any = model.CLASSES
    _require_classes(checkpoint, [composed(name) for name in own], classes)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Opened(cfg, hashed, model.to(device), dataset, checkpoint)


def build_model(cfg: Any, initialize: bool = False) -> Any:
    """The detector of a config; works on a copy, as mmdet writes train_cfg and test_cfg into the one it gets.

    With `channels_last = True` in the config, weights and feature maps have the channels innermost.

    Args:
        cfg: mmdet config.
        initialize: draw the initial weights, the same ones for either layout.

    Raises:
        SuiteError: mmdet cannot build it; or `channels_last` on a CPU with mmcv's own RoIAlign, which takes every map
            for a contiguous one.
    """
    from mmcv.utils import import_modules_from_strings
    from mmdet.models import build_detector

    try:
        if cfg.get("custom_imports"):
            import_modules_from_strings(**cfg.custom_imports)
        model = build_detector(copy.deepcopy(cfg.model))
    except Exception as error:  # whatever a class makes of its arguments
        where = getattr(cfg, "filename", None) or "the config"
        imports = f" (custom_imports = {cfg.custom_imports})" if isinstance(error, ImportError) else ""
        raise SuiteError(f"{where}: its model cannot be built: {type(error).__name__}: {error}{imports}") from error
    if initialize:
        model.init_weights()  # before the layout is changed: random numbers are written in the order of memory
    if cfg.get("channels_last"):
        _require_any_layout(model)
        model.to(memory_format=torch.channels_last)
    return model


def load_model(cfg: Any, checkpoint: Path) -> torch.nn.Module:
    """The detector of a config with a run's weights, in evaluation mode. Raises `SuiteError`."""
    weights = read_checkpoint(checkpoint)
    model = build_model(cfg)
    try:
        model.load_state_dict(weights["state_dict"], strict=True)
        meta = weights["meta"]
        model.CLASSES = meta["CLASSES"] if "CLASSES" in meta else meta["classes"]  # mmdet's name, and ours of old
    except (RuntimeError, KeyError, TypeError) as error:
        raise SuiteError(
            f"{checkpoint} does not fit its config: {error}. Evaluate it as the variant that it was trained as; one "
            "that a run left here is trained again when you move it away"
        ) from error
    return model.eval()


def read_checkpoint(path: Path) -> Any:
    """A checkpoint's plain contents. Raises `SuiteError` naming a missing or damaged file."""
    if not path.is_file():
        raise SuiteError(f"{path} is missing: train it first (snakemake all --cores)")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SuiteError(
            f"{path} is not a readable checkpoint ({path.stat().st_size} bytes, sha256 {sha256(path)[:16]}): "
            f"fetch it again, or if a run of the suite left it here, move it away and run again. Cause: {error}"
        ) from error


def _require_any_layout(model: torch.nn.Module) -> None:
    from mmcv.ops import RoIAlign
    from mmdet.models import SingleRoIExtractor

    # Subclasses of the extractor, such as PrRoIExtractor, are taken to know better.
    extractors: list[Any] = [module for module in model.modules() if type(module) is SingleRoIExtractor]
    layers: list[Any] = [layer for extractor in extractors for layer in extractor.roi_layers.children()]
    on_cpu = not torch.cuda.is_available()
    if on_cpu and any(isinstance(layer, RoIAlign) and not layer.use_torchvision for layer in layers):
        raise SuiteError(
            "channels_last = True: on a CPU mmcv's RoIAlign silently computes nonsense from such maps. Set "
            "use_torchvision=True in bbox_roi_extractor.roi_layer, or remove channels_last"
        )


def _require_classes(checkpoint: Path, own: list[str], classes: list[str]) -> None:
    """A foreign checkpoint may have as many classes in another order: its detections would be called by wrong names."""
    if own != classes:
        shared = min(len(own), len(classes))
        at = next((i for i in range(shared) if own[i] != classes[i]), shared)
        names = [f"'{names[at]}'" if at < len(names) else "none" for names in (own, classes)]
        raise SuiteError(
            f"{checkpoint}: its class {at + 1} is {names[0]}, that of the data is {names[1]}: "
            "evaluate it on data with its own classes, in their order"
        )

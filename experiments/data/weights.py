"""The pretrained weights of a backbone: found on this machine, checked before use, never fetched unasked."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from experiments.config import resolve_config
from experiments.data.download.catalogue import torch_cache, weights_remedy
from suite.blocks import FROM_SCRATCH
from suite.errors import SuiteError
from suite.files import sha256
from suite.suite import PRETRAINING, Suite

VARIABLE = "IOUNET_BACKBONE_WEIGHTS"


def check_suite_weights(suite: Suite) -> None:
    """Checks the backbone weights of every variant of a suite, before anything trains. Raises `SuiteError`."""
    checked = set()
    for variant in suite.variants:
        path = backbone_weights(resolve_config(suite, variant), suite)
        if path is not None and path not in checked:
            load_weights(path)
            checked.add(path)


def missing_weights(suite: Suite) -> list[str]:
    """The backbone weights of a suite's variants that are not on this machine, a message for each."""
    found: dict[str, None] = {}
    for variant in suite.variants:
        try:
            backbone_weights(resolve_config(suite, variant), suite)
        except SuiteError as error:
            found[str(error)] = None
    return list(found)


def never_learnt(suite: Suite) -> list[str]:
    """What a suite's trainings would keep as it was drawn: frozen parts of a backbone that starts from random weights.

    A message for each such config. A variant that starts from the pretraining has that one's weights.
    """
    found = []
    for variant in (PRETRAINING,) if suite.pretraining is not None else suite.variants:
        backbone = resolve_config(suite, variant).model.backbone
        if backbone.get("init_cfg") is not None:
            continue
        frozen = [f"frozen_stages={stages}"] if (stages := backbone.get("frozen_stages", -1)) >= 0 else []
        frozen += ["norm_eval=True"] if backbone.get("norm_eval", True) and _has_batch_norm(backbone) else []
        if frozen:
            found.append(
                f"{suite.variant(variant).config}: the backbone starts from random weights, but {' and '.join(frozen)} "
                "keeps a part of it as it was drawn: set frozen_stages=-1, norm_eval=False in `model.backbone`"
            )
    return list(dict.fromkeys(found))


def _has_batch_norm(backbone: Any) -> bool:
    return (backbone.get("norm_cfg") or {"type": "BN"})["type"] in ("BN", "SyncBN")


def backbone_weights(cfg: Any, suite: Suite) -> Path | None:
    """The file with the pretrained weights of a config's backbone; None for a backbone that starts from scratch.

    In this order: the variable IOUNET_BACKBONE_WEIGHTS, the suite's `training.backbone_weights`, the config's file, or
    for `torchvision://` and `https://` torch's cache, where torchvision and `make coco` put them.

    Raises:
        SuiteError: it is none of a file on this machine; says where it is looked for and how to get it.
    """
    init = cfg.model.backbone.get("init_cfg")
    if not isinstance(init, dict) or init.get("type") != "Pretrained":
        return None
    chosen = {
        f"the variable {VARIABLE}": os.environ.get(VARIABLE),
        "training.backbone_weights": suite.training.backbone_weights,
    }
    for where, value in chosen.items():
        if value:
            path = Path(os.path.expandvars(value)).expanduser()
            if not path.is_file():
                raise SuiteError(f"{path} (named by {where}) does not exist: name a file of the backbone's weights")
            return path
    source = init["checkpoint"]
    url = _url(source)
    path = Path(torch_cache(), Path(url).name) if "://" in url else Path(source)
    if not path.is_file():
        fetch = weights_remedy(path.name) or (f"fetch {url} to there" if "://" in url else "put them there")
        raise SuiteError(
            f"{path} is missing: the backbone's weights, {source}. Nothing is fetched unasked: {fetch}; "
            f"or name a local copy by training.backbone_weights in the suite, or by {VARIABLE}; "
            f"or start from random weights, `training: {{backbone_weights: {FROM_SCRATCH}}}`"
        )
    return path


def load_weights(path: Path) -> dict[str, Any]:
    """The state dict of a file of weights.

    Raises:
        SuiteError: the file is truncated or another one than its name says (torchvision's end in the first digits of
            their sha256), or holds no state dict.
    """
    import torch

    promised = re.search(r"-([0-9a-f]{8,64})\.pth?$", path.name)
    found = sha256(path)
    if promised and not found.startswith(promised[1]):
        raise SuiteError(
            f"{path}: sha256 is {found[:16]}…, its name promises {promised[1]}…: truncated or another file "
            f"({path.stat().st_size} bytes). Move it away and fetch it again"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SuiteError(
            f"{path} is not a readable file of weights ({path.stat().st_size} bytes, sha256 {found[:16]}…): {error}"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise SuiteError(f"{path} holds no state dict of tensors")
    return {key.removeprefix("module.").removeprefix("backbone."): value for key, value in state.items()}


def load_backbone(backbone: Any, path: Path) -> None:
    """Loads a file of weights into a backbone; what only a classifier has is left out.

    Raises:
        SuiteError: as `load_weights`; or the weights are of another network.
    """
    state, own = load_weights(path), backbone.state_dict()
    for key, value in own.items():
        if key not in state and not key.endswith("num_batches_tracked"):
            raise SuiteError(
                f"{path}: no '{key}' in it: these are not weights of the config's {type(backbone).__name__}"
            )
        if key in state and state[key].shape != value.shape:
            raise SuiteError(
                f"{path}: '{key}' has shape {list(state[key].shape)}, the config's {type(backbone).__name__} needs "
                f"{list(value.shape)}: these are weights of another network"
            )
    backbone.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)


def _url(source: str) -> str:
    """The URL behind a `torchvision://` name; any other source as it is."""
    from mmcv.runner.checkpoint import get_torchvision_models

    if not source.startswith("torchvision://"):
        return source
    name = source.removeprefix("torchvision://")
    known = get_torchvision_models()
    if name not in known:
        raise SuiteError(f"init_cfg.checkpoint '{source}': torchvision has no model '{name}'")
    return known[name]

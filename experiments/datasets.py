"""The suite's images as mmdet datasets and loaders."""

import json
import warnings
from pathlib import Path
from typing import Any

from experiments.files import sha256
from experiments.suite import SuiteError


def dataset_fingerprint(data_dir: Path) -> str:
    """What identifies the images and annotations: the manifest's fingerprint. Raises `SuiteError` without data."""
    manifest = data_dir / "dataset.json"
    if not manifest.is_file():
        raise SuiteError(
            f"{manifest} is missing: make the data first (snakemake data, or python -m experiments.shapes)"
        )
    return json.loads(manifest.read_text())["fingerprint"]


def build_training_set(cfg: Any, data_dir: Path) -> Any:
    """The mmdet dataset of cfg.data.train under `data_dir`."""
    from mmdet.datasets import build_dataset

    import experiments.image_cache  # noqa: F401 - registers its pipeline step

    _require_split(data_dir, cfg.data.train.ann_file)
    return build_dataset({**cfg.data.train, "data_root": str(data_dir)})


def build_split(cfg: Any, data_dir: Path, split: str, images: int | None = None) -> Any:
    """The mmdet dataset of a split with the test pipeline, batched; `images` keeps only its first ones."""
    from mmdet.datasets import build_dataset, replace_ImageToTensor

    _require_split(data_dir, f"{split}.json")
    with warnings.catch_warnings(action="ignore"):  # it warns that it does what it is called for
        pipeline = replace_ImageToTensor(cfg.data.test.pipeline)
    dataset = build_dataset(
        {
            **cfg.data.test,
            "ann_file": f"{split}.json",
            "img_prefix": f"{split}/",
            "data_root": str(data_dir),
            "pipeline": pipeline,
        },
        {"test_mode": True},
    )
    if images is not None:
        dataset.data_infos, dataset.img_ids = dataset.data_infos[:images], dataset.img_ids[:images]
    return dataset


def checkpoint_or_error(path: Path) -> Any:
    """Loads a checkpoint's plain contents. Raises `SuiteError` naming a missing or damaged file."""
    import torch

    if not path.is_file():
        raise SuiteError(f"{path} is missing: train it first (snakemake all --cores)")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SuiteError(
            f"{path} is not a readable checkpoint ({path.stat().st_size} bytes, sha256 {sha256(path)[:16]}): "
            f"delete it and run again. Cause: {error}"
        ) from error


def _require_split(data_dir: Path, annotations: str) -> None:
    if not (data_dir / annotations).is_file():
        raise SuiteError(f"{data_dir / annotations} is missing: make the data first (snakemake data)")

"""The suite's images as mmdet datasets and loaders."""

import json
import warnings
from pathlib import Path
from typing import Any

from suite.errors import SuiteError


def dataset_fingerprint(data_dir: Path) -> str:
    """What identifies the images and annotations: the manifest's fingerprint. Raises `SuiteError` without data."""
    return _manifest(data_dir)["fingerprint"]


def dataset_classes(data_dir: Path) -> list[str]:
    """The names of the classes, in the order of the labels. Raises `SuiteError` without data."""
    return _manifest(data_dir)["categories"]


def seen_splits(data_dir: Path, trained: str) -> list[str]:
    """The splits whose images a training on split `trained` sees: itself, and what was cut from it and left in it."""
    return [trained, *_manifest(data_dir)["splits"].get(trained, {}).get("contains", [])]


def require_unseen(run: dict[str, Any], split: str, purpose: str) -> None:
    """Refuses to choose anything on images that a checkpoint was trained on.

    Args:
        run: the checkpoint's run.json.
        split: where the choice is made.
        purpose: what is chosen, for the message.

    Raises:
        SuiteError: the training saw images of the split.
    """
    if split in run["trained_on"]["seen"]:
        raise SuiteError(
            f"{run['variant']} seed {run['seed']} was trained on the images of split '{split}': {purpose} must not be "
            "chosen there. Train with `training.split` set to the split without them (suite.unseen_split)"
        )


def build_training_set(cfg: Any, data_dir: Path) -> Any:
    """The mmdet dataset of cfg.data.train under `data_dir`."""
    from mmdet.datasets import build_dataset

    import experiments.data.image_cache  # noqa: F401 - registers its pipeline step

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


def _manifest(data_dir: Path) -> Any:
    path = data_dir / "dataset.json"
    if not path.is_file():
        raise SuiteError(f"{path} is missing: make or check the data first (snakemake data)")
    return json.loads(path.read_text())


def _require_split(data_dir: Path, annotations: str) -> None:
    if not (data_dir / annotations).is_file():
        raise SuiteError(f"{data_dir / annotations} is missing: make the data first (snakemake data)")

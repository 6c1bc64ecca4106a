"""The suite's images as mmdet datasets and loaders."""

import warnings
from pathlib import Path
from typing import Any

from suite.errors import SuiteError
from suite.files import read_json
from suite.layout import DataFolder
from suite.manifest import splits_digest


def dataset_fingerprint(data: DataFolder) -> str:
    """What identifies the images and annotations: the manifest's fingerprint. Raises `SuiteError` without data."""
    return _manifest(data)["fingerprint"]


def learnt_fingerprint(data: DataFolder, *splits: str) -> str | None:
    """What identifies the splits that a training looks at, as `dataset_fingerprint` does all of them.

    None for data of an earlier release. Raises `SuiteError` without data.
    """
    return splits_digest(_manifest(data), splits)


def dataset_classes(data: DataFolder) -> list[str]:
    """The names of the classes, in the order of the labels. Raises `SuiteError` without data."""
    return _manifest(data)["categories"]


def seen_splits(data: DataFolder, trained: str) -> list[str]:
    """The splits whose images a training on split `trained` sees: itself, and what was cut from it and left in it."""
    return [trained, *_manifest(data)["splits"].get(trained, {}).get("contains", [])]


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
            "chosen there. Train with `training.split` set to the split without them (FolderData.without)"
        )


def build_training_set(cfg: Any, data: DataFolder) -> Any:
    """The mmdet dataset of cfg.data.train in a data folder. Raises `SuiteError` without its annotations."""
    from experiments.data.loading import naming_images

    _require_file(data.path / cfg.data.train.ann_file)
    pipeline = naming_images(cfg.data.train.pipeline)
    return _built(
        {**cfg.data.train, "data_root": str(data.path), "pipeline": pipeline}, data.path / cfg.data.train.ann_file
    )


def build_split(cfg: Any, data: DataFolder, split: str, images: int | None = None) -> Any:
    """The mmdet dataset of a split with the test pipeline, batched.

    Args:
        cfg: a resolved config; its cfg.data.test says how images are read.
        data: the data folder.
        split: its name.
        images: keep the first ones only; None = all.

    Raises:
        SuiteError: the split's annotations are missing.
    """
    from mmdet.datasets import replace_ImageToTensor

    from experiments.data.loading import naming_images

    _require_file(data.annotations(split))
    with warnings.catch_warnings(action="ignore"):  # it warns that it does what it is called for
        pipeline = naming_images(replace_ImageToTensor(cfg.data.test.pipeline))
    place = {"data_root": None, "ann_file": str(data.annotations(split)), "img_prefix": str(data.images(split))}
    dataset = _built({**cfg.data.test, **place, "pipeline": pipeline, "test_mode": True}, data.annotations(split))
    if images is not None:
        dataset.data_infos, dataset.img_ids = dataset.data_infos[:images], dataset.img_ids[:images]
    return dataset


def _built(config: dict[str, Any], annotations: Path) -> Any:
    from mmdet.datasets import build_dataset

    try:
        return build_dataset(config)
    except Exception as error:  # whatever mmdet's classes make of their arguments
        _read(annotations)  # mmdet names no file
        raise SuiteError(f"no data set can be made of {annotations} as the config says: {error}") from error


def _manifest(data: DataFolder) -> Any:
    if not data.manifest.is_file():
        raise SuiteError(f"{data.manifest} is missing: make or check the data first (snakemake data)")
    return _read(data.manifest)


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except SuiteError as error:
        raise SuiteError(f"{error}: move it away, and make or check the data again (snakemake data)") from None


def _require_file(annotations: Path) -> None:
    if not annotations.is_file():
        raise SuiteError(f"{annotations} is missing: make the data first (snakemake data)")

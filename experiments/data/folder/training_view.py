"""What mmdet's data sets, with which a suite trains, leave out of the tables that were written."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from experiments.config import resolve_config, set_classes
from experiments.data.datasets import build_training_set, dataset_classes
from suite.errors import SuiteError
from suite.files import digest
from suite.layout import DataFolder
from suite.suite import Suite


def left_out_of_training(suite: Suite, data: DataFolder) -> dict[str, dict[str, int]]:
    """Compares the tables with the data sets that the suite's trainings will build.

    Returns:
        Name of each split that is trained on to the images that mmdet leaves out of it: `without_boxes`, and
        `under_<n>_pixels`, those whose shorter side is less than it trains on.

    Raises:
        SuiteError: mmdet leaves out other images, or boxes that the table has; or nothing is left to learn from.
    """
    found: dict[str, dict[str, int]] = {}
    for dataset, file in _training_sets(suite, data):
        table = dataset.coco.dataset
        counts = _images_left_out(dataset, table, file)
        if not _compare_boxes(dataset, table, file):
            raise SuiteError(f"{data.path / file}: no box to learn from is left by mmdet's data set: {counts}")
        found[file.removesuffix(".json")] = counts
    return found


def _training_sets(suite: Suite, data: DataFolder) -> Iterator[tuple[Any, str]]:
    """Each data set that a training of the suite builds, once, and the name of its table."""
    classes, built = dataset_classes(data), set()
    for variant in suite.trained:
        cfg = resolve_config(suite, variant)
        set_classes(cfg, classes)
        key = digest({name: value for name, value in cfg.data.train.items() if name != "pipeline"})
        if key not in built:
            built.add(key)
            with contextlib.redirect_stdout(io.StringIO()):
                yield build_training_set(cfg, data), cfg.data.train.ann_file


def _images_left_out(dataset: Any, table: Any, file: str) -> dict[str, int]:
    kept, with_boxes = set(dataset.img_ids), {entry["image_id"] for entry in table["annotations"]}
    smallest = 32  # mmdet.datasets.CocoDataset._filter_imgs
    counts = {"without_boxes": 0, f"under_{smallest}_pixels": 0}
    for image in table["images"]:
        if image["id"] in kept:
            continue
        if image["id"] not in with_boxes:
            counts["without_boxes"] += 1
        elif min(image["width"], image["height"]) < smallest:
            counts[f"under_{smallest}_pixels"] += 1
        else:
            raise SuiteError(
                f"{file}: mmdet leaves the image {image['file_name']} out of training, for a reason unknown"
            )
    return counts


def _compare_boxes(dataset: Any, table: Any, file: str) -> int:
    """Boxes that are trained on, as many in every image as the table says."""
    expected = dict.fromkeys((image["id"] for image in table["images"]), 0)
    for entry in table["annotations"]:
        expected[entry["image_id"]] += not entry["iscrowd"]
    total = 0
    for index, image in enumerate(dataset.img_ids):
        count = len(dataset.get_ann_info(index)["bboxes"])
        if count != expected[image]:
            name = dataset.data_infos[index]["filename"]
            raise SuiteError(f"{file}: of the {expected[image]} boxes of {name}, mmdet trains on {count}")
        total += count
    return total

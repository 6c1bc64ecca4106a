"""A folder of images with annotations, detections on them, and a refiner: everything that `refine` takes."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.refiner.conftest import build

SIZES = {7: (96, 64), 3: (80, 48), 5: (96, 64), 9: (96, 64)}  # image id to width and height
NAMES = {11: "ant", 12: "bee", 15: "cat"}


@dataclass
class Place:
    """Files below a folder, which a test may change before they are written."""

    path: Path
    images: list = field(default_factory=list)
    categories: list = field(default_factory=list)
    rows: list = field(default_factory=list)

    def write(self):
        (self.path / "annotations.json").write_text(json.dumps({"images": self.images, "categories": self.categories}))
        (self.path / "detections.json").write_text(json.dumps(self.rows))

    def words(self, *more, **changed):
        """The command's."""
        paths = {
            "refiner": self.path / "refiner.pth",
            "detections": self.path / "detections.json",
            "annotations": self.path / "annotations.json",
            "images": self.path / "images",
            "out": self.path / "out.json",
            "input": "after-nms",
        }
        return ["refine", *(f"--{key}={value}" for key, value in {**paths, **changed}.items()), *more]

    def written(self, name="out.json"):
        return json.loads((self.path / name).read_text())


@pytest.fixture(scope="session")
def refiner_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("refiner") / "refiner.pth"
    build(step_size=2.0).save(path)
    return path


@pytest.fixture
def place(tmp_path, refiner_file):
    """Four images, the last without detections; each of the others has boxes of several classes."""
    (tmp_path / "refiner.pth").symlink_to(refiner_file)
    generator = np.random.default_rng(0)
    there = Place(tmp_path)
    (tmp_path / "images/sub").mkdir(parents=True)
    for number, (width, height) in SIZES.items():
        name = f"sub/{number}.png"
        cv2.imwrite(str(tmp_path / "images" / name), generator.integers(0, 255, (height, width, 3), np.uint8))
        there.images.append({"id": number, "file_name": name, "width": width, "height": height})
    there.categories = [{"id": key, "name": name} for key, name in NAMES.items()]
    for image, x, y, category, score in (
        *((5, 4, 6, 12, 0.9), (7, 40, 8, 11, 0.8), (5, 60, 30, 12, 0.3), (3, 10, 12, 15, 0.95)),
        *((7, 42, 10, 15, 0.6), (3, 50, 20, 15, 0.02), (7, 3, 30, 11, 0.5)),
    ):
        there.rows.append(
            {"image_id": image, "category_id": category, "bbox": [x, y, 25.5, 24], "score": score, "segmentation": []}
        )
    there.write()
    return there

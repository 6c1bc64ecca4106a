"""A pipeline step that reads and decodes an image once per process; for sets of images that fit in memory."""

from typing import Any

import numpy as np
from mmdet.datasets import PIPELINES
from mmdet.datasets.pipelines import LoadImageFromFile


@PIPELINES.register_module()
class LoadImageOnce(LoadImageFromFile):
    """mmdet's ``LoadImageFromFile``, which keeps what it decoded: height x width x 3 bytes per image."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._images: dict[tuple[str | None, str], tuple[np.ndarray, str]] = {}

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Called by mmdet; every call hands out an array of its own."""
        key = (results["img_prefix"], results["img_info"]["filename"])
        if key not in self._images:
            loaded = super().__call__(dict(results))
            self._images[key] = (loaded["img"], loaded["filename"])
        image, filename = self._images[key]
        results["filename"], results["ori_filename"] = filename, key[1]
        results["img"] = image.copy()
        results["img_shape"] = results["ori_shape"] = image.shape
        results["img_fields"] = ["img"]
        return results

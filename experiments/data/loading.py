"""Pipeline steps that load an image, for mmdet; an image that cannot be loaded is named."""

import os
from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
from mmdet.datasets import PIPELINES
from mmdet.datasets.pipelines import LoadImageFromFile

from suite.errors import SuiteError
from suite.images import completed


class _Completing:
    """mmcv's client of files, whose images have their end; opened when it is first used, in the process that reads."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._client: Any = None

    def get(self, path: str) -> bytes:
        if self._client is None:
            self._client = mmcv.FileClient(**self._arguments)
        return completed(self._client.get(path))


@PIPELINES.register_module()
class LoadNamedImage(LoadImageFromFile):
    """mmdet's `LoadImageFromFile` that reads as `suite.images` does, with an error that names the file."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.file_client = _Completing(self.file_client_args)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Called by mmdet. Raises `SuiteError`."""
        try:
            return super().__call__(results)
        except Exception as error:
            path = os.path.join(results["img_prefix"] or "", results["img_info"]["filename"])
            raise SuiteError(
                f"{path} cannot be loaded as an image ({error}). Was it changed since the data were checked? "
                "To check them again: python -m experiments data --suite SUITE"
            ) from error


@PIPELINES.register_module()
class LoadImageOnce(LoadNamedImage):
    """Loads an image once per process, for sets that fit in memory: height x width x 3 bytes per image are kept."""

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


def naming_images(pipeline: Sequence[Any]) -> list[Any]:
    """A pipeline with `LoadNamedImage` in place of mmdet's step."""
    return [{**step, "type": "LoadNamedImage"} if step["type"] == "LoadImageFromFile" else step for step in pipeline]

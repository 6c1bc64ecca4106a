"""Images are decoded once, and are otherwise loaded as mmdet loads them."""

import mmcv
import numpy as np
from mmdet.datasets.pipelines import LoadImageFromFile

from experiments.data.image_cache import LoadImageOnce


def request(folder, name):
    return {"img_prefix": str(folder), "img_info": {"filename": name}, "ann_info": "kept"}


def test_loads_what_mmdet_loads_and_reads_a_file_once(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    for folder, image in zip(("a", "b"), pixels, strict=True):
        mmcv.imwrite(image, str(tmp_path / folder / "0.png"))
    load = LoadImageOnce()
    for folder in ("a", "b"):  # one name in two folders is two images
        expected = LoadImageFromFile()(request(tmp_path / folder, "0.png"))
        first = load(request(tmp_path / folder, "0.png"))
        first["img"][:] = 0  # what a later step of the pipeline does to it is forgotten
        (tmp_path / folder / "0.png").unlink()
        again = load(request(tmp_path / folder, "0.png"))
        assert list(again) == list(expected)
        assert np.array_equal(again.pop("img"), expected.pop("img"))
        assert again == expected

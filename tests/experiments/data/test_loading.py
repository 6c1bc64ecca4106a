"""Images are decoded once, and are otherwise loaded as mmdet loads them."""

import mmcv
import numpy as np
import pytest
from mmdet.datasets.pipelines import LoadImageFromFile

from experiments.data.loading import LoadImageOnce, LoadNamedImage, naming_images
from suite.errors import SuiteError
from suite.images import read_image


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


@pytest.mark.parametrize("step", [LoadImageOnce, LoadNamedImage])
@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_an_image_that_cannot_be_loaded_is_named(tmp_path, step, content):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(SuiteError, match=f"{tmp_path}/a.png cannot be loaded as an image"):
        step()(request(tmp_path, "a.png"))


def test_a_pipeline_names_its_images():
    pipeline = [{"type": "LoadImageFromFile", "color_type": "grayscale"}, {"type": "Resize"}]
    assert naming_images(pipeline) == [{"type": "LoadNamedImage", "color_type": "grayscale"}, {"type": "Resize"}]
    assert pipeline[0]["type"] == "LoadImageFromFile"


@pytest.mark.parametrize("step", [LoadImageOnce, LoadNamedImage])
def test_a_jpeg_without_its_end_is_loaded_whole(tmp_path, step):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    mmcv.imwrite(pixels, str(tmp_path / "a.jpg"))
    whole = step()(request(tmp_path, "a.jpg"))["img"]
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-2])
    np.testing.assert_array_equal(step()(request(tmp_path, "a.jpg"))["img"], whole)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg")[..., ::-1], whole)

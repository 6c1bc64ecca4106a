"""What is seen of an image file without and with decoding it, and that a file is looked at once."""

import os

import cv2
import numpy as np
import pytest
from PIL import Image

from experiments.data.folder import images as folder_images
from experiments.data.folder.images import Inspected, Inspector, inspect
from suite.errors import SuiteError
from suite.images import read_image

WIDTH, HEIGHT = 97, 81


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def exif(orientation):
    entries = Image.Exif()
    entries[folder_images.ORIENTATION] = orientation
    return entries.tobytes()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_sound_file(picture, tmp_path, kind, whole):
    picture.save(tmp_path / "a", kind)
    assert inspect(tmp_path / "a", whole) == Inspected(WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_sound_file_is_not_decoded(picture, tmp_path, monkeypatch, kind):
    picture.save(tmp_path / "a", kind)
    monkeypatch.setattr(folder_images, "decode", lambda *_: pytest.fail("decoded"))
    assert inspect(tmp_path / "a") == Inspected(WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_and_pixels_are_those_that_training_sees(picture, tmp_path, kind, orientation):
    path = tmp_path / "a"
    picture.save(path, kind, exif=exif(orientation))
    seen = cv2.imread(str(path))
    stored = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    is_turned = stored.shape != seen.shape or not np.array_equal(stored, seen)
    assert inspect(path) == Inspected(seen.shape[1], seen.shape[0], is_turned)
    assert is_turned == (orientation > 1)
    np.testing.assert_array_equal(read_image(path), seen[..., ::-1])


def test_sixteen_bits_are_read_as_training_reads_them(tmp_path):
    Image.fromarray(np.linspace(0, 65535, 80 * 96).reshape(80, 96).astype(np.uint16)).save(tmp_path / "a.png")
    assert inspect(tmp_path / "a.png") == Inspected(96, 80)
    seen = read_image(tmp_path / "a.png")
    assert seen.dtype == np.uint8 and 120 < seen.mean() < 135
    np.testing.assert_array_equal(seen, cv2.imread(str(tmp_path / "a.png"))[..., ::-1])


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("cut", [2, 3, 30, 3000])
def test_a_jpeg_without_its_end_is_judged_by_what_training_sees(picture, tmp_path, subsampling, progressive, cut):
    path = tmp_path / "a.jpg"
    picture.save(path, subsampling=subsampling, progressive=progressive)
    sound = read_image(path)
    path.write_bytes(path.read_bytes()[:-cut])
    found, seen = inspect(path), cv2.imread(str(path))
    is_whole = seen is not None and np.array_equal(seen[..., ::-1], sound)
    assert (not found.damage) == is_whole
    assert found.lacks_end == is_whole
    if cut == 2 and subsampling == 0 and not progressive:
        assert is_whole  # else the test shows one side only
    if cut == 3000:
        assert not is_whole


def test_a_part_that_some_versions_of_opencv_fill_up_is_damage(picture, tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    picture.save(path)
    data = np.fromfile(path, np.uint8)
    whole = cv2.imdecode(data, cv2.IMREAD_COLOR)

    def filling(some, flags=cv2.IMREAD_COLOR):
        return np.where(np.arange(HEIGHT)[:, None, None] < 40, whole, 128 + (len(some) > len(data)))

    path.write_bytes(data[:-3001].tobytes())
    monkeypatch.setattr(folder_images, "decode", filling)
    assert "it is decoded in part only (image file is truncated" in inspect(path).damage


@pytest.mark.parametrize("content", [b"", b"garbage" * 9, b"\xff\xd8\xff\xd9", b"<html>not found</html>"])
def test_garbage_is_damage_and_no_exception(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    found = inspect(tmp_path / "a.jpg")
    assert found.width == 0 and found.damage.startswith("it cannot be decoded (")
    assert f"{len(content)} bytes" in found.damage
    with pytest.raises(SuiteError, match="a.jpg: damaged image"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(SuiteError, match=r"b.jpg: no such image"):
        read_image(tmp_path / "b.jpg")


def test_a_file_is_looked_at_once_until_it_changes(picture, tmp_path, monkeypatch):
    picture.save(tmp_path / "a.png")
    looked = []
    original = inspect
    monkeypatch.setattr(folder_images, "inspect", lambda *words: looked.append(words) or original(*words))

    def run(whole=False):
        with Inspector(tmp_path / "memory.json", workers=2) as inspector:
            (found,) = inspector([tmp_path / "a.png"], [whole], "test")
        return found

    assert run() == run() == Inspected(WIDTH, HEIGHT)
    assert len(looked) == 1
    run(whole=True)
    run()
    assert len(looked) == 2  # to decode it; that counts for both ways
    picture.resize((50, 40)).save(tmp_path / "a.png")
    assert run() == Inspected(50, 40) and len(looked) == 3
    state = os.stat(tmp_path / "a.png")
    os.utime(tmp_path / "a.png", ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    run()
    assert len(looked) == 4
    (tmp_path / "memory.json").write_text("{torn")
    assert run() == Inspected(50, 40)

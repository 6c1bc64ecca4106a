"""COCO's JSON."""

from PIL import Image

from experiments.data.folder.index import index_folder
from experiments.data.formats import coco as coco_format
from suite.layout import DataFolder
from tests.experiments.data.folders import coco_block, edit, folder_data, read


def test_a_size_that_the_file_does_not_say_is_read_from_the_image(copy, tmp_path):
    size = read(copy / "train.json")["images"][0]
    edit(copy / "train.json", "images", width=None, height=None)
    files = {"annotations": copy / "train.json", "images": copy / "images/train"}
    table = coco_format.read(files, image_size=lambda name: Image.open(files["images"] / name).size)
    (found,) = [i for i in table["images"] if i["id"] == 1000]
    assert (found["width"], found["height"]) == (size["width"], size["height"])
    index_folder(folder_data(coco_block(copy)), DataFolder(tmp_path / "out"))

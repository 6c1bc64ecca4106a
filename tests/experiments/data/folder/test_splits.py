"""Splits that are cut from other ones: which images they get, and who still sees them."""

from experiments.data.folder.index import index_folder
from suite.layout import DataFolder
from tests.experiments.data.folders import change, coco_block, folder_data, read, voc_block


def index(block, out):
    return index_folder(folder_data(block), DataFolder(out))


def test_the_cut_follows_from_the_names_and_what_sees_it_is_known(coco, copy, tmp_path):
    first = index(coco_block(coco), tmp_path / "a")
    data = read(copy / "train.json")
    change(copy / "train.json", images=data["images"][::-1], annotations=data["annotations"][::-1])
    assert index(coco_block(copy), tmp_path / "b")["fingerprint"] == first["fingerprint"]

    names = {
        split: {i["file_name"] for i in read(tmp_path / "a" / f"{split}.json")["images"]} for split in first["splits"]
    }
    assert names["tune"] < names["train"] and names["trainwithouttune"] == names["train"] - names["tune"]
    assert first["splits"]["train"]["contains"] == ["tune"]
    assert first["splits"]["trainwithouttune"]["contains"] == []
    assert folder_data(coco_block(coco)).without("train", "tune") == "trainwithouttune"


def test_held_out_always_takes_the_images_out_of_the_training(voc, tmp_path):
    manifest = index(voc_block(voc), tmp_path)
    assert {n: s["images"] for n, s in manifest["splits"].items()} == {"train": 12, "val": 8, "tune": 4}
    assert manifest["splits"]["train"]["contains"] == []
    assert folder_data(voc_block(voc)).without("train", "tune") == "train"
    names = {n: {i["file_name"] for i in read(tmp_path / f"{n}.json")["images"]} for n in manifest["splits"]}
    assert not names["train"] & names["tune"]

"""The index of a folder: what is written, and what is said of a missing or damaged file."""

import shutil
import unicodedata

import pytest
from PIL import Image

from experiments.data.folder.index import index_folder
from experiments.evaluation.metrics import DetectionColumns, evaluate_detections, load_ground_truth
from suite.errors import SuiteError
from suite.layout import DataFolder
from tests.experiments.data.folders import CLASSES, change, coco_block, edit, folder_data, read, write_coco


def index(block, out):
    return index_folder(folder_data(block), DataFolder(out))


def test_a_coco_folder_becomes_the_layout_of_a_generated_set(coco, tmp_path):
    manifest = index(coco_block(coco), tmp_path)
    assert manifest == read(tmp_path / "dataset.json")
    assert manifest["categories"] == ["square", "circle", "Dreieck é"]  # in the order of their ids
    assert {n: s["images"] for n, s in manifest["splits"].items()} == {
        "train": 24,
        "val": 8,
        "tune": 6,
        "trainwithouttune": 18,
    }
    for name in manifest["splits"]:
        for image in read(tmp_path / f"{name}.json")["images"]:
            assert (tmp_path / name / image["file_name"]).is_file()
    assert manifest["splits"]["train"]["dropped"] == {"no_area": 2, "under_a_pixel": 0, "off_image": 2}
    entries = read(tmp_path / "train.json")["annotations"]
    assert all(set(e) == {"id", "image_id", "category_id", "bbox", "area", "iscrowd"} for e in entries)
    assert sum(e["iscrowd"] for e in entries) == 1
    assert {e["category_id"] for e in entries} == set(CLASSES)
    (across,) = [e["bbox"] for e in entries if e["bbox"][2:] == [50.5, 50.5]]
    assert across[0] > 0  # a box across the border keeps its coordinates


def test_another_take_changes_the_fingerprint(coco, tmp_path):
    block = coco_block(coco)
    first = index(block, tmp_path)["fingerprint"]
    block["splits"]["tune"]["take"] = 7
    assert index(block, tmp_path)["fingerprint"] != first


def members_of(coco):
    """The block of `coco_block` with a `train` that is joined from what were `train` and `val`, and a cut `val`."""
    first, second = (
        {"annotations": "train.json", "images": "images/train"},
        {"annotations": "val.json", "images": "images/val"},
    )
    return coco_block(
        coco,
        splits={
            "train": {"join": {"a": first, "b": second}},
            "tune": {"from": "train", "take": 6},
            "val": {"from": "train", "take": 10},
        },
    )


def test_a_split_is_joined_from_members(coco, tmp_path):
    manifest = index(members_of(coco), tmp_path / "joined")
    index(coco_block(coco), tmp_path / "apart")
    assert {name: split["images"] for name, split in manifest["splits"].items()} == {"train": 16, "tune": 6, "val": 10}
    apart = [read(tmp_path / "apart" / f"{name}.json") for name in ("train", "val")]
    both = {name: read(tmp_path / "joined" / f"{name}.json") for name in manifest["splits"]}
    for table in both.values():
        assert table["categories"] == apart[0]["categories"]
    expected, found = set(), set()
    for member, table in zip("ab", apart, strict=True):
        names = {image["id"]: image["file_name"] for image in table["images"]}
        expected |= {(f"{member}/{names[e['image_id']]}", e["category_id"], *e["bbox"]) for e in table["annotations"]}
    for split, table in both.items():
        names = {image["id"]: image["file_name"] for image in table["images"]}
        assert len(names) == len(set(names.values())) == len(table["images"])
        assert all((tmp_path / "joined" / split / name).is_file() for name in names.values())
        own = {(names[e["image_id"]], e["category_id"], *e["bbox"]) for e in table["annotations"]}
        assert not found & own
        found |= own
    assert found == expected
    assert index(members_of(coco), tmp_path / "joined") == manifest, "a second time, over what is there"


def test_a_member_is_named_in_messages(copy, tmp_path):
    block = members_of(copy)
    block["splits"]["train"]["join"]["b"]["count"] = 9
    with pytest.raises(SuiteError, match="val.json: 8 images, expected 9 .dataset.splits.train.join.b.count"):
        index(block, tmp_path)
    block["splits"]["train"]["join"]["b"] = {"annotations": "val.json", "images": "images/lost"}
    with pytest.raises(SuiteError, match=r"images/lost .dataset.splits.train.join.b.images. is missing"):
        index(block, tmp_path)
    block["splits"]["train"]["join"] = {"a": block["splits"]["train"]["join"]["a"]}
    with pytest.raises(SuiteError, match="dataset.splits.train.join"):
        index(block, tmp_path)


def test_classes_that_one_member_lacks_are_those_of_the_other(copy, tmp_path):
    data = read(copy / "train.json")
    kept = [category for category in data["categories"] if category["name"] != "circle"]
    others = {category["id"] for category in kept}
    change(
        copy / "train.json", categories=kept, annotations=[a for a in data["annotations"] if a["category_id"] in others]
    )
    found = index(members_of(copy), tmp_path)
    assert sorted(found["categories"]) == sorted(CLASSES.values())


def test_damaged_images_of_members_are_listed_with_the_member(copy, tmp_path):
    truncate(copy / "images/val", "000.png")
    block = members_of(copy) | {"on_damaged": "skip"}
    assert list(index(block, tmp_path)["splits"]["train"]["skipped"]) == ["b/000.png"]


def place(annotation):
    return (annotation["image_id"], *annotation["bbox"])


def test_ids_that_count_from_zero_lose_no_object(copy, tmp_path):
    """pycocotools takes the id of a matched annotation for "is matched": 0 is not."""
    data = read(copy / "val.json")
    for kind, key in (("annotations", None), ("images", "image_id"), ("categories", "category_id")):
        new = {entry["id"]: number for number, entry in enumerate(data[kind])}
        for entry in data[kind]:
            entry["id"] = new[entry["id"]]
        for entry in data["annotations"] if key else []:
            entry[key] = new[entry[key]]
    change(copy / "val.json", **data)
    index(coco_block(copy), tmp_path)
    truth = load_ground_truth(str(tmp_path / "val.json"))
    columns = [[a[key] for a in truth.dataset["annotations"]] for key in ("image_id", "category_id", "bbox")]
    count = len(columns[0])
    found = evaluate_detections(truth, DetectionColumns(*columns, [0.9] * count, [None] * count), truth.getImgIds())
    assert found.metrics["AP"] == pytest.approx(1)
    assert all(found.matches["detections"]["matched"])


def test_classes_are_matched_by_name_not_by_id(copy, tmp_path):
    renumbered = {7: 1, 3: 2, 90: 3}
    data = read(copy / "val.json")
    before = [(place(a), CLASSES[a["category_id"]]) for a in data["annotations"] if a["bbox"][2] > 0]
    for entry in data["annotations"]:
        entry["category_id"] = renumbered[entry["category_id"]]
    for entry in data["categories"]:
        entry["id"] = renumbered[entry["id"]]
    change(copy / "val.json", **data)
    index(coco_block(copy), tmp_path)
    after = {place(a): CLASSES[a["category_id"]] for a in read(tmp_path / "val.json")["annotations"]}
    assert after == {key: name for key, name in before if key in after} and len(after) > 5


def test_masks_are_kept_where_asked(tmp_path):
    write_coco(tmp_path / "set", masks=True)
    write_coco(tmp_path / "set", images=8, seed=1, split="val", masks=True)
    for masks in (False, True):
        index(coco_block(tmp_path / "set", masks=masks), tmp_path / "out")
        assert ("segmentation" in read(tmp_path / "out/train.json")["annotations"][0]) == masks
    edit(tmp_path / "set/train.json", "annotations", segmentation=[])
    index(coco_block(tmp_path / "set"), tmp_path / "out")
    with pytest.raises(SuiteError, match="annotation 1 has no segmentation, which dataset.masks asks for"):
        index(coco_block(tmp_path / "set", masks=True), tmp_path / "out")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / "train.json").unlink(), r"train.json \(dataset.splits.train.annotations\) is missing. If the"),
        (lambda r: shutil.rmtree(r / "images/val"), r"images/val \(dataset.splits.val.images\) is missing"),
        (
            lambda r: (r / "images/train/002.png").unlink(),
            r"1 of the 24 images of split 'train' are missing:\n  .*002.png\n.*`on_damaged: skip`",
        ),
        (lambda r: (r / "val.json").write_text('{"images": ['), r"val.json is not valid JSON .*truncated"),
        (lambda r: (r / "val.json").write_text("[]"), "expected COCO's object with images"),
        (lambda r: (r / "val.json").write_text("{}"), "no list 'images'"),
        (lambda r: edit(r / "train.json", "annotations", bbox=[1, 2, 3]), r"annotation 1: bbox is \[1, 2, 3\]"),
        (
            lambda r: edit(r / "train.json", "annotations", bbox=[1, 2, 3, float("nan")]),
            "annotation 1: bbox is",
        ),
        (
            lambda r: edit(r / "train.json", "annotations", image_id=5),
            "annotation 1: no image_id 5 in the file",
        ),
        (
            lambda r: edit(r / "train.json", "annotations", category_id=5),
            "annotation 1: no category_id 5 in the file: correct the annotation, or add what it names to the file's",
        ),
        (lambda r: edit(r / "train.json", "annotations", 1, id=1), "two annotations have the id 1"),
        (lambda r: edit(r / "train.json", "images", 1, id=1000), "two images have the id 1000"),
        (
            lambda r: edit(r / "train.json", "images", 2, file_name="000.png"),
            "file_name '000.png' occurs twice",
        ),
        (lambda r: edit(r / "train.json", "images", file_name=None), "key 'file_name' is missing or not str"),
        (lambda r: edit(r / "train.json", "images", width=7), r"000.png is .* pixels, the annotations say 7 ×"),
        (
            lambda r: edit(r / "val.json", "categories", name="rhombus"),
            r"class 'rhombus' \(of .*png, for one\) is not among the classes of `train`: .*; leave its objects out",
        ),
    ],
)
def test_what_is_missing_or_damaged_is_named(copy, tmp_path, damage, message):
    damage(copy)
    with pytest.raises(SuiteError, match=message):
        index(coco_block(copy), tmp_path / "out")
    assert not (tmp_path / "out/dataset.json").exists()


def truncate(folder, *names):
    for name in names:
        (folder / name).write_bytes((folder / name).read_bytes()[:1000])


def test_all_damaged_images_are_named_with_the_key_that_skips_them(copy, tmp_path):
    truncate(copy / "images/train", "004.png", "006.png")
    (copy / "images/train/008.png").write_bytes(b"garbage")
    with pytest.raises(SuiteError) as raised:
        index(coco_block(copy), tmp_path / "out")
    lines = str(raised.value).splitlines()
    assert "3 of the 24 images of split 'train' are damaged" in lines[0]
    assert [line.split(": ")[0].split("/")[-1] for line in lines[1:4]] == ["008.png", "006.png", "004.png"]
    assert "004.png: it cannot be decoded (image file is truncated; 1000 bytes)" in lines[3]
    assert "`on_damaged: skip` in the suite's dataset leaves them out" in lines[4]
    assert not (tmp_path / "out/dataset.json").exists()


def test_an_image_behind_the_sample_is_looked_at(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.data.folder.source.SAMPLE", 1)
    truncate(copy / "images/train", "000.png", "012.png")
    with pytest.raises(SuiteError, match="2 of the 24 images of split 'train' are damaged"):
        index(coco_block(copy), tmp_path / "out")


def test_damaged_and_missing_images_can_be_skipped(copy, tmp_path):
    everything = index(coco_block(copy), tmp_path / "a")["splits"]
    truncate(copy / "images/train", "004.png")
    (copy / "images/train/006.png").unlink()
    splits = index(coco_block(copy, on_damaged="skip"), tmp_path / "b")["splits"]
    skipped = splits["train"]["skipped"]
    assert skipped.keys() == {"004.png", "006.png"}
    assert skipped["006.png"] == "it is missing" and "truncated" in skipped["004.png"]
    assert splits["train"]["images"] == everything["train"]["images"] - 2
    assert splits["train"]["annotations"] < everything["train"]["annotations"]
    assert splits["val"]["skipped"] == {}
    names = {image["file_name"] for image in read(tmp_path / "b/train.json")["images"]}
    assert len(names) == 22 and not names & skipped.keys()


def test_a_folder_of_which_nothing_is_left_is_not_skipped(copy, tmp_path):
    for path in (copy / "images/val").rglob("*.png"):
        path.write_bytes(b"garbage")
    with pytest.raises(SuiteError, match="8 of the 8 images of split 'val' are damaged"):
        index(coco_block(copy, on_damaged="skip"), tmp_path / "out")
    shutil.rmtree(copy / "images/val")
    (copy / "images/val").mkdir()
    with pytest.raises(
        SuiteError, match=r"8 of the 8 images of split 'val' are missing:\n  .*\n(.*\n)*If the data.*in the suite$"
    ):
        index(coco_block(copy, on_damaged="skip"), tmp_path / "out")


def test_a_format_that_training_cannot_read_is_named(copy, tmp_path):
    path = copy / "images/train/004.png"
    with Image.open(path) as image:
        image.convert("RGB").save(path, format="PPM")
    index(coco_block(copy), tmp_path / "out")  # by what is in the file, not by its name
    with Image.open(path) as image:
        image.save(path, format="PCX")
    with pytest.raises(SuiteError, match=r"004.png: OpenCV, .* cannot read its format \(PCX\): convert it"):
        index(coco_block(copy), tmp_path / "out")


def turn(path, orientation):
    with Image.open(path) as image:
        exif = image.getexif()
        exif[274] = orientation
        image.save(path, exif=exif)


def test_an_image_stored_rotated_is_noticed(copy, tmp_path):
    turn(
        copy / "images/train/000.png", 6
    )  # training sees it turned by 90 degrees, the boxes were drawn on it as stored
    with pytest.raises(SuiteError, match="training sees it turned, as its EXIF entry says"):
        index(coco_block(copy), tmp_path / "out")


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_turn_that_keeps_the_size_is_counted(copy, tmp_path, orientation):
    turn(copy / "images/train/000.png", orientation)
    splits = index(coco_block(copy), tmp_path / "out")["splits"]
    assert splits["train"]["turned"] == ["000.png"] and splits["val"]["turned"] == []


def test_a_file_without_its_end_that_training_sees_whole_is_counted(copy, tmp_path):
    path = copy / "images/train/000.png"
    with Image.open(path) as image:
        image.convert("RGB").save(path, format="JPEG", subsampling=0)
    path.write_bytes(path.read_bytes()[:-2])
    train = index(coco_block(copy), tmp_path / "out")["splits"]["train"]
    assert (train["without_end"], train["skipped"], train["images"]) == (["000.png"], {}, 24)


@pytest.mark.parametrize("has_sizes", [True, False])
@pytest.mark.parametrize("written", ["./{}", ".\\{}", "x/../{}", "{root}/{}", "{nfd}"])
def test_other_ways_to_write_a_name_find_the_file(copy, tmp_path, written, has_sizes):
    expected = index(coco_block(copy), tmp_path / "a")["fingerprint"]
    data = read(copy / "train.json")
    for image in data["images"]:
        name, nfd = image["file_name"], unicodedata.normalize("NFD", image["file_name"])
        image["file_name"] = written.format(name, root=copy / "images/train", nfd=nfd)
        if not has_sizes:
            del image["width"], image["height"]
    change(copy / "train.json", **data)
    found = index(coco_block(copy), tmp_path / "b")
    assert found["splits"]["train"]["sha256"] == read(tmp_path / "a/dataset.json")["splits"]["train"]["sha256"]
    assert found["fingerprint"] == expected


def test_two_ways_to_write_one_name_are_refused(copy, tmp_path):
    edit(copy / "train.json", "images", 2, file_name="./000.png")
    with pytest.raises(SuiteError, match="000.png: two images of the annotations are this file"):
        index(coco_block(copy), tmp_path / "out")


def test_counts_are_checked(coco, tmp_path):
    block = coco_block(coco)
    block["splits"]["train"]["count"] = 25
    with pytest.raises(SuiteError, match=r"train.json: 24 images, expected 25 \(dataset.splits.train.count\)"):
        index(block, tmp_path)
    with pytest.raises(SuiteError, match="split `train` has 3 categories, expected 80"):
        index(coco_block(coco, num_categories=80), tmp_path)
    block = coco_block(coco)
    block["splits"]["tune"]["take"] = 24
    with pytest.raises(
        SuiteError, match="dataset.splits.tune.take: 24 of the 24 images of 'train' are 24; .*: take 1 to 23"
    ):
        index(block, tmp_path)

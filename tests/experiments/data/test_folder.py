"""Data sets in folders: what is checked, what is written, what is said of a missing or damaged file."""

import json
import shutil

import pytest
from PIL import Image

from experiments.data.annotations import read_coco, read_voc
from experiments.data.folder import main, missing, prepare
from experiments.evaluation.metrics import Detections, evaluate_detections, load_ground_truth
from suite.errors import SuiteError
from suite.suite import check_suite
from tests.experiments.data.folders import CLASSES, coco_block, voc_block, write_coco, write_voc


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """A COCO folder; tests must not change it."""
    root = tmp_path_factory.mktemp("coco")
    write_coco(root)
    write_coco(root, images=8, seed=1, split="val")
    return root


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    root = tmp_path_factory.mktemp("voc")
    write_voc(root)
    return root


@pytest.fixture
def copy(coco, tmp_path):
    """A COCO folder that a test may damage."""
    return shutil.copytree(coco, tmp_path / "copy")


def change(path, **changes):
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, **changes}))


def read(path):
    return json.loads(path.read_text())


def test_a_coco_folder_becomes_the_layout_of_a_generated_set(coco, tmp_path):
    manifest = prepare(coco_block(coco), tmp_path)
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
    assert manifest["splits"]["train"]["dropped"] == {"no_area": 2, "off_image": 2}
    entries = read(tmp_path / "train.json")["annotations"]
    assert all(set(e) == {"id", "image_id", "category_id", "bbox", "area", "iscrowd"} for e in entries)
    assert sum(e["iscrowd"] for e in entries) == 1
    assert {e["category_id"] for e in entries} == set(CLASSES)
    (across,) = [e["bbox"] for e in entries if e["bbox"][2:] == [50.5, 50.5]]
    assert across[0] > 0  # a box across the border keeps its coordinates


def test_the_cut_follows_from_the_names_and_what_sees_it_is_known(coco, copy, tmp_path):
    first = prepare(coco_block(coco), tmp_path / "a")
    data = read(copy / "train.json")
    change(copy / "train.json", images=data["images"][::-1], annotations=data["annotations"][::-1])
    assert prepare(coco_block(copy), tmp_path / "b")["fingerprint"] == first["fingerprint"]

    names = {
        split: {i["file_name"] for i in read(tmp_path / "a" / f"{split}.json")["images"]} for split in first["splits"]
    }
    assert names["tune"] < names["train"] and names["trainwithouttune"] == names["train"] - names["tune"]
    assert first["splits"]["train"]["contains"] == ["tune"]
    assert first["splits"]["trainwithouttune"]["contains"] == []
    assert unseen_split(coco_block(coco), "train", "tune") == "trainwithouttune"


def test_held_out_always_takes_the_images_out_of_the_training(voc, tmp_path):
    manifest = prepare(voc_block(voc), tmp_path)
    assert {n: s["images"] for n, s in manifest["splits"].items()} == {"train": 12, "val": 8, "tune": 4}
    assert manifest["splits"]["train"]["contains"] == []
    assert unseen_split(voc_block(voc), "train", "tune") == "train"
    names = {n: {i["file_name"] for i in read(tmp_path / f"{n}.json")["images"]} for n in manifest["splits"]}
    assert not names["train"] & names["tune"]


def test_another_take_changes_the_fingerprint(coco, tmp_path):
    block = coco_block(coco)
    first = prepare(block, tmp_path)["fingerprint"]
    block["splits"]["tune"]["take"] = 7
    assert prepare(block, tmp_path)["fingerprint"] != first


def test_voc_boxes_are_counted_from_one_and_include_their_last_pixel(voc, tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(
        "<annotation><size><width>50</width><height>40</height></size><object><name> dog </name><bndbox><xmin>1</xmin>"
        "<ymin>2</ymin><xmax>50</xmax><ymax>2</ymax></bndbox></object></annotation>"
    )
    table = read_voc(tmp_path, ["a"], {"a": "a.jpg"}, lambda name: (1, 1))
    assert table["annotations"][0]["bbox"] == [0, 1, 50, 1] and table["annotations"][0]["area"] == 50
    assert table["categories"] == [{"id": 1, "name": "dog"}]
    prepare(voc_block(voc), tmp_path / "out")
    entries = read(tmp_path / "out/val.json")
    assert sum(e["iscrowd"] for e in entries["annotations"]) > 0  # the difficult objects of image 1


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
    prepare(coco_block(copy), tmp_path)
    truth = load_ground_truth(str(tmp_path / "val.json"))
    columns = [[a[key] for a in truth.dataset["annotations"]] for key in ("image_id", "category_id", "bbox")]
    count = len(columns[0])
    found = evaluate_detections(truth, Detections(*columns, [0.9] * count, [None] * count), truth.getImgIds())
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
    prepare(coco_block(copy), tmp_path)
    after = {place(a): CLASSES[a["category_id"]] for a in read(tmp_path / "val.json")["annotations"]}
    assert after == {key: name for key, name in before if key in after} and len(after) > 5


def test_masks_are_kept_where_asked(tmp_path):
    write_coco(tmp_path / "set", masks=True)
    write_coco(tmp_path / "set", images=8, seed=1, split="val", masks=True)
    for masks in (False, True):
        prepare(coco_block(tmp_path / "set", masks=masks), tmp_path / "out")
        assert ("segmentation" in read(tmp_path / "out/train.json")["annotations"][0]) == masks
    entry(tmp_path / "set/train.json", "annotations", segmentation=[])
    prepare(coco_block(tmp_path / "set"), tmp_path / "out")
    with pytest.raises(SuiteError, match="annotation 1 has no segmentation, which dataset.masks asks for"):
        prepare(coco_block(tmp_path / "set", masks=True), tmp_path / "out")


def entry(path, kind, number=0, **changes):
    data = read(path)
    data[kind][number].update(changes)
    for key in [key for key, value in data[kind][number].items() if value is None]:
        del data[kind][number][key]
    change(path, **data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / "train.json").unlink(), r"train.json \(dataset.splits.train.annotations\) is missing. If the"),
        (lambda r: shutil.rmtree(r / "images/val"), r"images/val \(dataset.splits.val.images\) is missing"),
        (lambda r: (r / "images/train/002.png").unlink(), r"002.png is missing, and 0 more of the 24 images of split"),
        (lambda r: (r / "val.json").write_text('{"images": ['), r"val.json is not valid JSON .*truncated"),
        (lambda r: (r / "val.json").write_text("[]"), "expected COCO's object with images"),
        (lambda r: (r / "val.json").write_text("{}"), "no list 'images'"),
        (lambda r: entry(r / "train.json", "annotations", bbox=[1, 2, 3]), r"annotation 1: bbox is \[1, 2, 3\]"),
        (lambda r: entry(r / "train.json", "annotations", bbox=[1, 2, 3, float("nan")]), "annotation 1: bbox is"),
        (lambda r: entry(r / "train.json", "annotations", image_id=5), "annotation 1: no image_id 5 in the file"),
        (lambda r: entry(r / "train.json", "annotations", category_id=5), "annotation 1: no category_id 5 in the"),
        (lambda r: entry(r / "train.json", "annotations", 1, id=1), "two annotations have the id 1"),
        (lambda r: entry(r / "train.json", "images", 1, id=1000), "two images have the id 1000"),
        (lambda r: entry(r / "train.json", "images", 2, file_name="000.png"), "file_name '000.png' occurs twice"),
        (lambda r: entry(r / "train.json", "images", file_name=None), "key 'file_name' is missing or not str"),
        (lambda r: entry(r / "train.json", "images", width=7), r"000.png is .* pixels, the annotations say 7 ×"),
        (lambda r: entry(r / "val.json", "categories", name="rhombus"), "class 'rhombus' is not among the classes of"),
    ],
)
def test_what_is_missing_or_damaged_is_named(copy, tmp_path, damage, message):
    damage(copy)
    with pytest.raises(SuiteError, match=message):
        prepare(coco_block(copy), tmp_path / "out")
    assert not (tmp_path / "out/dataset.json").exists()


def test_a_truncated_image_is_named(copy, tmp_path):
    path = copy / "images/train/004.png"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SuiteError, match=r"004.png cannot be decoded .*1000 bytes.*fetch it again"):
        prepare(coco_block(copy), tmp_path / "out")


def test_a_format_that_training_cannot_read_is_named(copy, tmp_path):
    path = copy / "images/train/004.png"
    with Image.open(path) as image:
        image.convert("RGB").save(path, format="PPM")
    prepare(coco_block(copy), tmp_path / "out")  # by what is in the file, not by its name
    with Image.open(path) as image:
        image.save(path, format="PCX")
    with pytest.raises(SuiteError, match=r"004.png: OpenCV, .* cannot read its format \(PCX\): convert it"):
        prepare(coco_block(copy), tmp_path / "out")


def test_an_image_stored_rotated_is_noticed(copy, tmp_path):
    path = copy / "images/train/000.png"
    with Image.open(path) as image:
        exif = image.getexif()
        exif[274] = 6  # training sees it turned by 90 degrees, the boxes were drawn on it as stored
        image.save(path, exif=exif)
    with pytest.raises(SuiteError, match="do not belong together, or it is stored rotated"):
        prepare(coco_block(copy), tmp_path / "out")


def test_a_size_that_the_file_does_not_say_is_read_from_the_image(copy, tmp_path):
    size = read(copy / "train.json")["images"][0]
    entry(copy / "train.json", "images", width=None, height=None)
    table = read_coco(copy / "train.json", lambda name: Image.open(copy / "images/train" / name).size)
    (found,) = [i for i in table["images"] if i["id"] == 1000]
    assert (found["width"], found["height"]) == (size["width"], size["height"])
    prepare(coco_block(copy), tmp_path / "out")


def test_counts_are_checked(coco, tmp_path):
    block = coco_block(coco)
    block["splits"]["train"]["count"] = 25
    with pytest.raises(SuiteError, match=r"train.json: 24 images, expected 25 \(dataset.splits.train.count\)"):
        prepare(block, tmp_path)
    with pytest.raises(SuiteError, match="split `train` has 3 categories, expected 80"):
        prepare(coco_block(coco, num_categories=80), tmp_path)
    block = coco_block(coco)
    block["splits"]["tune"]["take"] = 24
    with pytest.raises(SuiteError, match="dataset.splits.tune.take: 24 of the 24 images of 'train' are 24"):
        prepare(block, tmp_path)


def test_the_remedy_names_the_archive_and_its_size(tmp_path):
    block = coco_block(tmp_path / "nowhere", download="coco2017")
    with pytest.raises(
        SuiteError, match=r"nowhere \(dataset.root\) is no folder. `python -m experiments.data.download"
    ):
        prepare(block, tmp_path)
    (tmp_path / "here/val2017").mkdir(parents=True)
    block = coco_block(tmp_path / "here", download="coco2017")
    block["splits"]["train"]["images"] = "train2017"
    with pytest.raises(SuiteError, match=r"train2017 \(.*\) is missing. It comes with http://.*zip \(19.3 GB\)"):
        prepare(block, tmp_path)


def test_a_list_as_windows_writes_it_and_images_that_no_split_names(voc, tmp_path):
    folder = shutil.copytree(voc, tmp_path / "copy")
    names = folder / "ImageSets/Main/train.txt"
    names.write_bytes(b"\xef\xbb\xbf" + names.read_bytes().replace(b"\n", b"\r\n"))
    for suffix in (".bmp", ".png"):
        (folder / "JPEGImages/other").with_suffix(suffix).touch()
    expected = prepare(voc_block(voc), tmp_path / "a")["fingerprint"]
    assert prepare(voc_block(folder), tmp_path / "b")["fingerprint"] == expected


def append(path, text):
    path.write_text(path.read_text("utf-8") + text, "utf-8")


def test_the_remedy_fetches_into_the_folder_that_the_suite_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fetch = "`python -m experiments.data.download --dataset coco2017"
    for root, command in [("data/coco", f"{fetch}`"), ("my coco", f"{fetch} --root 'my coco'`")]:
        (message,) = missing(coco_block(root, download="coco2017"))
        assert command in message


def test_everything_that_is_not_there_is_named_at_once(coco, tmp_path, capsys, monkeypatch):
    assert missing(coco_block(coco)) == []
    (tmp_path / "set/images/train").mkdir(parents=True)
    names = ("train.json", "images/val", "val.json")
    found = missing(coco_block(tmp_path / "set"))
    assert [message.split(" (")[0] for message in found] == [str(tmp_path / "set" / name) for name in names]

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    mine = {**suite(coco_block(tmp_path / "set")), "seeds": [0, 1]}
    mine["variants"]["faster_rcnn"]["config"] = "experiments/configs/coco/faster_rcnn.py"
    (tmp_path / "suite.yaml").write_text(json.dumps(mine))
    with pytest.raises(SystemExit) as ended:
        main(["--spec", str(tmp_path / "suite.yaml"), "--out", str(tmp_path / "out")])
    lines = str(ended.value).splitlines()
    assert len(lines) == 4 and all(name in line for name, line in zip(names, lines, strict=False))
    assert "resnet50-0676ba61.pth is missing" in lines[3]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / "Annotations/000008.xml").unlink(), "000008.xml is missing: the split lists '000008'"),
        (lambda r: (r / "Annotations/000008.xml").write_text("<annotation>"), "000008.xml is not valid XML"),
        (lambda r: (r / "JPEGImages/000008.JPG").unlink(), r"000008.xml: no image 000008.jpg\|"),
        (
            lambda r: (r / "Annotations/000008.xml").write_text("<a><object><name>dog</name></object></a>"),
            "000008.xml: object 'dog' has no bndbox of four numbers",
        ),
        (lambda r: (r / "ImageSets/Main/train.txt").unlink(), r"train.txt \(dataset.splits.train.list\) is missing"),
        (lambda r: (r / "ImageSets/Main/val.txt").write_text("\n"), "0 images, expected some"),
        (lambda r: (r / "ImageSets/Main/val.txt").write_bytes(b"\xe9t\xe9"), "val.txt is not UTF-8"),
        (lambda r: append(r / "ImageSets/Main/train.txt", "000008\n"), "train.txt lists '000008' twice"),
        (
            lambda r: (r / "JPEGImages/000008.bmp").touch(),
            "000008.JPG and 000008.bmp: which of them belongs",
        ),
    ],
)
def test_what_is_wrong_in_a_voc_folder_is_named(voc, tmp_path, damage, message):
    damage(shutil.copytree(voc, tmp_path / "copy"))
    with pytest.raises(SuiteError, match=message):
        prepare(voc_block(tmp_path / "copy"), tmp_path / "out")


def suite(dataset):
    variant = {"family": "baseline", "config": "experiments/configs/shapes/faster_rcnn.py"}
    return {"suite": "mine", "title": "Mine", "dataset": dataset, "seeds": [0], "variants": {"faster_rcnn": variant}}


def block(**splits):
    base = {
        "train": {"annotations": "a.json", "images": "a"},
        "tune": {"from": "train", "take": 0.1},
        "val": {"annotations": "b.json", "images": "b"},
    }
    return {"format": "coco", "root": "x", "splits": {k: v for k, v in {**base, **splits}.items() if v}}


def test_a_folder_gets_its_own_defaults_and_none_of_the_generators():
    checked = check_suite(suite(block()))
    assert checked["dataset"].keys() == {"format", "root", "splits", "masks"}
    assert checked["dataset"]["splits"]["tune"]["held_out"] == "always"


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({**block(), "image_size": 96}, "'image_size' was unexpected"),
        ({**block(), "format": "yolo"}, r"dataset.format: 'yolo' is not one of \['coco', 'voc'\]"),
        ({"root": "x", "splits": {}}, "'format' is a required property"),
        (block(train=None), "needs a split `train` with files of its own"),
        (block(train={"images": "a"}), "dataset.splits.train.annotations is missing"),
        (block(train={"annotations": "a", "images": "a", "list": "c"}), "train.list: only Pascal VOC has lists"),
        (block(tune={"from": "trian", "take": 3}), "tune.from is 'trian': name a split that has files of its own"),
        (block(tune={"from": "train", "take": 2.5}), "tune.take is 2.5: give a number of images, or a share"),
        (block(val={"from": "train", "take": 3, "held_out": "sweep"}), "the reported split must be held out `always`"),
    ],
)
def test_a_wrong_block_is_named(dataset, message):
    with pytest.raises(SuiteError, match=message):
        check_suite(suite(dataset))


def test_the_command_says_what_it_found_and_what_it_dropped(coco, tmp_path, capsys):
    (tmp_path / "suite.yaml").write_text(json.dumps(suite(coco_block(coco))))
    main(["--spec", str(tmp_path / "suite.yaml"), "--out", str(tmp_path / "out"), "--workers", "2"])
    printed = capsys.readouterr()
    assert "train: 24 images, " in printed.out and "(dropped: 2 no area, 2 off image)" in printed.out
    assert "3 classes: square, circle, Dreieck é" in printed.out
    assert "val: 8 images are there, 8 of them decoded" in printed.err
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="error: .*file"):
        main(["--spec", str(tmp_path / "suite.yaml"), "--out", str(tmp_path / "file/out")])
    with pytest.raises(SystemExit, match="its images are generated, not checked"):
        main(["--spec", "experiments/shapes.yaml", "--out", str(tmp_path / "out")])

"""Pascal VOC's XML files and lists."""

import shutil
import unicodedata

import pytest

from experiments.data.folder.index import index_folder
from experiments.data.formats import voc as voc_format
from suite.errors import SuiteError
from suite.layout import DataFolder
from tests.experiments.data.folders import folder_data, read, voc_block


def index(block, out):
    return index_folder(folder_data(block), DataFolder(out))


def test_voc_boxes_are_counted_from_one_and_include_their_last_pixel(voc, tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "a.xml").write_text(
        "<annotation><size><width>50</width><height>40</height></size><object><name> dog </name><bndbox><xmin>1</xmin>"
        "<ymin>2</ymin><xmax>50</xmax><ymax>2</ymax></bndbox></object></annotation>"
    )
    table = voc_format.read({"annotations": tmp_path, "images": tmp_path}, image_size=lambda name: (1, 1))
    assert table["annotations"][0]["bbox"] == [0, 1, 50, 1] and table["annotations"][0]["area"] == 50
    assert table["categories"] == [{"id": 1, "name": "dog"}]
    index(voc_block(voc), tmp_path / "out")
    entries = read(tmp_path / "out/val.json")
    assert sum(e["iscrowd"] for e in entries["annotations"]) > 0  # the difficult objects of image 1


def test_a_list_as_windows_writes_it_and_images_that_no_split_names(voc, tmp_path):
    folder = shutil.copytree(voc, tmp_path / "copy")
    names = folder / "ImageSets/Main/train.txt"
    names.write_bytes(b"\xef\xbb\xbf" + names.read_bytes().replace(b"\n", b"\r\n"))
    for suffix in (".bmp", ".png"):
        (folder / "JPEGImages/other").with_suffix(suffix).touch()
    expected = index(voc_block(voc), tmp_path / "a")["fingerprint"]
    assert index(voc_block(folder), tmp_path / "b")["fingerprint"] == expected


def recoded(path, encoding):
    declared = encoding.removesuffix("-sig")
    text = path.read_text("utf-8").replace("<annotation>", f'<?xml version="1.0" encoding="{declared}"?><annotation>')
    path.write_bytes(text.replace("Dreieck é", "三角").replace("circle", "円").encode(encoding, "xmlcharrefreplace"))


@pytest.mark.parametrize("encoding", ["gbk", "big5", "shift_jis", "utf-8", "utf-16", "utf-8-sig"])
def test_an_xml_file_in_another_encoding_is_read(voc, tmp_path, encoding):
    folder = shutil.copytree(voc, tmp_path / "copy")
    for path in (folder / "Annotations").glob("*.xml"):
        recoded(path, encoding)
    assert index(voc_block(folder), tmp_path / "out")["categories"] == ["square", "三角", "円"]


def test_difficult_as_other_tools_write_it(voc, tmp_path):
    folder = shutil.copytree(voc, tmp_path / "copy")
    for path in (folder / "Annotations").glob("*.xml"):
        path.write_text(path.read_text("utf-8").replace("<difficult>0", "<difficult>Unspecified"), "utf-8")
    assert (
        index(voc_block(folder), tmp_path / "a")["fingerprint"] == index(voc_block(voc), tmp_path / "b")["fingerprint"]
    )
    path = folder / "Annotations/000008.xml"
    path.write_text(path.read_text("utf-8").replace("Unspecified", "perhaps"), "utf-8")
    with pytest.raises(SuiteError, match="000008.xml: object '.*': difficult is 'perhaps', expected 0 or 1"):
        index(voc_block(folder), tmp_path / "c")


def test_the_xml_file_of_a_skipped_image_is_skipped(voc, tmp_path):
    folder = shutil.copytree(voc, tmp_path / "copy")
    (folder / "JPEGImages/000008.JPG").unlink()
    train = index(voc_block(folder, on_damaged="skip"), tmp_path / "out")["splits"]["train"]
    assert train["skipped"] == {"000008.jpg": "it is missing"}


def in_form(form, folder, *parts):
    """Renames what lies in parts of a data set to a form of Unicode; returns how many names have changed."""
    count = 0
    for path in [path for part in parts for path in (folder / part).iterdir()]:
        count += path.name != (name := unicodedata.normalize(form, path.name))
        path.rename(path.with_name(name))
    return count


@pytest.mark.parametrize("parts", [["Annotations"], ["JPEGImages"], ["Annotations", "JPEGImages"], ["ImageSets/Main"]])
@pytest.mark.parametrize("has_list", [True, False])
def test_list_files_and_images_may_differ_in_the_form_of_their_accents(voc, tmp_path, parts, has_list):
    folder = shutil.copytree(voc, tmp_path / "copy")
    if parts == ["ImageSets/Main"]:
        for path in (folder / parts[0]).iterdir():
            path.write_text(unicodedata.normalize("NFD", path.read_text("utf-8")), "utf-8")
    else:
        assert in_form("NFD", folder, *parts) > 0
    split = {"list": "ImageSets/Main/train.txt"} if has_list else {}
    block = {"splits": {"train": split, "tune": {"from": "train", "take": 4}, "val": {"from": "train", "take": 3}}}
    expected = index(voc_block(voc, **block), tmp_path / "a")
    found = index(voc_block(folder, **block), tmp_path / "b")
    for key in ("images", "annotations", "crowds"):  # in all: which ones are cut follows from their file names
        assert len({sum(split[key] for split in one["splits"].values()) for one in (found, expected)}) == 1
    names = [image["file_name"] for image in read(tmp_path / "b/train.json")["images"]]
    assert all((tmp_path / "b/train" / name).is_file() for name in names)


def test_two_forms_of_one_name_are_one_image_of_a_list_and_one_class(voc, tmp_path):
    folder = shutil.copytree(voc, tmp_path / "copy")
    for path in sorted((folder / "Annotations").glob("*.xml"))[::2]:
        path.write_text(unicodedata.normalize("NFD", path.read_text("utf-8")), "utf-8")
    expected = index(voc_block(voc), tmp_path / "a")
    found = index(voc_block(folder), tmp_path / "b")
    assert found["categories"] == expected["categories"] and found["fingerprint"] == expected["fingerprint"]
    append(folder / "ImageSets/Main/train.txt", unicodedata.normalize("NFD", "été 9") + "\n")
    with pytest.raises(SuiteError, match="train.txt lists 'été 9' twice"):
        index(voc_block(folder), tmp_path / "c")


def test_a_suite_may_write_a_folder_in_the_other_form(voc, tmp_path):
    folder = shutil.copytree(voc, tmp_path / unicodedata.normalize("NFD", "Käfer"))
    (folder / "JPEGImages").rename(folder / unicodedata.normalize("NFD", "Bilder é"))
    splits = {name: {**entry} for name, entry in voc_block(voc)["splits"].items()}
    for name in ("train", "val"):
        splits[name]["images"] = "Bilder é"
    found = index(voc_block(tmp_path / "Käfer", splits=splits), tmp_path / "out")
    assert found["fingerprint"] == index(voc_block(voc), tmp_path / "expected")["fingerprint"]


def append(path, text):
    path.write_text(path.read_text("utf-8") + text, "utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda r: (r / "Annotations/000008.xml").unlink(),
            r"000008.xml is missing, as 1 of \d+ that .*train.txt lists: add it, or take its line out",
        ),
        (lambda r: (r / "Annotations/000008.xml").write_text("<annotation>"), "000008.xml is not valid XML"),
        (
            lambda r: (r / "JPEGImages/000008.JPG").unlink(),
            r"1 of the 16 images of split 'train' are missing:\n  .*000008.jpg\n",
        ),
        (
            lambda r: (r / "Annotations/000008.xml").write_text("<a><object><name>dog</name></object></a>"),
            "000008.xml: object 'dog' has no bndbox of four numbers",
        ),
        (
            lambda r: (r / "Annotations/000008.xml").write_text('<?xml version="1.0" encoding="klingon"?><a/>'),
            "000008.xml: its encoding 'klingon' is not known",
        ),
        (
            lambda r: (r / "Annotations/000008.xml").write_bytes(b'<?xml version="1.0" encoding="gbk"?><a>\xff</a>'),
            "000008.xml is not valid XML",
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
        index(voc_block(tmp_path / "copy"), tmp_path / "out")


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


def own_size(name):
    return (30, 20)


def table_of(tmp_path, text):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "a.xml").write_text(f"<annotation>{text}</annotation>", "utf-8")
    return voc_format.read({"annotations": tmp_path, "images": tmp_path}, image_size=own_size)


@pytest.mark.parametrize(
    ("width", "expected"), [("", (30, 20)), ("0", (30, 20)), ("0.0", (30, 20)), ("50", (50, 40)), ("50.0", (50, 40))]
)
def test_without_a_size_in_the_file_the_images_own_counts(tmp_path, width, expected):
    (image,) = table_of(tmp_path, f"<size><width>{width}</width><height>40</height></size>")["images"]
    assert (image["width"], image["height"]) == expected


@pytest.mark.parametrize("width", ["-1", "1e9", "nan", "²", "True", "50.5", "1 2", "9" * 20])
def test_a_size_that_is_no_number_of_pixels_is_refused(tmp_path, width):
    with pytest.raises(SuiteError, match=f"a.xml: width is '{width}', expected pixels"):
        table_of(tmp_path, f"<size><width>{width}</width><height>40</height></size>")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"<object><name>cat</name><name>dog</name>{BOX}</object>", r"<name> of an <object> must .* \['cat', 'dog'\]"),
        (
            f"<object><name>cat</name>{BOX.replace('</xmax>', '</xmax><xmax>7</xmax>')}</object>",
            "<xmax> of an <object>",
        ),
        (f"<object><name>cat</name><difficult><b>1</b></difficult>{BOX}</object>", "<difficult> of an <object>"),
        ("<size><width>50</width></size><size><width>51</width></size>", "<width> of an <annotation>"),
    ],
)
def test_two_answers_to_one_question_are_refused(tmp_path, text, message):
    with pytest.raises(SuiteError, match=message):
        table_of(tmp_path, text)


def test_the_same_answer_twice_is_one(tmp_path):
    found = table_of(tmp_path, f"<object><name>cat</name><name> cat </name>{BOX}</object>")
    assert [c["name"] for c in found["categories"]] == ["cat"]

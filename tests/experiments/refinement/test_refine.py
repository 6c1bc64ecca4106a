"""`python -m experiments refine`: detections in a file, refined."""

import gzip
import json

import numpy as np
import pytest
import torch

from experiments.__main__ import main
from experiments.refinement.annotations import read_annotations
from experiments.refinement.results import read_results
from experiments.refinement.training import as_tensor
from iounet.refiner import IoURefiner
from suite.images import read_image
from tests.experiments.refinement.conftest import NAMES


def by_hand(place, image, **options):
    """What the refiner makes of an image's boxes, as rows."""
    refiner = IoURefiner.load(place.path / "refiner.pth")
    rows = [row for row in place.rows if row["image_id"] == image]
    corners = torch.tensor([row["bbox"] for row in rows])
    corners[:, 2:] += corners[:, :2]
    ids = list(NAMES)
    (found,) = refiner.refine(
        [as_tensor(read_image(place.path / f"images/sub/{image}.png"))],
        [corners],
        [torch.tensor([row["score"] for row in rows])],
        [torch.tensor([ids.index(row["category_id"]) for row in rows])],
        **options,
    )
    for box, score, label, iou in zip(*(column.tolist() for column in found), strict=True):
        bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        yield {"image_id": image, "category_id": ids[label], "bbox": bbox, "score": min(max(score, 0), 1), "iou": iou}


def assert_same(found, expected):
    assert [(row["image_id"], row["category_id"]) for row in found] == [
        (row["image_id"], row["category_id"]) for row in expected
    ]
    np.testing.assert_allclose([row["bbox"] for row in found], [row["bbox"] for row in expected], atol=0.02)
    np.testing.assert_allclose([row["score"] for row in found], [row["score"] for row in expected], atol=1e-3)


def test_boxes_after_nms_are_moved_and_rescored(place, capsys):
    assert main(place.words()) == 0
    found = place.written()
    expected = [row for image in (3, 5, 7) for row in by_hand(place, image)]
    assert_same(found, sorted(expected, key=lambda row: -row["score"]))
    assert len(found) == len(place.rows)
    assert set(found[0]) == {"image_id", "category_id", "bbox", "score", "iou"}
    started = {tuple(row["bbox"]) for row in place.rows}
    assert sum(tuple(row["bbox"]) not in started for row in found) > 3
    said = capsys.readouterr()
    assert "out.json: 7 detections of 3 images in" in said.out
    assert "no NMS" in said.out and "class score × predicted IoU" in said.out
    assert "3/3" in said.err  # the progress


def test_it_says_what_it_was_made_from(place):
    main(place.words("--no-rescore", steps=2, **{"step-size": 1.5, "min-score": 0.1, "max-per-image": 2}))
    run = place.written("out.run.json")
    assert run["settings"] == {
        "input": "after-nms",
        "guide": None,
        "iou_threshold": 0.5,
        "score_threshold": 0.1,
        "max_per_image": 2,
        "step_size": 1.5,
        "num_steps": 2,
        "rescore": False,
        "categories": {},
    }
    assert run["counts"] == {"images": 3, "read": 7, "below_min_score": 1, "written": 5}
    assert len(run["refiner"]["sha256"]) == 64
    assert run["seconds"] > 0
    options = {"score_threshold": 0.1, "max_per_image": 2, "step_size": 1.5, "num_steps": 2, "rescore": False}
    expected = [row for image in (7, 3, 5) for row in by_hand(place, image, **options)]
    assert_same(place.written(), sorted(expected, key=lambda row: -row["score"]))
    main(place.words())
    assert place.written("out.run.json")["settings"]["step_size"] == 2.0  # the refiner's own


def crowded(place):
    """Boxes before NMS: three more beside each."""
    place.rows = [
        {**row, "bbox": [x + shift, y, w, h + shift], "score": row["score"] * (1 - shift / 10)}
        for row in place.rows
        for x, y, w, h in [row["bbox"]]
        for shift in (0, 1, 2, 3)
    ]
    place.write()


@pytest.mark.parametrize("guide", ["rank", "weight", "none"])
def test_nms_chooses_among_boxes_before_it(place, guide, capsys):
    crowded(place)
    assert main(place.words(f"--guide={guide}", input="before-nms")) == 0
    expected = [row for image in (7, 3, 5) for row in by_hand(place, image, guide=guide, score_threshold=0.05)]
    assert_same(place.written(), sorted(expected, key=lambda row: -row["score"]))
    assert 5 <= len(place.written()) < 20
    assert "warning" not in capsys.readouterr().out
    assert place.written("out.run.json")["counts"]["below_min_score"] == 4


def test_what_is_read_can_be_refined_again(place):
    main(place.words())
    place.rows = place.written()
    place.write()
    assert main(place.words(**{"iou-threshold": 1})) == 0


def test_compressed_files_are_the_same(place):
    main(place.words())
    plain = (place.path / "out.json").read_bytes()
    with gzip.open(place.path / "detections.json.gz", "wt") as file:
        json.dump(place.rows, file)
    changed = {"detections": place.path / "detections.json.gz", "out": place.path / "deep/out.json.gz"}
    assert main(place.words(**changed)) == 0
    written = (place.path / "deep/out.json.gz").read_bytes()
    assert gzip.decompress(written) == plain
    main(place.words(**changed))
    assert (place.path / "deep/out.json.gz").read_bytes() == written
    assert {path.name for path in (place.path / "deep").iterdir()} == {"out.json.gz", "out.run.json"}


def test_the_batch_decides_nothing(place):
    main(place.words(**{"batch-size": 1}))
    alone = place.written()
    main(place.words(**{"batch-size": 3}))
    assert_same(place.written(), alone)


def test_pycocotools_reads_what_is_written(place):
    from experiments.evaluation.metrics import load_ground_truth

    main(place.words())
    whole = {"images": place.images, "categories": place.categories, "annotations": [], "info": {}}
    (place.path / "truth.json").write_text(json.dumps(whole))
    loaded = load_ground_truth(str(place.path / "truth.json")).loadRes(str(place.path / "out.json"))
    assert len(loaded.anns) == 7


def test_classes_may_have_other_names(place):
    main(place.words())
    expected = place.written()
    place.categories[0]["name"] = "formica"
    place.write()
    with pytest.raises(
        SystemExit, match=r"class 'formica', category_id 11, is none of the refiner .*refiner.pth: it knows"
    ):
        main(place.words())
    assert main(place.words("--category", "formica=ant")) == 0
    assert place.written() == expected


def test_pieces_of_a_file_make_no_difference(place, monkeypatch):
    annotations = read_annotations(place.path / "annotations.json")
    whole = read_results(place.path / "detections.json", annotations)
    text = json.dumps(place.rows, indent=3)
    (place.path / "detections.json").write_text(f"\n {text}\n\n")
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr("experiments.refinement.results.CHUNK", size)
        found = read_results(place.path / "detections.json", annotations)
        for column in ("image", "category", "boxes", "scores"):
            np.testing.assert_array_equal(getattr(found, column), getattr(whole, column))
    assert whole.boxes[0].tolist() == [4, 6, 29.5, 30]
    assert [annotations.image_ids[image] for image, _ in whole.by_image()] == [7, 3, 5]
    assert [rows.tolist() for _, rows in whole.by_image()] == [[1, 4, 6], [3, 5], [0, 2]]


# --- what is refused --------------------------------------------------------------------------------------------------


def row(**changed):
    def change(place):
        place.rows[2].update(changed)

    return change


def without(key):
    return lambda place: place.rows[2].pop(key)


ENTRY = r"detections.json: entry 2 \(image_id 5\)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            row(image_id=4),
            r"detections.json: entry 2 \(image_id 4\): image_id 4 is none of .*annotations.json: they are",
        ),
        (row(image_id="5"), r"entry 2 \(image_id '5'\): image_id '5' is none of .*: its ids are numbers, not texts"),
        (row(image_id=None), r"entry 2 \(image_id None\): image_id None is none of"),
        (row(image_id=True), r"image_id True is none of"),
        (row(category_id=0), ENTRY + r": category_id 0 is none of .*they are 11, 12, 15. A detector's own numbers"),
        (without("score"), ENTRY + r" has no 'score'; the file must be a list of COCO's results"),
        (without("image_id"), r"detections.json: entry 2 has no 'image_id'"),
        (row(bbox=[1, 2, 3]), ENTRY + r": 'bbox' is \[1, 2, 3\]: it must be four numbers, \[x, y, width, height\]"),
        (row(bbox=[1, 2, "3", 4]), ENTRY + r": 'bbox' is .*: it must be four numbers"),
        (row(bbox=[1, 2, float("nan"), 4]), ENTRY + r": 'bbox' is .*: it must be four numbers"),
        (row(bbox=[1, 2, float("inf"), 4]), ENTRY + r": 'bbox' is .*: it must be four numbers"),
        (row(bbox=[1, 2, 0, 4]), ENTRY + r": 'bbox' .* has no area: its width is 0, its height 4"),
        (row(bbox=[20, 30, -10, -5]), ENTRY + r": 'bbox' .* has no area: its width is -10, its height -5"),
        (
            row(score=1.5),
            ENTRY + r": 'score' is 1.5: it must be a probability, from 0 to 1 \(divide percentages by 100",
        ),
        (row(score=-0.1), ENTRY + r": 'score' is -0.1: it must be a probability"),
        (row(score=float("nan")), ENTRY + r": 'score' is nan: it must be a number from 0 to 1"),
        (row(score="0.5"), ENTRY + r": 'score' is '0.5': it must be a number"),
        (lambda place: place.rows.insert(1, [1, 2]), r"entry 1 is \[1, 2\], no detection; the file must be"),
        (lambda place: place.rows.clear(), r"detections.json: no detections in it: there is nothing to refine"),
        (
            lambda place: place.images.append(dict(place.images[1])),
            r"annotations.json: images, entries 1 and 4 both have the id 3",
        ),
        (
            lambda place: place.categories[1].update(id=11),
            r"annotations.json: categories, entries 0 and 1 both have the id",
        ),
        (lambda place: place.categories[1].update(name="ant"), r"categories, entries 0 and 1 are both called 'ant'"),
        (lambda place: place.categories.clear(), r"annotations.json: no list 'categories' with anything in it"),
        (lambda place: place.images[1].pop("width"), r"images, entry 1 \(id 3\): 'width' is None: it must be"),
        (lambda place: place.images[1].pop("file_name"), r"images, entry 1 \(id 3\): 'file_name' is None"),
        (lambda place: place.images[0].pop("id"), r"images, entry 0 has no 'id'"),
        (
            lambda place: place.images[0].update(file_name="none.png"),
            r"none.png: no such image \(image_id 7 of .*1 of the 3 images with detections are missing\): --images is",
        ),
        (
            lambda place: place.images[0].update(width=90),
            r"7.png is of 96 x 64 pixels, .*.json says 90 x 64 \(image_id 7\): the boxes are of another image",
        ),
        (lambda place: place.categories[0].update(name="dog"), r"class 'dog', category_id 11, is none of the refiner"),
    ],
)
def test_bad_entries_are_named(place, change, message):
    change(place)
    place.write()
    with pytest.raises(SystemExit, match=message):
        main(place.words())
    assert not (place.path / "out.json").exists()
    assert not (place.path / "out.run.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"detections.json is empty: it must be a list of COCO's results"),
        (b" \n", r"detections.json is empty"),
        (b"{}", r"detections.json begins with '\{\}': it must be a list"),
        (b"image,x,y", r"detections.json begins with 'image,x,y'"),
        (b"[", r"detections.json: damaged or truncated at entry 0"),
        (b"[]", r"detections.json: no detections in it"),
        (b"%s", None),
        (b"[%s", r"detections.json: truncated after entry 0: the list has no end"),
        (b"[%s,", r"detections.json: damaged or truncated at entry 1"),
        (b'[%s, {"image_id": 5, "bb', r"detections.json: damaged or truncated at entry 1 \(.*there is '\{\"image_id"),
        (b"[%s %s]", r"detections.json: after entry 0 there is '\{.*', where ',' or '\]' must be"),
        (b"[%s]]", r"detections.json: after the list there is '\]'"),
        (b"[%s, \xff]", r"detections.json: damaged, cannot be read \('utf-8' codec can't decode"),
    ],
)
def test_files_that_hold_no_list_are_named(place, text, message):
    entry = json.dumps(place.rows[0]).encode()
    (place.path / "detections.json").write_bytes(text.replace(b"%s", entry))
    with pytest.raises(SystemExit, match=message or "begins with"):
        main(place.words())


def test_damaged_compression_is_named(place):
    whole = gzip.compress(json.dumps(place.rows).encode())
    for name, data in {"cut": whole[:-9], "other": b"[]"}.items():
        path = place.path / f"{name}.json.gz"
        path.write_bytes(data)
        with pytest.raises(SystemExit, match=rf"{name}.json.gz: damaged, cannot be read"):
            main(place.words(detections=path))


def test_corners_in_place_of_sizes_are_noticed(place):
    for entry in place.rows:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x, y, x + w, y + h]
    place.write()
    with pytest.raises(
        SystemExit,
        match=r"entry 1 \(image_id 7\): 'bbox' \[40, 8, 65.5, 32\] reaches beyond its image of "
        r"96 x 64 pixels as \[x, y, width, height\], but not as \[x1, y1, x2, y2\], and so do",
    ):
        main(place.words())


def test_boxes_that_a_detector_has_not_clipped_are_no_corners(place):
    place.rows[2]["bbox"] = [60, 30, 80, 50]  # as corners it would lie within, too
    place.write()
    assert main(place.words()) == 0  # others have a width below their x
    (warning,) = place.written("out.run.json")["warnings"]
    assert "1 of 7 boxes reach beyond their images, the first is entry 2 (image_id 5)" in warning


def test_shares_of_the_sides_are_noticed(place):
    for entry in place.rows:
        entry["bbox"] = [value / 100 for value in entry["bbox"]]
    place.write()
    with pytest.raises(
        SystemExit, match=r"entry 0 \(image_id 5\) and all others lie within the first pixel.*Multiply x"
    ):
        main(place.words())


def test_boxes_before_nms_are_not_taken_for_those_after_it(place):
    crowded(place)
    message = (
        r"entries 4 and 5, both of image_id 7 and of class 'ant', overlap by an IoU of 0.8.: no NMS at 0.5 keeps both"
    )
    with pytest.raises(SystemExit, match=message + r".*--input before-nms"):
        main(place.words())
    assert main(place.words(**{"iou-threshold": 1})) == 0  # a detector without NMS


def test_boxes_of_other_classes_may_overlap(place):
    place.rows[4]["bbox"] = place.rows[1]["bbox"]  # of the same image
    place.write()
    assert main(place.words()) == 0


def test_boxes_that_look_like_those_after_nms_are_warned_of(place, capsys):
    assert main(place.words(input="before-nms")) == 0
    assert "warning:" in (said := capsys.readouterr().out)
    assert "no two boxes of one image and class overlap by an IoU above 0.5" in said
    assert len(place.written("out.run.json")["warnings"]) == 1


def test_a_guide_needs_nms(place):
    with pytest.raises(SystemExit, match=r"--guide orders boxes in NMS, which --input after-nms says is done"):
        main(place.words("--guide=rank"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("detections", "none.json", r"--detections .*none.json cannot be read \(No such file"),
        ("annotations", "none.json", r"--annotations .*none.json cannot be read \(No such file"),
        ("annotations", "detections.json", r"detections.json: no list 'images' with anything in it: --annotations is"),
        ("images", "none", r"--images .*none: no such folder"),
        ("refiner", "none.pth", r"--refiner .*none.pth: no such file; python -m experiments train-refiner makes one"),
        ("refiner", "annotations.json", r"--refiner .*annotations.json is not a readable file of weights"),
        ("out", "images", r"--out .*images is a folder: name a file"),
        ("out", "out.txt", r"--out .*out.txt: its name must end in .json or .json.gz"),
        ("out", "detections.json/out.json", r"--out .*out.json cannot be written \("),
        ("out", "detections.json", r"--out .* would take the place of --detections"),
        ("out", "annotations.json", r"--out .* would take the place of --annotations"),
    ],
)
def test_wrong_paths_are_named(place, key, value, message):
    before = (place.path / "detections.json").read_bytes()
    with pytest.raises(SystemExit, match=message):
        main(place.words(**{key: place.path / value}))
    assert (place.path / "detections.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["formica=ant"], r"--category formica=…: .*annotations.json has no class 'formica'"),
        (["ant=wasp"], r"class 'wasp' \(--category ant=wasp\), category_id 11, is none of the refiner"),
        (["ant=bee"], r"classes 'ant' and 'bee' are both 'bee' of the refiner .*: each class needs one of its own"),
    ],
)
def test_wrong_names_of_classes_are_named(place, change, message):
    with pytest.raises(SystemExit, match=message):
        main(place.words(*(f"--category={one}" for one in change)))


def test_bad_entries_come_before_the_weights(place, monkeypatch):
    monkeypatch.setattr(IoURefiner, "load", lambda *_: pytest.fail("weights were loaded"))
    for change in (row(score=7), row(image_id=4)):
        change(place)
        place.write()
        with pytest.raises(SystemExit):
            main(place.words())


def test_memory_is_that_of_a_batch(place, monkeypatch):
    """Whatever the number of images, the refiner is shown so many at once, of one size."""
    shown = []
    refine = IoURefiner.refine

    def watched(self, images, *columns, **options):
        shown.append([tuple(image.shape[1:]) for image in images])
        return refine(self, images, *columns, **options)

    monkeypatch.setattr(IoURefiner, "refine", watched)
    main(place.words(**{"batch-size": 2}))
    assert sorted(shown) == [[(48, 80)], [(64, 96), (64, 96)]]

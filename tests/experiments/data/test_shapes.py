import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from experiments.data.shapes import dataset as shapes
from experiments.data.shapes import scene as shapes_render
from experiments.data.shapes.dataset import (
    contact_sheet,
    main,
    scene_rng,
    split_fingerprint,
    split_is_complete,
    write_dataset,
    write_split,
)
from experiments.data.shapes.scene import CATEGORIES, DIFFICULTIES, MIN_SIDE, MIN_VISIBLE, SUPERSAMPLE, render_scene
from experiments.data.shapes.spec import VERSION, SplitSpec, parse_spec
from suite.errors import SuiteError
from tests.experiments.training.stopping import children, wait_until_ended

ROOT = Path(__file__).resolve().parents[3]
BLOCK = {"generator": "shapes", "splits": {"train": {"images": 40}, "val": {"images": 6, "difficulty": "hard"}}}


def scenes(split, count, **kwargs):
    return [render_scene(scene_rng(0, split, index), **kwargs) for index in range(count)]


def file_hashes(folder):
    return {
        p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*.*"))
        if p.name != ".lock"
    }


@pytest.fixture(scope="module")
def normal():
    return scenes("statistics", 250)


@pytest.fixture(scope="module")
def hard():
    return scenes("statistics", 80, difficulty="hard")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    assert write_dataset(parse_spec(BLOCK), out, workers=1)
    return out


# --- the data do not change unless VERSION does --------------------------------------------------------------

PINNED = {
    ("val", 1, "normal"): (
        [
            ("triangle", 0.0, 0.0, 38.75, 47.75),
            ("ring", 71.5, 24.0, 19.0, 16.5),
            ("square", 28.25, 19.5, 44.5, 51.75),
            ("cross", 11.75, 17.5, 34.25, 38.75),
        ],
        [[[207.5, 178.1, 109.4], [234.2, 228.1, 212.5]], [[206.2, 191.0, 174.9], [223.8, 214.2, 196.1]]],
    ),
    ("pretrain", 7, "hard"): (
        [
            ("star", 32.5, 5.5, 23.0, 48.5),
            ("square", 7.0, 70.75, 11.0, 12.0),
            ("ring", 41.0, 0.0, 27.0, 23.75),
            ("star", 38.5, 8.75, 57.5, 55.25),
            ("ring", 0.0, 51.25, 27.75, 40.75),
        ],
        [[[169.2, 192.2, 184.6], [160.3, 179.6, 178.4]], [[108.1, 160.6, 167.1], [168.8, 180.2, 178.9]]],
    ),
}


@pytest.mark.parametrize("key", PINNED, ids=str)
def test_version_1_is_what_it_was(key):
    split, index, difficulty = key
    boxes, corners = PINNED[key]
    image, annotations = render_scene(scene_rng(0, split, index), difficulty=difficulty)
    message = "the generator gives other data than version 1 did: if that is meant, bump VERSION and pin the new values"
    assert VERSION == 1, "pin the values of the new version here"
    assert [a.category for a in annotations] == [name for name, *_ in boxes], message
    # Two fine pixels and two grey levels: another OpenCV may round otherwise.
    np.testing.assert_allclose([a.bbox for a in annotations], [b for _, *b in boxes], atol=0.5, err_msg=message)
    means = image.reshape(4, 24, 4, 24, 3).mean((1, 3))[::3, ::3]
    np.testing.assert_allclose(means, corners, atol=2, err_msg=message)


def test_look_moves_no_box(monkeypatch, normal):
    plain = DIFFICULTIES["normal"]._replace(noise=(0, 0), image_blur=(0, 0), strokes_behind=(0, 0), alpha=(1, 1))
    monkeypatch.setitem(DIFFICULTIES, "normal", plain)
    for (image, annotations), (other_image, other) in zip(normal[:5], scenes("statistics", 5), strict=True):
        assert [a[:4] for a in annotations] == [a[:4] for a in other]
        assert not np.array_equal(image, other_image)


# --- boxes ------------------------------------------------------------------------------------------------


def test_boxes_are_tight_on_the_visible_masks(normal, hard):
    for image, annotations in normal + hard:
        assert image.shape == (96, 96, 3)
        assert image.dtype == np.uint8
        assert sum(a.mask.astype(int) for a in annotations).max() == 1  # what is visible of two objects is disjoint
        for a in annotations:
            rows, columns = (np.flatnonzero(a.mask.any(axis)) for axis in (1, 0))
            x, y, w, h = (v * SUPERSAMPLE for v in a.bbox)
            assert (x, x + w, y, y + h) == (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1)
            assert a.area == a.mask.sum() / SUPERSAMPLE**2
            assert a.area <= a.bbox[2] * a.bbox[3]


def test_boxes_are_tight_on_the_picture(monkeypatch):
    # On unblurred images of one opaque object, strong colour (which a shadow does not change) is the object.
    plain = DIFFICULTIES["normal"]._replace(
        noise=(0, 0), image_blur=(0, 0), edge_blur=(0, 0), strokes_behind=(0, 0), strokes_before=(0, 0), alpha=(1, 1)
    )
    monkeypatch.setitem(DIFFICULTIES, "normal", plain)
    errors = []
    for image, (a,) in scenes("picture", 60, objects=(1, 1)):
        values = image.astype(float)
        colorful = 1 - values.min(-1) / values.max(-1).clip(1) > 0.42
        rows, columns = (np.flatnonzero(colorful.any(axis)) for axis in (1, 0))
        x, y, w, h = a.bbox
        seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        errors.append(seen - [x, y, x + w, y + h])
    assert np.abs(errors).max() <= 1.25  # a pixel is coloured from about half cover on
    assert np.abs(np.mean(errors, 0)).max() < 0.4  # no shift of the half-pixel kind


def visible_box(hidden_columns):
    """The box of an object on fine rows 8…55 and columns 8…87 behind a bar; None if too little of it is seen."""
    below, bar = np.zeros((2, 128, 128), np.uint8)
    below[8:56, 8:88] = 1
    bar[:, hidden_columns] = 1
    placed = [shapes_render._Placed("square", [], mask, int(mask.sum())) for mask in (below, bar)]
    owner = np.where(bar > 0, 1, np.where(below > 0, 0, -1)).astype(np.int16)
    annotations = shapes_render._annotate(placed, owner)
    return None if annotations is None else annotations[0].bbox


def test_a_sliver_behind_an_occluder_is_no_part_of_the_box():
    # One column of 48 fine pixels is 3 square pixels: no piece. Two columns, 6 square pixels, are one.
    assert visible_box(slice(9, 41)) == (10.25, 2.0, 11.75, 12.0)
    assert visible_box(slice(10, 42)) == (2.0, 2.0, 20.0, 12.0)


def test_a_narrow_rest_is_refused():
    assert visible_box(slice(8, 88 - 32)) == (14.0, 2.0, 8.0, 12.0)
    assert visible_box(slice(8, 88 - 31)) is None  # 7.75 pixels wide, though 31/80 are visible
    assert visible_box(slice(36, 120)) is None  # 28/80 = 0.35, but 7 pixels wide


def test_a_mostly_hidden_object_is_refused():
    tall = np.zeros((128, 128), np.uint8)
    tall[8:108, 8:108] = 1
    for rows, accepted in ((35, True), (34, False)):
        owner = np.full(tall.shape, -1, np.int16)
        owner[8 : 8 + rows, 8:108] = 0
        annotations = shapes_render._annotate([shapes_render._Placed("square", [], tall, 100 * 100)], owner)
        assert (annotations is not None) == accepted


def test_enough_of_every_object_is_visible(normal, hard):
    for _, annotations in normal + hard:
        for a in annotations:
            x, y, w, h = a.bbox
            assert min(x, y) >= 0
            assert max(x + w, y + h) <= 96
            assert min(w, h) >= MIN_SIDE
            assert MIN_VISIBLE <= a.visible <= 1


# --- statistics ---------------------------------------------------------------------------------------------


def test_statistics_of_normal_images(normal):
    counts = np.bincount([len(annotations) for _, annotations in normal], minlength=6)
    assert counts[:2].sum() == 0
    assert len(counts) == 6
    assert counts[2:].min() > 20
    objects = [a for _, annotations in normal for a in annotations]
    longest = np.array([max(a.bbox[2:]) for a in objects])
    visible = np.array([a.visible for a in objects])
    slack = 2 / SUPERSAMPLE  # a fine pixel on each side
    assert longest.max() <= 52 + slack
    assert longest[visible == 1].min() >= 16 - slack
    assert longest.max() > 48
    assert longest.min() < 20
    shares = np.array([sum(a.category == name for a in objects) for name in CATEGORIES]) / len(objects)
    assert shares.min() > 0.12
    assert shares.max() < 0.22
    assert 0.2 < (visible < 0.95).mean() < 0.6  # occluded or cut by the border


def test_hard_images_are_harder(normal, hard):
    assert {len(annotations) for _, annotations in hard} == {3, 4, 5, 6, 7}
    longest = [max(a.bbox[2:]) for _, annotations in hard for a in annotations]
    assert max(longest) > 53

    def occlusion(images):
        return np.mean([a.visible for _, annotations in images for a in annotations])

    assert occlusion(hard) < occlusion(normal)


def test_colour_alone_tells_the_class(normal):
    # Nearest hue of the palette to the median colour of the visible mask: classification must be easy.
    hues = np.array([hue for hue, _, _ in shapes_render.PALETTE.values()])
    hits = []
    for image, annotations in normal[:100]:
        hue = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[..., 0]
        for a in annotations:
            cover = cv2.resize(a.mask.astype(np.float32), (96, 96), interpolation=cv2.INTER_AREA)
            angles = np.deg2rad(hue[cover > 0.99])
            mean = np.rad2deg(np.arctan2(np.median(np.sin(angles)), np.median(np.cos(angles))))
            distance = np.abs((hues - mean + 180) % 360 - 180)
            hits.append(CATEGORIES[distance.argmin()] == a.category)
    assert np.mean(hits) > 0.95


# --- splits and files -----------------------------------------------------------------------------------------


def test_the_result_does_not_depend_on_the_workers(dataset, tmp_path):
    write_dataset(parse_spec(BLOCK), tmp_path, workers=2)
    assert file_hashes(tmp_path) == file_hashes(dataset)
    assert len(file_hashes(tmp_path)) == 40 + 6 + 3


def test_an_image_does_not_depend_on_the_others(dataset, tmp_path):
    write_split(tmp_path, "train", images=3)
    few, many = (json.loads((folder / "train.json").read_text()) for folder in (tmp_path, dataset))
    assert few["annotations"] == many["annotations"][: len(few["annotations"])]
    for number in (1, 2, 3):
        name = f"train/{number:06d}.png"
        assert (tmp_path / name).read_bytes() == (dataset / name).read_bytes()


def test_files_hold_what_was_drawn(dataset):
    image, annotations = render_scene(scene_rng(0, "train", 11))
    data = json.loads((dataset / "train.json").read_text())
    assert np.array_equal(cv2.imread(str(dataset / "train/000012.png"))[..., ::-1], image)
    assert data["images"][11] == {"id": 12, "file_name": "000012.png", "width": 96, "height": 96}
    rows = [a for a in data["annotations"] if a["image_id"] == 12]
    assert [CATEGORIES[a["category_id"] - 1] for a in rows] == [a.category for a in annotations]
    assert [a["bbox"] for a in rows] == [list(a.bbox) for a in annotations]
    assert [a["area"] for a in rows] == [a.area for a in annotations]
    assert all(a["iscrowd"] == 0 for a in rows)


def test_splits_and_seeds_share_no_image(dataset):
    pictures = [p.read_bytes() for p in dataset.glob("*/*.png")]
    assert len(set(pictures)) == len(pictures) == 46
    ids = [i["id"] for name in ("train", "val") for i in json.loads((dataset / f"{name}.json").read_text())["images"]]
    assert len(set(ids)) == 46
    states = [scene_rng(seed, split, 0).integers(2**62) for seed in (0, 1) for split in ("train", "val")]
    assert len(set(states)) == 4


def test_manifest(dataset):
    manifest = json.loads((dataset / "dataset.json").read_text())
    assert list(manifest) == ["generator", "version", "fingerprint", "spec", "splits", "categories"]
    assert manifest["fingerprint"] == parse_spec(BLOCK).fingerprint
    assert manifest["categories"] == list(CATEGORIES)
    for name, entry in manifest["splits"].items():
        text = (dataset / f"{name}.json").read_bytes()
        assert entry["sha256"] == hashlib.sha256(text).hexdigest()
        assert entry["images"] == len(json.loads(text)["images"]) == len(list((dataset / name).iterdir()))
        assert entry["annotations"] == len(json.loads(text)["annotations"])


def test_every_part_of_the_spec_changes_the_fingerprint(monkeypatch):
    spec = parse_spec(BLOCK)
    others = [
        replace(spec, seed=1),
        replace(spec, image_size=64),
        replace(spec, objects=(2, 4)),
        replace(spec, sizes=(16.0, 40.0)),
        replace(spec, splits={**spec.splits, "val": SplitSpec(7, "hard")}),
        replace(spec, splits={**spec.splits, "val": SplitSpec(6, "normal")}),
        replace(spec, splits=dict(reversed(spec.splits.items()))),  # ids go by the order
    ]
    fingerprints = {s.fingerprint for s in [spec, *others]}
    assert len(fingerprints) == 8
    assert parse_spec(json.loads(json.dumps(BLOCK))).fingerprint == spec.fingerprint
    monkeypatch.setattr("experiments.data.shapes.spec.VERSION", VERSION + 1)
    assert spec.fingerprint not in fingerprints


# --- reruns ---------------------------------------------------------------------------------------------------


def mtimes(folder):
    return {p.name: p.stat().st_mtime_ns for p in folder.rglob("*.json")}


def test_a_complete_set_is_left_alone(dataset, capsys):
    before = mtimes(dataset)
    assert not write_dataset(parse_spec(BLOCK), dataset, verbose=True)
    assert mtimes(dataset) == before
    assert "nothing to do" in capsys.readouterr().err


def test_only_what_is_missing_or_changed_is_made_again(tmp_path, capsys):
    spec = parse_spec({"generator": "shapes", "splits": {"a": {"images": 3}, "b": {"images": 4}}})
    write_dataset(spec, tmp_path, workers=1)
    for path in tmp_path.rglob("*.json"):
        os.utime(path, (0, 0))  # what is written from here on is newer, however coarse the file system's clock
    before, hashes = mtimes(tmp_path), file_hashes(tmp_path)

    (tmp_path / "b/000002.png").unlink()
    (tmp_path / ".b.part").mkdir()
    (tmp_path / ".b.part/000001.png").write_bytes(b"left by a killed run")
    assert write_dataset(spec, tmp_path, workers=1, verbose=True)
    assert "a: 3 images kept" in capsys.readouterr().err
    assert file_hashes(tmp_path) == hashes
    assert not (tmp_path / ".b.part").exists()
    assert mtimes(tmp_path)["a.json"] == before["a.json"]
    assert mtimes(tmp_path)["b.json"] > before["b.json"]

    (tmp_path / "dataset.json").write_text("{")  # damaged
    assert write_dataset(spec, tmp_path, workers=1)
    assert file_hashes(tmp_path) == hashes
    (tmp_path / "a.json").write_text("[]")
    assert write_dataset(spec, tmp_path, workers=1)
    assert file_hashes(tmp_path) == hashes

    fewer = replace(spec, splits={"a": SplitSpec(3), "b": SplitSpec(2)})
    os.utime(tmp_path / "a.json", (0, 0))
    kept = mtimes(tmp_path)["a.json"]
    assert write_dataset(fewer, tmp_path, workers=1)
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["000001.png", "000002.png"]
    assert mtimes(tmp_path)["a.json"] == kept


def test_an_interrupted_split_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    spec = parse_spec({"generator": "shapes", "splits": {"a": {"images": 2}, "b": {"images": 40}}})
    original = shapes._write_images

    def fail_late(indices, **kwargs):
        if indices.start >= shapes.CHUNK:
            raise KeyboardInterrupt
        return original(indices, **kwargs)

    monkeypatch.setattr(shapes, "_write_images", fail_late)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(spec, tmp_path, workers=1)
    assert {p.name for p in tmp_path.iterdir()} == {".lock", "a", "a.json", ".b.part"}
    monkeypatch.undo()
    assert write_dataset(spec, tmp_path, workers=1)
    assert len(list((tmp_path / "b").iterdir())) == 40


def suite_file(folder, **dataset):
    suite = yaml.safe_load((ROOT / "experiments/shapes.yaml").read_text())
    suite["dataset"].update(dataset)
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite, sort_keys=False))
    return path


def splits(**images):
    return {name: {"images": images.get(name, 2)} for name in ("pretrain", "train", "tune", "val")}


def test_a_killed_run_resumes_and_leaves_no_process(tmp_path):
    spec, out = suite_file(tmp_path, splits=splits(train=50_000)), tmp_path / "data"
    command = [
        sys.executable,
        "-m",
        "experiments.data.shapes.dataset",
        "--spec",
        str(spec),
        "--out",
        str(out),
        "--workers",
        "2",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while len(list(out.glob(".train.part/*.png"))) < 10:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert workers
    wait_until_ended(workers)
    assert (out / "pretrain.json").exists()
    assert not (out / "train.json").exists()
    assert not (out / "dataset.json").exists()

    before = mtimes(out)["pretrain.json"]
    suite_file(tmp_path, splits=splits(train=34))
    assert main(command[3:]) == 0
    assert mtimes(out)["pretrain.json"] == before
    assert len(list((out / "train").iterdir())) == 34
    assert not list(out.glob("*.part"))


# --- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": "coco"}, r"dataset\.generator: .*'shapes', got 'coco'"),
        ({"image_size": "big"}, r"dataset\.image_size: expected an integer .* got 'big'; for example image_size: 96"),
        ({"image_size": True}, r"dataset\.image_size"),
        ({"seed": -1}, r"dataset\.seed: expected an integer of 0 or more, got -1"),
        ({"objects": [5, 2]}, r"dataset\.objects: expected two integers, the smaller first, .* got \[5, 2\]"),
        ({"objects": [2.5, 4]}, r"dataset\.objects: expected two integers"),
        ({"objects": 3}, r"dataset\.objects: .* for example objects: \[2, 5\]"),
        ({"sizes": [16, 200]}, r"dataset\.sizes: expected two numbers, the smaller first, from 12 to 96, got"),
        ({"sizes": [2, 50]}, r"dataset\.sizes"),
        ({"size": [16, 50]}, r"dataset: unknown key 'size'; did you mean 'sizes'\?"),
        ({"colour": 1}, r"dataset: unknown key 'colour'; .*image_size"),
        ({"splits": {}}, r"dataset\.splits: expected split names"),
        ({"splits": {"val": 500}}, r"dataset\.splits\.val: .*for example val: \{images: 500\}"),
        ({"splits": {"val": {}}}, r"dataset\.splits\.val\.images: expected an integer .* got None"),
        ({"splits": {"val": {"images": 0}}}, r"dataset\.splits\.val\.images"),
        ({"splits": {"val": {"image": 5}}}, r"dataset\.splits\.val: unknown key 'image'; did you mean 'images'\?"),
        (
            {"splits": {"val": {"images": 5, "difficulty": "easy"}}},
            r"difficulty: expected one of normal, hard, got 'easy'",
        ),
        ({"splits": {"../x": {"images": 5}}}, r"letters, digits"),
        ({"splits": {"dataset": {"images": 5}}}, r"not 'dataset'"),
    ],
)
def test_a_bad_spec_is_named_with_a_remedy(change, message):
    with pytest.raises(SuiteError, match=message):
        parse_spec({**BLOCK, **change})


def test_a_spec_that_is_no_block():
    with pytest.raises(SuiteError, match=r"dataset: expected a block of keys, got \[1\]"):
        parse_spec([1])


def test_other_peoples_files_are_not_deleted(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val/holiday.jpg").write_bytes(b"mine")
    with pytest.raises(SuiteError, match=r"holds 'holiday\.jpg'.*choose another --out"):
        write_split(tmp_path, "val", images=2)
    assert (tmp_path / "val/holiday.jpg").read_bytes() == b"mine"


def test_too_many_objects_for_the_image(monkeypatch):
    monkeypatch.setattr(shapes_render, "SCENE_TRIES", 3)
    with pytest.raises(RuntimeError, match=r"no room for 12 objects of 30 to 32 pixels on 32 x 32.*fewer or smaller"):
        render_scene(scene_rng(0, "full", 0), image_size=32, objects=(12, 12), sizes=(30, 32))


def test_command_line_errors(tmp_path, capsys):
    good = str(suite_file(tmp_path, splits=splits()))
    for arguments, message in [
        (["--spec", good], "give --out"),
        (["--spec", good, "--out", "x", "--workers", "0"], "--workers: expected 1 or more, got 0"),
        (["--spec", good, "--sheet", "x.png", "--sheet-split", "test"], "no split 'test'; it has pretrain, train"),
    ]:
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert message in capsys.readouterr().err
    assert main(["--spec", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "x")]) == 2
    assert "none.yaml" in capsys.readouterr().err
    assert main(["--spec", str(suite_file(tmp_path, sizes=[50, 20])), "--out", str(tmp_path / "x")]) == 2
    assert "error: dataset.sizes: expected two numbers, the smaller first" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


# --- the sheet, and other readers -----------------------------------------------------------------------------


def test_sheet(tmp_path):
    sheet = contact_sheet(parse_spec(BLOCK), "val", rows=2, columns=4, zoom=2)
    assert sheet.shape == (2 * 192 + 6, 4 * 192 + 3 * 6, 3)
    assert (sheet[-192:, -192:] == 255).all()  # six images in the split: the last two cells are empty
    path = tmp_path / "deep" / "sheet.png"
    assert main(["--spec", str(suite_file(tmp_path, splits=splits(val=1))), "--sheet", str(path)]) == 0
    assert cv2.imread(str(path)).shape == (4 * 294 - 6, 6 * 294 - 6, 3)
    assert sorted(os.listdir(tmp_path)) == ["deep", "suite.yaml"]


def test_pycocotools_reads_it(dataset):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(dataset / "train.json"))
    keys = ("image_id", "category_id", "bbox")
    found = [{**{k: a[k] for k in keys}, "score": 1.0} for a in truth.dataset["annotations"]]
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    small, medium, large = evaluation.stats[3:6]
    assert (small, medium, large) == (pytest.approx(1), pytest.approx(1), -1)


def test_mmdet_reads_it(dataset):
    datasets = pytest.importorskip("mmdet.datasets", reason="mmdet is not installed")
    loaded = datasets.CocoDataset(
        str(dataset / "val.json"), [], classes=CATEGORIES, img_prefix=str(dataset / "val"), test_mode=False
    )
    assert len(loaded) == 6
    _, annotations = render_scene(scene_rng(0, "val", 0), difficulty="hard")
    info = loaded.get_ann_info(0)
    x, y, w, h = np.array([a.bbox for a in annotations]).T
    np.testing.assert_array_equal(info["bboxes"], np.stack([x, y, x + w, y + h], 1))
    assert [CATEGORIES[label] for label in info["labels"]] == [a.category for a in annotations]
    assert len(info["bboxes_ignore"]) == 0


def test_split_fingerprint_is_what_decides(dataset):
    settings = {"image_size": 96, "objects": (2, 5), "sizes": (16.0, 52.0), "seed": 0, "first_id": 1}
    right = split_fingerprint("train", images=40, difficulty="normal", **settings)
    assert split_is_complete(dataset, "train", right)
    assert not split_is_complete(
        dataset, "train", split_fingerprint("train", images=41, difficulty="normal", **settings)
    )
    assert not split_is_complete(dataset, "test", right)

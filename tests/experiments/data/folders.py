"""Small data sets in folders, with all that is awkward in real ones."""

import json
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image, ImageDraw

from suite.blocks import FolderData
from suite.suite import check_suite

CLASSES = {7: "circle", 3: "square", 90: "Dreieck é"}  # ids are neither contiguous nor sorted by name
MODES = ("RGB", "L", "RGBA", "P")
COLOURS = {7: 60, 3: 130, 90: 220}


def _image(rng, number):
    """An image, its size and its objects as (category, [x, y, w, h]); every fifth has no object."""
    width, height = int(rng.integers(80, 140)), int(rng.integers(70, 120))
    picture = Image.fromarray(rng.integers(0, 40, (height, width, 3), dtype=np.uint8))
    draw, objects = ImageDraw.Draw(picture), []
    for category in [] if number % 5 == 4 else rng.choice(list(CLASSES), int(rng.integers(1, 4))):
        w, h = rng.integers(20, 45, 2)
        x, y = rng.integers(0, width - w), rng.integers(0, height - h)
        draw.rectangle([int(v) for v in (x, y, x + w, y + h)], fill=(COLOURS[int(category)],) * 3)
        objects.append((int(category), [int(v) for v in (x, y, w, h)]))
    return picture, objects


def write_coco(root: Path, images=24, seed=0, split="train", masks=False) -> None:
    """`<split>.json` and `images/<split>/`: unicode names in a subfolder, all modes, sizes, and bad boxes."""
    rng = np.random.default_rng(seed)
    folder = root / "images" / split
    (folder / "süß 写真").mkdir(parents=True)
    entries, annotations = [], []
    for number in range(images):
        picture, objects = _image(rng, number)
        name = f"süß 写真/bild {number} ☃.png" if number % 2 else f"{number:03d}.png"
        picture.convert(MODES[number % len(MODES)]).save(folder / name)
        image_id = 1000 - 7 * number
        entries.append({"id": image_id, "file_name": name, "width": picture.width, "height": picture.height})
        boxes = [(category, box, 0) for category, box in objects]
        if number == 0:
            w, h = picture.size
            boxes += [
                (3, [5, 5, 0, 10], 0),
                (3, [5, 5, 10, -1], 0),
                (7, [w + 3, 5, 10, 10], 0),
                (7, [-30, 5, 20, 9], 0),
            ]
            boxes += [(90, [w - 30, h - 30, 50.5, 50.5], 0), (7, [0, 0, w, h], 1)]  # across the border; a crowd
        for category, box, crowd in boxes:
            entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category, "bbox": box}
            x, y, w, h = box
            entry |= {"iscrowd": crowd, "area": w * h} if number % 3 else ({"iscrowd": 1} if crowd else {})
            if masks:
                entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(entry)
    categories = [{"id": key, "name": name, "supercategory": "shape"} for key, name in CLASSES.items()]
    data = {"images": entries, "annotations": annotations, "categories": categories}
    (root / f"{split}.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def coco_block(root: Path, **changes):
    """The `dataset` block for what `write_coco` wrote as train and val."""
    splits = {
        "train": {"annotations": "train.json", "images": "images/train"},
        "tune": {"from": "train", "take": 0.25, "held_out": "sweep"},
        "val": {"annotations": "val.json", "images": "images/val"},
    }
    return {"format": "coco", "root": str(root), "masks": False, "splits": splits, **changes}


def write_voc(root: Path, images=24, seed=0) -> None:
    """Pascal VOC's folders, with lists `train` and `val` (a third); a difficult object, a file without a size."""
    rng = np.random.default_rng(seed)
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    stems = []
    for number in range(images):
        picture, objects = _image(rng, number)
        stem = f"été {number}" if number % 2 else f"{number:06d}"
        mode = "L" if number % 4 == 1 else "RGB"
        picture.convert(mode).save(root / "JPEGImages" / f"{stem}{'.JPG' if number % 3 else '.png'}", format="PNG")
        body = "".join(
            f"<object><name>{escape(CLASSES[c])}</name><difficult>{int(number == 1)}</difficult><bndbox><xmin>{x + 1}"
            f"</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}.0</ymax></bndbox></object>"
            for c, (x, y, w, h) in objects
        )
        size = f"<size><width>{picture.width}</width><height>{picture.height}</height><depth>3</depth></size>"
        text = f"<annotation><filename>wrong.jpg</filename>{size if number else ''}{body}</annotation>"
        (root / "Annotations" / f"{stem}.xml").write_text(text, encoding="utf-8")
        stems.append(stem)
    for split, own in {"train": stems[images // 3 :], "val": stems[: images // 3]}.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(own) + "\n\n", encoding="utf-8")


def voc_block(root: Path, **changes):
    """The `dataset` block for what `write_voc` wrote."""
    splits = {
        "train": {"list": "ImageSets/Main/train.txt"},
        "tune": {"from": "train", "take": 4, "held_out": "always"},
        "val": {"list": "ImageSets/Main/val.txt"},
    }
    return {"format": "voc", "root": str(root), "masks": False, "splits": splits, **changes}


def suite(dataset, **changes):
    """The plain data of a suite of one variant with this `dataset` block."""
    variant = {"family": "baseline", "config": "experiments/configs/shapes/faster_rcnn.py"}
    own = {"suite": "mine", "title": "Mine", "dataset": dataset, "seeds": [0], "variants": {"faster_rcnn": variant}}
    return {**own, **changes}


def folder_data(block) -> FolderData:
    """The `dataset` block, checked."""
    return check_suite(suite(block)).dataset


def read(path):
    """A JSON file's contents."""
    return json.loads(path.read_text())


def change(path, **changes) -> None:
    """Gives keys of a JSON file other values."""
    path.write_text(json.dumps({**read(path), **changes}))


def edit(path, kind, number=0, **changes) -> None:
    """Gives keys of an entry of a COCO file other values; None takes a key away."""
    data = read(path)
    data[kind][number].update(changes)
    for key in [key for key, value in data[kind][number].items() if value is None]:
        del data[kind][number][key]
    change(path, **data)

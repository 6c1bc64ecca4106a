"""Suites that cannot be meant: each is refused with the key or the value in the message; and suites that are fine.

What only a config or the machine can tell is in `tests/experiments/test_bad_configs.py`.
"""

import copy
import math
from pathlib import Path

import pytest
import yaml

from suite.errors import SuiteError
from suite.suite import check_suite, load_suite

TINY = yaml.safe_load(Path("tests/workflow/tiny.yaml").read_text(encoding="utf-8"))
CONFIG = "tests/workflow/configs/tiny_iounet.py"


class _Absent:
    """Takes a key away; by its repr tests are named, which every worker must name alike."""

    def __repr__(self):
        return "absent"


ABSENT = _Absent()
SWEEP = {"base": "samp1000_lw5.0", "space": {"loss_weight": [1, 20]}}
FOLDER = {
    "format": "coco",
    "root": "data/mine",
    "splits": {
        "train": {"annotations": "train.json", "images": "train"},
        "tune": {"from": "train", "take": 0.1},
        "val": {"annotations": "val.json", "images": "val"},
    },
}
VOC = {
    **FOLDER,
    "format": "voc",
    "splits": {"train": {}, "tune": {"from": "train", "take": 9}, "val": {"list": "v.txt"}},
}


def changed(changes, base=TINY):
    """A copy of a suite's data with values at other places, each a path with slashes."""
    data = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, key = path.split("/")
        node = data
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is ABSENT:
            del node[key]
        else:
            node[key] = copy.deepcopy(value)
    return data


def folder(path, value, base=FOLDER):
    """The change that makes the images those of a folder, with one key of it changed."""
    return {"dataset": changed({path: value}, base)}


def sweep(path, value):
    """The change that adds a sweep, with one key of it changed."""
    return {"sweep": changed({path: value}, SWEEP)}


# what is changed in the tiny suite -> what the message must name
BAD = [
    ({"suite": ABSENT}, "'suite' is a required property"),
    ({"suite": ""}, "suite: ''"),
    ({"suite": "Tiny"}, "suite: 'Tiny'"),
    ({"suite": "a b"}, "suite: 'a b'"),
    ({"suite": "../other"}, "suite: '../other'"),
    ({"suite": 7}, "suite: 7"),
    ({"suite": None}, "suite: None"),
    ({"suite": "a" * 300}, "suite: 'aaa"),
    ({"title": ABSENT}, "'title' is a required property"),
    ({"title": ""}, "title: ''"),
    ({"title": 5}, "title: 5"),
    ({"title": None}, "title: None"),
    ({"title": ["a"]}, "title: ['a']"),
    ({"description": 5}, "description: 5"),
    ({"results": 5}, "results: 5"),
    ({"results": ""}, "results: ''"),
    ({"results": "a{b}"}, "results: 'a{b}'"),
    ({"results": "a\nb"}, "results: 'a"),
    ({"results": "a\0b"}, "results: 'a"),
    ({"results": "~/results"}, "results: '~/results'"),
    ({"results": "-r"}, "results: '-r'"),
    ({"sedes": [0]}, "did you mean 'seeds'?"),
    ({"seeds": ABSENT}, "'seeds' is a required property"),
    ({"seeds": []}, "seeds: []"),
    ({"seeds": ["a"]}, "seeds.0: 'a'"),
    ({"seeds": [1.5]}, "seeds.0: 1.5"),
    ({"seeds": [1.0]}, "seeds.0: 1.0"),
    ({"seeds": [True]}, "seeds.0: True"),
    ({"seeds": [-1]}, "seeds.0: -1"),
    ({"seeds": [2**32]}, "seeds.0: 4294967296"),
    ({"seeds": [0, 0]}, "seeds: [0, 0]"),
    ({"seeds": 3}, "seeds: 3"),
    ({"dataset": ABSENT}, "'dataset' is a required property"),
    ({"dataset": None}, "dataset: None"),
    ({"dataset": []}, "dataset: []"),
    ({"dataset": {}}, "dataset: 'format' is a required property"),
    ({"dataset/format": "coco"}, "'format' was unexpected"),
    ({"dataset/generator": "shape"}, "dataset.generator: 'shape'"),
    ({"dataset/image_sise": 96}, "did you mean 'image_size'?"),
    ({"dataset/image_size": 31}, "dataset.image_size: 31"),
    ({"dataset/image_size": 2000}, "dataset.image_size: 2000"),
    ({"dataset/image_size": "96"}, "dataset.image_size: '96'"),
    ({"dataset/seed": -1}, "dataset.seed: -1"),
    ({"dataset/objects": [3]}, "dataset.objects: [3]"),
    ({"dataset/objects": [4, 2]}, "dataset.objects"),
    ({"dataset/objects": [0, 2]}, "dataset.objects.0: 0"),
    ({"dataset/objects": "2-4"}, "dataset.objects: '2-4'"),
    ({"dataset/sizes": [20, 16]}, "dataset.sizes"),
    ({"dataset/sizes": [16, 200]}, "dataset.sizes"),
    ({"dataset/sizes": [8, 20]}, "dataset.sizes.0: 8"),
    ({"dataset/classes": [2, 7]}, "dataset.classes.1: 7"),
    ({"dataset/classes": [4, 2]}, "dataset.classes"),
    ({"dataset/neighbours": 1.5}, "dataset.neighbours: 1.5"),
    ({"dataset/splits": {}}, "dataset.splits: {}"),
    ({"dataset/splits/train": 5}, "dataset.splits.train: 5"),
    ({"dataset/splits/train": {}}, "dataset.splits.train: 'images'"),
    ({"dataset/splits/train/images": 0}, "dataset.splits.train.images: 0"),
    ({"dataset/splits/train/images": 1.5}, "dataset.splits.train.images: 1.5"),
    ({"dataset/splits/train/images": 10**7}, "dataset.splits.train.images: 10000000"),
    ({"dataset/splits/train/difficulty": "easy"}, "dataset.splits.train.difficulty: 'easy'"),
    ({"dataset/splits/a b": {"images": 1}}, "'a b'"),
    ({"dataset/splits/dataset": {"images": 1}}, "dataset.splits: 'dataset'"),
    ({"dataset/splits/-x": {"images": 1}}, "'-x'"),
    ({"dataset/splits/val": ABSENT}, "report_split is 'val'"),
    (folder("format", "yolo"), "dataset.format: 'yolo'"),
    (folder("root", ABSENT), "'root' is a required property"),
    (folder("root", ""), "dataset.root: ''"),
    (folder("annotation", "a.json"), "'annotation' was unexpected"),
    (folder("splits/train", ABSENT), "dataset.splits needs a split `train`"),
    (folder("splits/train", {"from": "val", "take": 5}), "dataset.splits needs a split `train`"),
    (folder("splits/tune/from", "trian"), "dataset.splits.tune.from is 'trian'"),
    (folder("splits/tune/from", "tune"), "dataset.splits.tune.from is 'tune'"),
    (folder("splits/tune/take", ABSENT), "'take' is a required property"),
    (folder("splits/tune/take", 0), "dataset.splits.tune.take: 0"),
    (folder("splits/tune/take", 1.5), "dataset.splits.tune.take is 1.5"),
    (folder("splits/tune/take", "10%"), "dataset.splits.tune.take: '10%'"),
    (folder("splits/tune/held_out", "never"), "dataset.splits.tune.held_out: 'never'"),
    (folder("splits/val", {"from": "train", "take": 9, "held_out": "sweep"}), "dataset.splits.val.held_out"),
    (
        folder("splits/trainwithouttune", {"annotations": "a"}) | {"dataset/splits/tune/held_out": "sweep"},
        "trainwithouttune",
    ),
    (folder("splits/val/count", 0), "dataset.splits.val.count: 0"),
    (folder("splits/val/imges", "val"), "did you mean 'images'?"),
    (folder("splits/Val", {"images": "a"}), "'Val'"),
    (folder("num_categories", 0), "dataset.num_categories: 0"),
    (folder("masks", "yes"), "dataset.masks: 'yes'"),
    (folder("on_damaged", "ignore"), "dataset.on_damaged: 'ignore'"),
    ({"training": {"epoch": 3}}, "did you mean 'epochs'?"),
    ({"training": {"epochs": 0}}, "training.epochs: 0"),
    ({"training": {"epochs": "12"}}, "training.epochs: '12'"),
    ({"training": {"epochs": 2.0}}, "training.epochs: 2.0"),
    ({"training": {"image_size": [1333]}}, "training.image_size: [1333]"),
    ({"training": {"image_size": "1333x800"}}, "training.image_size: '1333x800'"),
    ({"training": {"images_per_gpu": 0}}, "training.images_per_gpu: 0"),
    ({"training": {"split": "trian"}}, "training.split is 'trian'"),
    ({"training": {"split": "val"}}, "training.split and report_split are both 'val'"),
    ({"pretraining": {}}, "pretraining: 'config'"),
    ({"pretraining": "a.py"}, "pretraining: 'a.py'"),
    ({"pretraining/config": "nowhere.py"}, "config of 'pretraining' does not exist: nowhere.py"),
    ({"pretraining/seed": -1}, "pretraining.seed: -1"),
    ({"pretraining/family": "baseline"}, "'family' was unexpected"),
    ({"variants": ABSENT}, "'variants' is a required property"),
    ({"variants": {}}, "variants: {}"),
    ({"variants": ["faster_rcnn"]}, "variants: ['faster_rcnn']"),
    ({"variants/x": None}, "variants.x: None"),
    ({"variants/x": "a.py"}, "variants.x: 'a.py'"),
    ({"variants/x": {"family": "iounet"}}, "variants.x: 'config'"),
    ({"variants/x": {"config": CONFIG}}, "variants.x: 'family'"),
    ({"variants/x": {"config": CONFIG, "family": "iou"}}, "variants.x.family: 'iou'"),
    ({"variants/x": {"config": "nowhere.py", "family": "iounet"}}, "config of 'x' does not exist: nowhere.py"),
    ({"variants/x": {"config": "tests", "family": "iounet"}}, "config of 'x' does not exist: tests"),
    ({"variants/x": {"config": "", "family": "iounet"}}, "config of 'x' does not exist: "),
    ({"variants/x": {"config": "a" * 5000, "family": "iounet"}}, "config of 'x' does not exist: aaa"),
    ({"variants/x": {"config": "a\0.py", "family": "iounet"}}, "config of 'x' does not exist: a"),
    ({"variants/..": {"config": CONFIG, "family": "iounet"}}, "'..'"),
    ({"variants/-h": {"config": CONFIG, "family": "iounet"}}, "'-h'"),
    ({"variants/a\n": {"config": CONFIG, "family": "iounet"}}, "'a\\n'"),
    ({"variants/": {"config": CONFIG, "family": "iounet"}}, "variants: ''"),
    ({"variants/$(x)": {"config": CONFIG, "family": "iounet"}}, "'$(x)'"),
    ({"variants/größe": {"config": CONFIG, "family": "iounet"}}, "'größe'"),
    ({f"variants/{'a' * 300}": {"config": CONFIG, "family": "iounet"}}, "aaa"),
    ({"variants/pretraining": {"config": CONFIG, "family": "iounet"}}, "variants: 'pretraining'"),
    (
        {"detectors": {"x": {"config": CONFIG, "label": "Faster R-CNN"}}},
        "detectors.x.label: 'Faster R-CNN' is what the",
    ),
    (
        {"detectors": {k: {"config": CONFIG, "label": "A"} for k in "xy"}},
        "detectors.y.label: 'A' is what 'x' is called",
    ),
    ({"untrained": {"x": {"config": "nowhere.py", "label": "X", "reason": "r"}}}, "config of 'x' does not exist"),
    ({"untrained": {"x": {"config": CONFIG, "reason": "r"}}}, "untrained.x: 'label'"),
    ({"untrained": {"x": {"config": CONFIG, "label": 5, "reason": "r"}}}, "untrained.x.label: 5"),
    ({"untrained": {"a/b": {"config": CONFIG, "label": "X", "reason": "r"}}}, "'a/b'"),
    ({"scale/loss_weight": 0}, "scale.loss_weight: 0"),
    ({"scale/step_size": -1}, "scale.step_size: -1"),
    ({"scale/step_size": "0.5"}, "scale.step_size: '0.5'"),
    ({"scale/step_size": math.nan}, "scale.step_size: nan is no finite number"),
    ({"scale/step_size": 1e300}, "scale.step_size: 1e+300"),
    ({"scale/roi": 0.1}, "did you mean 'rois'?"),
    ({"validation/split": "val"}, "validation.split and report_split are both 'val'"),
    ({"validation/split": "tnue"}, "validation.split is 'tnue'"),
    ({"validation/images": 0}, "validation.images: 0"),
    ({"resources": {"gpu": 1}}, "did you mean 'gpus'?"),
    ({"resources": {"gpus": -1}}, "resources.gpus: -1"),
    ({"resources": {"gpus": "1"}}, "resources.gpus: '1'"),
    ({"resources": {"mem_mb": 0}}, "resources.mem_mb: 0"),
    ({"resources": {"runtime": "1h"}}, "resources.runtime: '1h'"),
    ({"report_split": "tset"}, "report_split is 'tset'"),
    ({"report_split": 5}, "report_split: 5"),
    ({"inference": {"step_sizes": {}}}, "inference.step_sizes: {}"),
    ({"inference": {"step_sizes": {"rnak": [1]}}}, "inference.step_sizes: 'rnak'"),
    ({"inference": {"step_sizes": {"rank": 0.5}}}, "inference.step_sizes.rank: 0.5"),
    ({"inference": {"step_sizes": {"rank": [-1]}}}, "inference.step_sizes.rank.0: -1"),
    ({"inference": {"step_sizes": {"rank": ["a"]}}}, "inference.step_sizes.rank.0: 'a'"),
    ({"inference": {"step_sizes": {"rank": [1, 1]}}}, "inference.step_sizes.rank: [1, 1]"),
    ({"inference": {"step_sizes": {"rank": [0.5, 0.50000001]}}}, "inference.step_sizes.rank has two values"),
    ({"inference": {"step_sizes": {"rank": [math.inf]}}}, "inference.step_sizes.rank.0: inf"),
    ({"inference": {"step_sizes": {"rank": [1e308]}}}, "inference.step_sizes.rank.0: 1e+308"),
    ({"inference": {"step_sizes": {"rank": [1]}, "guides": {"rank": [1]}}}, "its old name `guides`"),
    ({"inference": {"guides": {"rank": ["a"]}}}, "inference.step_sizes.rank.0: 'a'"),
    ({"inference/parts": {"none": 0.5}}, "inference.parts.none is 0.5"),
    ({"inference/parts": {"rank": 0}}, "inference.parts.rank: 0"),
    ({"inference/num_steps": -1}, "inference.num_steps: -1"),
    ({"inference/batch_size": 0}, "inference.batch_size: 0"),
    ({"speed/device": "gpu"}, "speed.device: 'gpu'"),
    ({"speed/rounds": 1}, "speed.rounds: 1"),
    ({"speed/fc_dtype": "fp8"}, "speed.fc_dtype: 'fp8'"),
    ({"speed/batch": 4}, "'batch' was unexpected"),
    ({"sweep": None}, "sweep: None"),
    (sweep("base", ABSENT), "sweep: 'base'"),
    (sweep("space", {}), "sweep.space: {}"),
    (sweep("space/loss_wieght", [1, 2]), "sweep.space.loss_wieght: no such parameter"),
    (sweep("space/loss_weight", [20, 1]), "sweep.space.loss_weight is [20, 1]"),
    (sweep("space/loss_weight", [1, 1]), "sweep.space.loss_weight is [1, 1]"),
    (sweep("space/loss_weight", [1]), "sweep.space.loss_weight: [1]"),
    (sweep("space/loss_weight", [0, 1]), "sweep.space.loss_weight.0: 0"),
    (sweep("space/loss_weight", [1, 1e300]), "sweep.space.loss_weight.1: 1e+300"),
    (sweep("space/per_iou", [1.5, 2]), "sweep.space.per_iou is [1.5, 2]"),
    (sweep("guides", ["rnak"]), "sweep.guides.0: 'rnak'"),
    (sweep("guides", []), "sweep.guides: []"),
    (sweep("step_sizes", [0.25, 0.2500000001]), "sweep.step_sizes has two values"),
    (sweep("trials", 0), "sweep.trials: 0"),
    (sweep("trial", 9), "did you mean 'trials'?"),
    (sweep("workers", 1.5), "sweep.workers: 1.5"),
    (sweep("epochs", "2"), "sweep.epochs: '2'"),
    (sweep("name", "a/b"), "sweep.name: 'a/b'"),
    (sweep("sampler", {"candidate": 3}), "did you mean 'candidates'?"),
    (sweep("pruner", {"warmup_epochs": -1}), "sweep.pruner.warmup_epochs: -1"),
    (sweep("heartbeat", 0), "sweep.heartbeat: 0"),
]
# the text of a file -> what the message must name
BAD_TEXTS = [
    ("", "None is not of type 'object'"),
    ("- a\n- b\n", "['a', 'b'] is not of type 'object'"),
    ("just words", "'just words' is not of type 'object'"),
    ("suite: [", "is not valid YAML"),
    ("suite: a\n\tb: c\n", "is not valid YAML"),
    ("suite: a\n---\nsuite: b\n", "is not valid YAML"),
    ("suite: *nowhere\n", "is not valid YAML"),
    ("suite: \x07\n", "is not valid YAML"),
    ("? [a]\n: 1\n", "is not valid YAML"),
    ("suite: a\n<<: 5\n", "is not valid YAML"),
    ("title: !!python/name:os.system\n", "is not valid YAML"),
    ("suite: a\ntitle: b\nsuite: c\n", "key 'suite' is there twice, in lines 1 and 3"),
    ("sweep:\n  trials: 1\n  trials: 2\n", "key 'trials' is there twice"),
    ("title: 2026-01-01\n", "title: 2026-01-01 is a date"),
    ("title: 2026-01-01 10:00:00\n", "is a date"),
    ("scale: {rois: .nan}\n", "scale.rois: nan"),
    ("variants: {1: {}}\n", "variants: key 1"),
    ("variants: {no: {}}\n", "variants: key False"),
    ("title: !!binary aGk=\n", "title: b'hi'"),
    ("variants: !!set {a, b}\n", "variants: {"),
    ("title: &a [*a]\n", "refers to itself"),
    ("training: &a {x: *a}\n", "refers to itself"),
    ("title: " + 3000 * "[" + 3000 * "]", "nested too deeply"),
    ("a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(8)
    ), "too large"),
]  # fmt: skip
GOOD = [
    {},
    {"title": "Größe, 標題, <b>$$</b> 🚲", "description": "A\n  folded\n  text."},
    {"results": "a b/$(c) 'd' ü"},
    {"results": "/tmp/results"},
    {"seeds": [3, 0, 2**32 - 1]},
    {"pretraining": ABSENT},
    {"scale": ABSENT, "inference": ABSENT, "speed": ABSENT, "validation": ABSENT},
    {"inference": {"guides": {"rank": [0.25]}}},
    {"inference": {"step_sizes": {"rank": [], "weight": [1, 2.5]}, "num_steps": 0}},
    {"inference": {"step_sizes": {"rank": [0.5, 2]}, "parts": {"rank": 2}}},
    {"variants/_my.own-variant_2": {"config": CONFIG, "family": "iounet"}},
    {"untrained": {"other": {"config": CONFIG, "label": "Other", "reason": "no time"}}},
    {"untrained": {"faster_rcnn": {"config": CONFIG, "label": "X", "reason": "moved to the variants since"}}},
    {"resources": {"gpus": 4, "cpus": 16, "mem_mb": 64000, "runtime": 1440}},
    {"training": {"epochs": 1, "image_size": [96, 96], "images_per_gpu": 1}},
    {"training": {"split": "pretrain"}},
    {"dataset": FOLDER},
    {"dataset": VOC},
    {"dataset": changed({"splits/tune/held_out": "sweep", "masks": True, "on_damaged": "skip"}, FOLDER)},
    {"dataset": changed({"splits/tune/held_out": "sweep"}, FOLDER), "training": {"split": "trainwithouttune"}},
    {"sweep": SWEEP},
    sweep("step_sizes", [0]),
]


def named(changes):
    """A short id of a case."""
    return "-".join(f"{path}={value!r}"[:40] for path, value in changes.items())


def refusal(call):
    """The message of the `SuiteError` that a call must end with."""
    with pytest.raises(SuiteError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(("changes", "fragment"), BAD, ids=[named(changes) for changes, _ in BAD])
def test_a_bad_suite_is_refused_by_key_or_value(changes, fragment):
    message = refusal(lambda: check_suite(changed(changes), source="mine.yaml"))
    assert message.startswith("mine.yaml")
    assert fragment in message


@pytest.mark.parametrize(("text", "fragment"), BAD_TEXTS, ids=[text[:30] for text, _ in BAD_TEXTS])
def test_a_bad_file_is_refused_by_name(tmp_path, text, fragment):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    message = refusal(lambda: load_suite(path))
    assert str(path) in message and fragment in message
    assert len(message) < 2000


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda path: None, "no such suite file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes("title: Größe".encode("latin-1")), "is not UTF-8"),
        (lambda path: path.write_bytes("title: a".encode("utf-16")), "is not UTF-8"),
        (lambda path: path.write_bytes(b"\0\0\0"), "is not valid YAML"),
        (lambda path: path.symlink_to(path), "symbolic links"),
    ],
)
def test_what_is_no_readable_file_is_refused_by_name(tmp_path, make, fragment):
    make(tmp_path / "mine.yaml")
    message = refusal(lambda: load_suite(tmp_path / "mine.yaml"))
    assert str(tmp_path / "mine.yaml") in message and fragment in message


@pytest.mark.parametrize("changes", GOOD, ids=[named(changes) for changes in GOOD])
def test_a_good_suite_is_accepted_and_is_itself_when_read_again(tmp_path, changes):
    suite = check_suite(changed(changes))
    (tmp_path / "again.yaml").write_text(suite.text, encoding="utf-8")
    assert load_suite(tmp_path / "again.yaml") == suite

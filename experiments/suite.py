"""Suites: reading and checking a suite's YAML, and what follows from it: configs, hashes, settings, folders."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators

from experiments.adapt import apply_training

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = Path(__file__).with_name("schema.yaml")


class SuiteError(ValueError):
    """A suite or a config that cannot be used; the message says where and what to do."""


@dataclass(frozen=True)
class Setting:
    """One way to run inference on a checkpoint.

    Attributes:
        guide: 'rank', 'weight' or 'none' (see `iounet.core.nms`); None = the IoU branch is off.
        step_size: refinement step lambda, in pixels of the network's input; None = no refinement.
        num_steps: largest number of refinement steps; 0 without refinement.
    """

    guide: str | None = None
    step_size: float | None = None
    num_steps: int = 0

    @property
    def name(self) -> str:
        """`off`, `<guide>` or `<guide>_refine<step_size>`."""
        if self.guide is None:
            return "off"
        return self.guide if self.step_size is None else f"{self.guide}_refine{self.step_size:g}"


def load_suite(path: str | Path) -> dict[str, Any]:
    """Reads a suite's YAML file, fills in the defaults and checks it. Raises `SuiteError`."""
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        known = ", ".join(sorted(p.name for p in Path(__file__).parent.glob("*.yaml") if p != SCHEMA))
        raise SuiteError(f"{path}: no such suite file; experiments/ has {known}") from None
    except yaml.YAMLError as error:
        raise SuiteError(f"{path} is not valid YAML: {error}") from None
    return check_suite(data, source=str(path))


def check_suite(data: Any, source: str = "suite") -> dict[str, Any]:
    """Fills in the schema's defaults (in a copy) and checks the suite. Raises `SuiteError`."""
    schema = yaml.safe_load(SCHEMA.read_text())
    data = json.loads(json.dumps(data))
    if isinstance(data, dict) and data.get("sweep", {}) is None:
        del data["sweep"]  # a file laid over a suite can only set a key, not take it away
    errors = sorted(_DefaultsValidator(schema).iter_errors(data), key=lambda e: list(map(str, e.absolute_path)))
    if errors:
        lines = [f"  - {'.'.join(map(str, e.absolute_path)) or 'top level'}: {e.message}" for e in errors]
        raise SuiteError(f"{source} does not fit experiments/schema.yaml:\n" + "\n".join(lines))
    _check_splits(data["dataset"], data["report_split"], source)
    for key, split in {"report_split": data["report_split"], "validation.split": data["validation"]["split"]}.items():
        if "splits" in data["dataset"] and split not in data["dataset"]["splits"]:
            raise SuiteError(f"{source}: {key} is '{split}', but dataset.splits has no such split")
    if data["validation"]["split"] == data["report_split"]:
        raise SuiteError(
            f"{source}: validation.split and report_split are both '{data['report_split']}'; "
            "numbers are reported on images that nothing was chosen on: use two splits"
        )
    named = {name: entry["config"] for name, entry in data["variants"].items()}
    if "pretraining" in data:
        named["pretraining"] = data["pretraining"]["config"]
    named |= {name: entry["config"] for name, entry in data["untrained"].items()}
    for name, config in named.items():
        if not (ROOT / config).is_file():
            raise SuiteError(f"{source}: the config of '{name}' does not exist: {config}")
    return data


def variant_entry(suite: dict[str, Any], variant: str) -> dict[str, Any]:
    """The suite's entry for a variant, or for 'pretraining'. Raises `SuiteError` for an unknown name."""
    if variant == "pretraining" and "pretraining" in suite:
        return {"family": "baseline", **suite["pretraining"]}
    try:
        return suite["variants"][variant]
    except KeyError:
        raise SuiteError(
            f"suite '{suite['suite']}' has no variant '{variant}'; it has {', '.join(suite['variants'])}"
        ) from None


def resolve_config(suite: dict[str, Any], variant: str, changes: Mapping[str, Any] | None = None) -> Any:
    """The variant's mmdet config, bases included, with the suite's `scale:` block applied.

    Args:
        suite: a checked suite.
        variant: one of its variants, or 'pretraining'.
        changes: dotted config key to the value that takes the config's place, in published units as the config's are.

    Returns:
        mmcv.Config: free of machine paths; two equal configs train the same model.
    """
    from mmcv import Config

    entry = variant_entry(suite, variant)
    cfg = Config.fromfile(str(ROOT / entry["config"]), import_custom_modules=False)
    if variant != "pretraining":
        apply_training(cfg, suite["training"])
    cfg.merge_from_dict(dict(changes or {}))
    mapped: dict[str, dict[str, float]] = {}
    if entry["family"] == "iounet":
        scale, head = suite["scale"], cfg.model.roi_head
        _scale(mapped, head.iou_head.loss_iou, "loss_weight", scale["loss_weight"])
        _scale(mapped, head.iou_head.loss_iou, "beta", scale["smooth_l1_beta"])
        for key in ("sample_num", "per_iou", "max_num"):
            _scale(mapped, head.roi_generator, key, scale["rois"], whole=True)
        _scale(mapped, cfg.model.test_cfg.rcnn.iou.get("refine") or {}, "lamb", scale["step_size"])
    cfg.mapped = mapped
    return cfg


def training_hash(cfg: Any) -> str:
    """Hash of what training depends on in a resolved config; comments, formatting, order of keys do not change it."""
    plain = _plain(cfg._cfg_dict)
    plain["model"].pop("test_cfg")
    plain["mapped"].pop("lamb", None)
    plain["data"] = {key: value for key, value in plain["data"].items() if key not in ("val", "test")}
    plain.pop("test_pipeline", None)
    return _digest(plain)


def config_hash(cfg: Any) -> str:
    """Hash of the whole resolved config."""
    return _digest(_plain(cfg._cfg_dict))


def default_setting(cfg: Any) -> Setting:
    """The setting of the config's own test_cfg: what validation during a training uses."""
    iou = cfg.model.test_cfg.rcnn.get("iou")
    if not iou:
        return Setting()
    return Setting(iou.nms.guide, float(iou.refine.lamb), iou.refine.t) if iou.get("refine") else Setting(iou.nms.guide)


def inference_settings(suite: dict[str, Any], variant: str) -> list[Setting]:
    """Every setting that is evaluated on a checkpoint of the variant; the baseline has one, `off`."""
    settings = [Setting()]
    if variant_entry(suite, variant)["family"] == "iounet":
        inference = suite["inference"]
        for guide, step_sizes in inference["guides"].items():
            settings.append(Setting(guide))
            settings += [Setting(guide, float(step), inference["num_steps"]) for step in step_sizes]
    return settings


def unseen_split(dataset: dict[str, Any], trained: str, unseen: str) -> str:
    """The split to train on in place of `trained` so that no image of `unseen` is seen.

    It is `trained` itself unless the suite cuts `unseen` from it with `held_out: sweep`. A sweep sets it as
    `training.split` of its trials.
    """
    entry = dataset["splits"].get(unseen, {})
    return f"{trained}without{unseen}" if (entry.get("from"), entry.get("held_out")) == (trained, "sweep") else trained


def results_dir(suite: dict[str, Any]) -> Path:
    """Folder of the suite's results, relative to the project root."""
    return Path(suite["results"]) / suite["suite"]


def _check_splits(dataset: dict[str, Any], report_split: str, source: str) -> None:
    """What the schema cannot say about the splits of a folder. Raises `SuiteError`."""
    if "format" not in dataset:
        return
    splits = dataset["splits"]
    if "from" in splits.get("train", {"from": ""}):
        raise SuiteError(f"{source}: dataset.splits needs a split `train` with files of its own: it names the classes")
    for name, entry in splits.items():
        where = f"{source}: dataset.splits.{name}"
        if "from" in entry:
            if "from" in splits.get(entry["from"], {"from": ""}):
                raise SuiteError(f"{where}.from is '{entry['from']}': name a split that has files of its own")
            if name == report_split and entry["held_out"] != "always":
                raise SuiteError(
                    f"{where}.held_out: the reported split must be held out `always`, not from sweeps only"
                )
            if entry["take"] > 1 and entry["take"] != int(entry["take"]):
                raise SuiteError(f"{where}.take is {entry['take']:g}: give a number of images, or a share below 1")
        elif dataset["format"] == "coco":
            missing = [key for key in ("annotations", "images") if key not in entry]
            if missing:
                raise SuiteError(f"{where}.{missing[0]} is missing: the COCO format has no default for it")
            if "list" in entry:
                raise SuiteError(f"{where}.list: only Pascal VOC has lists; COCO's JSON lists the images itself")


def _scale(mapped: dict[str, dict[str, float]], node: Any, key: str, factor: float, whole: bool = False) -> None:
    """Multiplies node[key], if it is there, and records it as mapped[key] = {'published', 'actual'}."""
    published = node.get(key)
    if published is not None:
        node[key] = max(1, round(published * factor)) if whole else published * factor
        mapped[key] = {"published": published, "actual": node[key]}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Tuples become lists and numbers compare by value (1 and 1.0 train the same model)."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _set_defaults(validator: Any, properties: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, dict):
        for key, subschema in properties.items():
            if "default" in subschema:
                instance.setdefault(key, json.loads(json.dumps(subschema["default"])))
    yield from Draft202012Validator.VALIDATORS["properties"](validator, properties, instance, schema)


_DefaultsValidator = validators.extend(Draft202012Validator, {"properties": _set_defaults})

"""A suite: everything that a YAML file says of an experiment, read once and checked.

`schema.yaml` describes each key, with its default and its limits; the classes here carry the same keys under the same
names, typed and frozen. What is computed from a key, or checked between two of them, is here too. Paths are relative
to the project's root.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from suite.errors import NotInSuite, SuiteError
from suite.layout import Layout
from suite.reader import checked, read_yaml
from suite.search import PARAMETERS
from suite.settings import Setting, StepSize

ROOT = Path(__file__).resolve().parent.parent
SUITES = ROOT / "experiments"  # where the project's own suites lie
PRETRAINING = "pretraining"  # names the shared start of all variants where a variant is asked for
BASELINE, IOUNET = "baseline", "iounet"  # families


@dataclass(frozen=True)
class GeneratedSplit:
    """A split of generated images: how many, and how crowded (`normal` or `hard`)."""

    images: int
    difficulty: str


@dataclass(frozen=True)
class GeneratedData:
    """A `dataset` whose images are made here.

    Attributes:
        image_size: side of the square images in pixels.
        objects: smallest and largest number of objects in an image.
        sizes: smallest and largest object size in pixels.
    """

    splits: Mapping[str, GeneratedSplit]
    generator: str
    image_size: int
    seed: int
    objects: tuple[int, int]
    sizes: tuple[float, float]


@dataclass(frozen=True)
class FolderSplit:
    """A split of a folder: with files of its own, or cut from another one (`origin`, YAML: `from`).

    Attributes:
        annotations, images, list: paths below the data set's root; None = the format's default.
        count: number of images there must be; None = whatever there is.
        origin: the split that the images are cut from; None for a split with files of its own.
        take: images to cut: a number, or below 1 a share; 0 for a split with files of its own.
        held_out: `always` = no training sees the images, `sweep` = those of a sweep do not.
    """

    annotations: str | None = None
    images: str | None = None
    list: str | None = None
    count: int | None = None
    origin: str | None = None
    take: float = 0
    held_out: str = "always"


@dataclass(frozen=True)
class FolderData:
    """A `dataset` whose images lie in a folder.

    Attributes:
        format: of the annotations; `experiments/data/formats/<format>.py` reads it.
        root: folder that the paths of the splits start from, as written (`~`, `$VARIABLES`).
        download: entry of `experiments/data/downloads.yaml` that fetches it.
        num_categories: classes that `train` must have; None = whatever it has.
        masks: whether segmentations are kept.
    """

    splits: Mapping[str, FolderSplit]
    format: str
    root: str
    download: str | None = None
    num_categories: int | None = None
    masks: bool = False

    def without(self, trained: str, unseen: str) -> str:
        """The split to train on in place of `trained` so that no image of `unseen` is seen.

        It is `trained` itself unless `unseen` is cut from it with `held_out: sweep`.
        """
        split = self.splits.get(unseen, FolderSplit())
        return f"{trained}without{unseen}" if (split.origin, split.held_out) == (trained, "sweep") else trained


@dataclass(frozen=True)
class Training:
    """What the suite changes in the configs of all its variants; None = nothing.

    Attributes:
        epochs: length of a training.
        image_size: largest long and short side of the network's input in pixels.
        images_per_gpu: images of a batch on each GPU.
        backbone_weights: local file of the backbone's weights.
        split: to train on, in place of the one that each config names.
    """

    epochs: int | None = None
    image_size: tuple[int, int] | None = None
    images_per_gpu: int | None = None
    backbone_weights: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Variant:
    """What is trained: an mmdet config, and whether it has an IoU branch (`iounet`) or not (`baseline`)."""

    config: str
    family: str
    seed: int = 0  # of the pretraining, which is trained once

    @property
    def has_iou_branch(self) -> bool:
        """Whether it has an IoU branch."""
        return self.family == IOUNET


@dataclass(frozen=True)
class Untrained:
    """A config that belongs to the suite but is not trained by it, its name in the report, and why."""

    config: str
    label: str
    reason: str


@dataclass(frozen=True)
class Scale:
    """Published value × factor = value used in the suite, for every variant."""

    loss_weight: float
    smooth_l1_beta: float
    rois: float
    step_size: float

    def step(self, published: float) -> StepSize:
        """The λ with this published value."""
        return StepSize.of_published(published, self.step_size)


@dataclass(frozen=True)
class Validation:
    """What is evaluated after every epoch: the first `images` of a split that is never reported."""

    split: str
    images: int


@dataclass(frozen=True)
class Resources:
    """What one training asks of the machine or the cluster; `runtime` in minutes, `mem_mb` in MB."""

    gpus: int
    cpus: int
    mem_mb: int
    runtime: int


@dataclass(frozen=True)
class Inference:
    """Settings evaluated on every IoU-Net checkpoint.

    Attributes:
        step_sizes: NMS guide to the λ that its refinement is evaluated with, beside itself without refinement.
        num_steps: largest number of refinement steps.
        batch_size: images per forward pass.
    """

    step_sizes: Mapping[str, tuple[StepSize, ...]]
    num_steps: int
    batch_size: int


@dataclass(frozen=True)
class Speed:
    """How inference is timed; see schema.yaml."""

    device: str
    threads: int
    rounds: int
    images: int
    fc_dtype: str


@dataclass(frozen=True)
class Sampler:
    """Of Optuna's TPESampler."""

    startup_trials: int
    candidates: int


@dataclass(frozen=True)
class Pruner:
    """Of Optuna's MedianPruner."""

    startup_trials: int
    warmup_epochs: int


@dataclass(frozen=True)
class SweepSettings:
    """The hyper-parameter search.

    Attributes:
        base: the IoU-Net variant that a trial changes.
        published: variants whose settings are tried first, after the base's.
        space: name of a `suite.search.PARAMETERS` to its smallest and largest value, in published units.
        guides, step_sizes: every trial's checkpoint is evaluated with each pair; a λ of 0 = no refinement.
        trials: budget of complete trials.
        heartbeat: seconds between signs of life of a trial in a database.
    """

    name: str
    base: str
    published: tuple[str, ...]
    space: Mapping[str, tuple[float, float]]
    guides: tuple[str, ...]
    step_sizes: tuple[StepSize, ...]
    trials: int
    workers: int
    epochs: int
    seed: int
    split: str
    sampler: Sampler
    pruner: Pruner
    heartbeat: int


@dataclass(frozen=True)
class Suite:
    """A checked suite. Made by `load_suite` and `check_suite` only.

    Attributes:
        name: YAML: `suite`.
        results: folder that holds every suite's results.
        pretraining: the shared start of all variants; None = each starts from its config's weights.
        untrained: name to a config that belongs to the suite but is not trained.
        report_split: the split that every reported number is computed on.
        raw: the checked YAML with its defaults, as plain data.
    """

    name: str
    title: str
    description: str
    results: str
    dataset: GeneratedData | FolderData
    training: Training
    pretraining: Variant | None
    seeds: tuple[int, ...]
    variants: Mapping[str, Variant]
    untrained: Mapping[str, Untrained]
    scale: Scale
    validation: Validation
    resources: Resources
    report_split: str
    inference: Inference
    speed: Speed
    sweep: SweepSettings | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def layout(self) -> Layout:
        """Where its results lie."""
        return Layout(Path(self.results) / self.name)

    @property
    def is_generated(self) -> bool:
        """Whether its images are made here."""
        return isinstance(self.dataset, GeneratedData)

    @property
    def trained(self) -> tuple[str, ...]:
        """All that is trained: the variants, and 'pretraining' if there is one."""
        return (*self.variants, *([PRETRAINING] if self.pretraining is not None else []))

    @property
    def text(self) -> str:
        """The checked YAML with its defaults, as text."""
        return yaml.safe_dump(dict(self.raw), sort_keys=False)

    def variant(self, name: str) -> Variant:
        """One of its variants, or the pretraining by the name 'pretraining'. Raises `SuiteError` for an unknown one."""
        if name == PRETRAINING and self.pretraining is not None:
            return self.pretraining
        if name not in self.variants:
            raise SuiteError(f"suite '{self.name}' has no variant '{name}'; it has {', '.join(self.variants)}")
        return self.variants[name]

    def require(self, *variants: str) -> None:
        """Checks that the suite has these variants. Raises `NotInSuite`, naming those that are missing."""
        missing = [variant for variant in variants if variant not in self.variants]
        if missing:
            raise NotInSuite(f"not in suite '{self.name}': {', '.join(missing)}")

    def settings(self, variant: str) -> list[Setting]:
        """Every setting that a checkpoint of the variant is evaluated in; the baseline has one, `off`."""
        if not self.variant(variant).has_iou_branch:
            return [Setting()]
        return [
            Setting(),
            *(s for guide, steps in self.inference.step_sizes.items() for s in self._guided(guide, steps)),
        ]

    def _guided(self, guide: str, steps: Iterable[StepSize]) -> list[Setting]:
        return [Setting(guide), *(Setting(guide, step, self.inference.num_steps) for step in steps)]

    def setting(self, guide: str | None, published: float | None = None) -> Setting:
        """The setting with an NMS guide and a published λ.

        Raises:
            NotInSuite: the suite evaluates no such setting.
        """
        if guide is None:
            return Setting()
        if guide not in self.inference.step_sizes:
            raise NotInSuite(f"NMS guide '{guide}' is not in inference.step_sizes of suite '{self.name}'")
        if published is None:
            return Setting(guide)
        wanted = self.scale.step(published)
        for step in self.inference.step_sizes[guide]:
            if step.actual == wanted.actual:
                return Setting(guide, step, self.inference.num_steps)
        raise NotInSuite(f"{wanted} is not in inference.step_sizes.{guide} of suite '{self.name}'")

    def changed(self, **keys: Any) -> Suite:
        """The suite with other top-level keys of its YAML, checked anew. None takes a key away."""
        data = {key: value for key, value in {**self.raw, **keys}.items() if value is not None}
        return check_suite(data, source=f"suite '{self.name}', changed")


def load_suite(path: str | Path) -> Suite:
    """Reads a suite's YAML file. Raises `SuiteError`."""
    path = Path(path)
    try:
        data = read_yaml(path)
    except FileNotFoundError:
        known = ", ".join(sorted(p.name for p in SUITES.glob("*.yaml")))
        raise SuiteError(f"{path}: no such suite file; experiments/ has {known}") from None
    return check_suite(data, source=str(path))


def check_suite(data: Any, source: str = "suite") -> Suite:
    """The suite that plain data describe, with the defaults of schema.yaml. Raises `SuiteError`, naming the key."""
    raw = checked(_with_published_step_sizes(data, source), source)
    suite = _typed(raw)
    for check in (
        _check_generated,
        _check_folder,
        _check_splits,
        _check_configs,
        _check_step_sizes,
        _check_search_space,
    ):
        check(suite, source)
    return suite


def _with_published_step_sizes(data: Any, source: str) -> Any:
    """Suites of the first release have `inference.guides`, in actual units; they keep their meaning."""
    inference = data.get("inference") if isinstance(data, Mapping) else None
    if not isinstance(inference, Mapping) or "guides" not in inference:
        return data
    guides, rest = inference["guides"], {key: value for key, value in inference.items() if key != "guides"}
    if "step_sizes" in inference:
        raise SuiteError(f"{source}: inference has both `step_sizes` and its old name `guides`: remove `guides`")
    scale = data.get("scale")
    factor = scale.get("step_size", 1.0) if isinstance(scale, Mapping) else 1.0

    def published(value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        known = is_number and isinstance(factor, int | float) and not isinstance(factor, bool) and factor > 0
        return StepSize.of_actual(value, factor).published if known else value

    if isinstance(guides, Mapping):
        guides = {
            guide: [published(value) for value in values] if isinstance(values, list | tuple) else values
            for guide, values in guides.items()
        }
    return {**data, "inference": {"step_sizes": guides, **rest}}


def _typed(raw: Mapping[str, Any]) -> Suite:
    scale = Scale(**raw["scale"])
    inference, pretraining, training = raw["inference"], raw.get("pretraining"), dict(raw["training"])
    if "image_size" in training:
        training["image_size"] = tuple(training["image_size"])
    return Suite(
        name=raw["suite"],
        title=raw["title"],
        description=" ".join(raw["description"].split()),
        results=raw["results"],
        dataset=_dataset(raw["dataset"]),
        training=Training(**training),
        pretraining=None if pretraining is None else Variant(family=BASELINE, **pretraining),
        seeds=tuple(raw["seeds"]),
        variants=MappingProxyType({name: Variant(**entry) for name, entry in raw["variants"].items()}),
        untrained=MappingProxyType({name: Untrained(**entry) for name, entry in raw["untrained"].items()}),
        scale=scale,
        validation=Validation(**raw["validation"]),
        resources=Resources(**raw["resources"]),
        report_split=raw["report_split"],
        inference=Inference(
            step_sizes=MappingProxyType(
                {guide: tuple(map(scale.step, steps)) for guide, steps in inference["step_sizes"].items()}
            ),
            num_steps=inference["num_steps"],
            batch_size=inference["batch_size"],
        ),
        speed=Speed(**raw["speed"]),
        sweep=None if "sweep" not in raw else _sweep(raw["sweep"], scale),
        raw=MappingProxyType(dict(raw)),
    )


def _dataset(block: Mapping[str, Any]) -> GeneratedData | FolderData:
    if "generator" in block:
        return GeneratedData(
            splits=MappingProxyType({name: GeneratedSplit(**entry) for name, entry in block["splits"].items()}),
            generator=block["generator"],
            image_size=block["image_size"],
            seed=block["seed"],
            objects=(block["objects"][0], block["objects"][1]),
            sizes=(float(block["sizes"][0]), float(block["sizes"][1])),
        )
    splits = {}
    for name, entry in block["splits"].items():
        own = {key: value for key, value in entry.items() if key != "from"}
        splits[name] = FolderSplit(origin=entry.get("from"), **own)
    rest = {key: value for key, value in block.items() if key != "splits"}
    return FolderData(splits=MappingProxyType(splits), **rest)


def _sweep(block: Mapping[str, Any], scale: Scale) -> SweepSettings:
    typed = {
        "published": tuple(block["published"]),
        "space": MappingProxyType({key: (low, high) for key, (low, high) in block["space"].items()}),
        "guides": tuple(block["guides"]),
        "step_sizes": tuple(map(scale.step, block["step_sizes"])),
        "sampler": Sampler(**block["sampler"]),
        "pruner": Pruner(**block["pruner"]),
    }
    return SweepSettings(**{**block, **typed})


def _check_generated(suite: Suite, source: str) -> None:
    if not isinstance(suite.dataset, GeneratedData):
        return
    for key, high, kind in (("objects", None, "integers"), ("sizes", suite.dataset.image_size, "numbers")):
        first, last = getattr(suite.dataset, key)
        if first > last or (high is not None and last > high):
            limit = "" if high is None else f", at most dataset.image_size ({high})"
            found = suite.raw["dataset"][key]
            raise SuiteError(f"{source}: dataset.{key}: expected two {kind}, the smaller first{limit}, got {found}")


def _check_folder(suite: Suite, source: str) -> None:
    """What the schema cannot say about the splits of a folder."""
    if not isinstance(suite.dataset, FolderData):
        return
    splits = suite.dataset.splits
    if "train" not in splits or splits["train"].origin is not None:
        raise SuiteError(f"{source}: dataset.splits needs a split `train` with files of its own: it names the classes")
    for name, split in splits.items():
        where = f"{source}: dataset.splits.{name}"
        if split.origin is not None:
            if split.origin not in splits or splits[split.origin].origin is not None:
                raise SuiteError(f"{where}.from is '{split.origin}': name a split that has files of its own")
            if name == suite.report_split and split.held_out != "always":
                raise SuiteError(
                    f"{where}.held_out: the reported split must be held out `always`, not from sweeps only"
                )
            if split.take > 1 and split.take != int(split.take):
                raise SuiteError(f"{where}.take is {split.take:g}: give a number of images, or a share below 1")
        elif suite.dataset.format == "coco":
            missing = [key for key in ("annotations", "images") if getattr(split, key) is None]
            if missing:
                raise SuiteError(f"{where}.{missing[0]} is missing: the COCO format has no default for it")
            if split.list is not None:
                raise SuiteError(f"{where}.list: only Pascal VOC has lists; COCO's JSON lists the images itself")


def _check_splits(suite: Suite, source: str) -> None:
    for key, split in {"report_split": suite.report_split, "validation.split": suite.validation.split}.items():
        if split not in suite.dataset.splits:
            raise SuiteError(f"{source}: {key} is '{split}', but dataset.splits has no such split")
    if suite.validation.split == suite.report_split:
        raise SuiteError(
            f"{source}: validation.split and report_split are both '{suite.report_split}'; "
            "numbers are reported on images that nothing was chosen on: use two splits"
        )


def _check_configs(suite: Suite, source: str) -> None:
    named = {name: suite.variant(name).config for name in suite.trained}
    named |= {name: entry.config for name, entry in suite.untrained.items()}
    for name, config in named.items():
        if not (ROOT / config).is_file():
            raise SuiteError(f"{source}: the config of '{name}' does not exist: {config}")


def _check_step_sizes(suite: Suite, source: str) -> None:
    for guide, steps in suite.inference.step_sizes.items():
        actual = [step.actual for step in steps]
        if twice := next((step for step in steps if actual.count(step.actual) > 1), None):
            raise SuiteError(
                f"{source}: inference.step_sizes.{guide} has two values that are both {twice.actual:g} here: "
                "their results would have one name"
            )


def _check_search_space(suite: Suite, source: str) -> None:
    for key, (low, high) in (suite.sweep.space if suite.sweep else {}).items():
        where = f"{source}: sweep.space.{key}"
        if key not in PARAMETERS:
            raise SuiteError(f"{where}: no such parameter; there are {', '.join(PARAMETERS)}")
        if low >= high:
            raise SuiteError(f"{where} is [{low}, {high}]: the first must be the smaller")
        if PARAMETERS[key].is_whole and (low != int(low) or high != int(high)):
            raise SuiteError(f"{where} is [{low}, {high}]: expected two whole numbers")

"""A suite: everything that a YAML file says of an experiment, read once and checked.

What `schema.yaml` cannot say, as it is between two keys, is checked here; so is what follows from a key computed. Paths
are relative to the project's root.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from suite.blocks import (
    BASELINE,
    Detector,
    FolderData,
    FolderSplit,
    GeneratedData,
    GeneratedSplit,
    Inference,
    Pruner,
    Resources,
    Sampler,
    Scale,
    Speed,
    SweepSettings,
    Training,
    Untrained,
    Validation,
    Variant,
)
from suite.errors import NotInSuite, SuiteError
from suite.layout import Layout
from suite.reader import checked, read_yaml
from suite.roles import FASTER_RCNN, cast, with_role
from suite.search import PARAMETERS
from suite.settings import PARTS, Setting, StepSize
from suite.treatments import BASELINE_LABEL

ROOT = Path(__file__).resolve().parent.parent
SUITES = ROOT / "experiments"  # where the project's own suites lie
PRETRAINING = "pretraining"  # names the shared start of all variants where a variant is asked for


@dataclass(frozen=True)
class Suite:
    """A checked suite. Made by `load_suite` and `check_suite` only.

    Attributes:
        name: YAML: `suite`.
        results: folder that holds every suite's results.
        pretraining: the shared start of all variants; None = each starts from its config's weights.
        roles: published variant to the one of `variants` that stands for it (`suite.roles`).
        untrained: name to a config that belongs to the suite but is not trained; none of the variants.
        detectors: name to a detector that is trained for the sake of its boxes (`treated`); none of the variants.
        report_split: the split that every reported number is computed on.
        speed: None = inference is not timed.
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
    roles: Mapping[str, str]
    untrained: Mapping[str, Untrained]
    detectors: Mapping[str, Detector]
    scale: Scale
    validation: Validation
    resources: Resources
    report_split: str
    inference: Inference
    speed: Speed | None
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
    def treated(self) -> tuple[str, ...]:
        """The detectors whose boxes a refiner is given: what stands for Faster R-CNN, and `detectors`.

        Raises:
            NotInSuite: nothing stands for Faster R-CNN.
        """
        return (self.standing_for(FASTER_RCNN), *self.detectors)

    @property
    def training_splits(self) -> tuple[str, ...]:
        """The splits that can be trained on: those of the suite, and what is left of one that another is cut from."""
        names = list(self.dataset.splits)
        if isinstance(self.dataset, FolderData):
            cut = {name: split.origin for name, split in self.dataset.splits.items() if split.origin is not None}
            names += [self.dataset.without(origin, name) for name, origin in cut.items()]
        return tuple(dict.fromkeys(names))

    @property
    def text(self) -> str:
        """The checked YAML with its defaults, as text."""
        return yaml.safe_dump(dict(self.raw), sort_keys=False)

    def variant(self, name: str) -> Variant:
        """One of its variants or detectors, or the pretraining by the name 'pretraining'.

        Raises:
            SuiteError: there is none of this name.
        """
        if name == PRETRAINING and self.pretraining is not None:
            return self.pretraining
        if name in self.detectors:
            return Variant(self.detectors[name].config, BASELINE)
        if name not in self.variants:
            raise SuiteError(f"suite '{self.name}' has no variant '{name}'; it has {', '.join(self.variants)}")
        return self.variants[name]

    def require(self, *variants: str) -> None:
        """Checks that it has these variants, or what stands for them. Raises `NotInSuite`, naming all that it lacks."""
        own = self.variants.keys() | self.detectors.keys() | self.roles.keys()
        missing = [name for name in variants if name not in own]
        if missing:
            raise NotInSuite(f"not in suite '{self.name}': {', '.join(map(with_role, missing))}")

    def standing_for(self, published: str) -> str:
        """Its own name of the variant that stands for a published one; an own name is returned as it is.

        Raises:
            NotInSuite: there is none.
        """
        self.require(published)
        return published if published in self.variants else self.roles.get(published, published)

    def settings(self, variant: str) -> list[Setting]:
        """Every setting that a checkpoint of the variant is evaluated in; the baseline has one, `off`."""
        if not self.variant(variant).has_iou_branch:
            return [Setting()]
        return [
            Setting(),
            *(s for guide, steps in self.inference.step_sizes.items() for s in self._guided(guide, steps)),
            *(self._part(guide, part) for guide in self.inference.parts for part in PARTS),
        ]

    def _guided(self, guide: str, steps: Iterable[StepSize]) -> list[Setting]:
        return [Setting(guide), *(Setting(guide, step, self.inference.num_steps) for step in steps)]

    def _part(self, guide: str, part: str) -> Setting:
        if part == "score":
            return Setting(guide, part=part)
        return Setting(guide, self.inference.parts[guide], self.inference.num_steps, part)

    def setting(self, guide: str | None, published: float | None = None, part: str | None = None) -> Setting:
        """The setting with an NMS guide and a published λ, or a part of the refinement at this λ.

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
        if part is not None:
            if self.inference.parts.get(guide) != wanted:
                raise NotInSuite(f"{wanted} is not in inference.parts.{guide} of suite '{self.name}'")
            return self._part(guide, part)
        for step in self.inference.step_sizes[guide]:
            if step.actual == wanted.actual:
                return Setting(guide, step, self.inference.num_steps)
        raise NotInSuite(f"{wanted} is not in inference.step_sizes.{guide} of suite '{self.name}'")

    def changed(self, **keys: Any) -> Suite:
        """The suite with other top-level keys of its YAML, checked anew. None takes a key away, `speed` stays null."""
        data = {key: value for key, value in {**self.raw, **keys}.items() if value is not None or key == "speed"}
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
    suite = _typed(raw, source)
    for check in (
        _check_generated,
        _check_folder,
        _check_splits,
        _check_configs,
        _check_detectors,
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


def _typed(raw: Mapping[str, Any], source: str) -> Suite:
    variants = {name: Variant(**entry) for name, entry in raw["variants"].items()}
    scale = Scale(**{"rois_per_iou": raw["scale"]["rois"]} | raw["scale"])
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
        variants=MappingProxyType(variants),
        roles=MappingProxyType(cast(variants, source)),
        untrained=MappingProxyType(
            {name: Untrained(**entry) for name, entry in raw["untrained"].items() if name not in raw["variants"]}
        ),
        detectors=MappingProxyType({name: Detector(**entry) for name, entry in raw["detectors"].items()}),
        scale=scale,
        validation=Validation(**raw["validation"]),
        resources=Resources(**raw["resources"]),
        report_split=raw["report_split"],
        inference=Inference(
            step_sizes=MappingProxyType(
                {guide: tuple(map(scale.step, steps)) for guide, steps in inference["step_sizes"].items()}
            ),
            parts=MappingProxyType({guide: scale.step(step) for guide, step in inference["parts"].items()}),
            num_steps=inference["num_steps"],
            batch_size=inference["batch_size"],
        ),
        speed=None if raw["speed"] is None else Speed(**raw["speed"]),
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
            classes=(block["classes"][0], block["classes"][1]),
            neighbours=float(block["neighbours"]),
        )
    splits = {}
    for name, entry in block["splits"].items():
        own = {key: value for key, value in entry.items() if key not in ("from", "join")}
        members = {member: FolderSplit(**files) for member, files in entry.get("join", {}).items()}
        splits[name] = FolderSplit(origin=entry.get("from"), join=MappingProxyType(members), **own)
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
    dataset, found = suite.dataset, suite.raw["dataset"]
    for key in ("objects", "classes"):
        if found[key][0] > found[key][1]:
            raise SuiteError(
                f"{source}: dataset.{key}: expected two integers, the smaller first, got {found[key]}; "
                f"for example {key}: {sorted(found[key])}"
            )
    if not dataset.sizes[0] <= dataset.sizes[1] <= dataset.image_size:
        raise SuiteError(
            f"{source}: dataset.sizes: expected two numbers, the smaller first, from 12 to {dataset.image_size} "
            f"(dataset.image_size), got {found['sizes']}; for example sizes: [12, {dataset.image_size}]"
        )


def _check_folder(suite: Suite, source: str) -> None:
    """What the schema cannot say about the splits of a folder; `experiments/data/formats` knows what a format needs."""
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
            rest = suite.dataset.without(split.origin, name)
            if rest != split.origin and rest in splits:
                raise SuiteError(f"{source}: dataset.splits.{rest}: `{name}` needs this name for what it is cut from")
            if split.take > 1 and split.take != int(split.take):
                raise SuiteError(f"{where}.take is {split.take:g}: give a number of images, or a share below 1")


def _check_splits(suite: Suite, source: str) -> None:
    trained = suite.training.split
    if trained is not None and trained not in suite.training_splits:
        raise SuiteError(
            f"{source}: training.split is '{trained}', but there are only {', '.join(suite.training_splits)}"
        )
    if trained == suite.report_split:
        raise SuiteError(
            f"{source}: training.split and report_split are both '{trained}'; "
            "nothing may be reported on images that were trained on: use two splits"
        )
    for key, split in {"report_split": suite.report_split, "validation.split": suite.validation.split}.items():
        if split not in suite.dataset.splits:
            raise SuiteError(f"{source}: {key} is '{split}', but dataset.splits has no such split")
    if suite.validation.split == suite.report_split:
        raise SuiteError(
            f"{source}: validation.split and report_split are both '{suite.report_split}'; "
            "numbers are reported on images that nothing was chosen on: use two splits"
        )


def _check_configs(suite: Suite, source: str) -> None:
    named = {} if suite.pretraining is None else {PRETRAINING: suite.pretraining.config}
    named |= {f"variants.{name}": entry.config for name, entry in suite.variants.items()}
    named |= {f"untrained.{name}": entry.config for name, entry in suite.untrained.items()}
    named |= {f"detectors.{name}": entry.config for name, entry in suite.detectors.items()}
    for key, config in named.items():
        if not os.path.isfile(ROOT / config):  # unlike Path.is_file, it takes a name of any length
            raise SuiteError(
                f"{source}: {key}.config: the config of '{key.split('.', 1)[-1]}' does not exist: {config}; "
                f"a relative path starts at the project's folder, {ROOT}"
            )


def _check_detectors(suite: Suite, source: str) -> None:
    taken = {PRETRAINING, *suite.variants, *suite.roles}
    if twice := next((name for name in suite.detectors if name in taken), None):
        raise SuiteError(f"{source}: detectors.{twice}: this is the name of a variant or the pretraining: rename it")
    labels = {BASELINE_LABEL: "the baseline"}
    for name, detector in suite.detectors.items():
        if detector.label in labels:
            raise SuiteError(
                f"{source}: detectors.{name}.label: '{detector.label}' is what {labels[detector.label]} is called: "
                "choose another"
            )
        labels[detector.label] = f"'{name}'"


def _check_step_sizes(suite: Suite, source: str) -> None:
    lists = {f"inference.step_sizes.{guide}": steps for guide, steps in suite.inference.step_sizes.items()}
    if suite.sweep is not None:
        lists["sweep.step_sizes"] = suite.sweep.step_sizes
    for key, steps in lists.items():
        actual = [step.actual for step in steps]
        if twice := next((step for step in steps if actual.count(step.actual) > 1), None):
            raise SuiteError(
                f"{source}: {key} has two values that are both {twice.actual:g} here: their results would have one name"
            )
    for guide, step in suite.inference.parts.items():
        if step not in suite.inference.step_sizes.get(guide, ()):
            raise SuiteError(
                f"{source}: inference.parts.{guide} is {step.published:g}, which inference.step_sizes.{guide} "
                "lacks: add it there, as the parts are shown beside the whole refinement"
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

"""How much work a suite's jobs are, by kind: images × epochs × pixels. Times of one size tell those of another.

The images of `data` are counted, those of the timed inference by its rounds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from experiments.config import resolve_config, training_pixels
from suite.blocks import FolderData, GeneratedData
from suite.errors import SuiteError
from suite.files import read_json
from suite.layout import Layout
from suite.suite import PRETRAINING, Suite

Work = Mapping[str, float]  # kind of job to its work


def families(suite: Suite) -> dict[str, str]:
    """By what the jobs of each variant are told apart: its family; of a further detector its name."""
    return {name: entry.family for name, entry in suite.variants.items()} | {name: name for name in suite.detectors}


def kind_of(suite: Suite, variant: str, rule: str = "train") -> str:
    """The kind of a variant's job, as `workflow.plan` has it."""
    return variant if variant == PRETRAINING else f"{rule}, {families(suite)[variant]}"


def planned_work(suite: Suite) -> dict[str, float]:
    """What is known of a suite's jobs before they run; nothing of those whose images are not counted yet."""
    found: dict[str, float] = {}
    timed_pixels = 0.0
    for variant in suite.trained:
        cfg = resolve_config(suite, variant)
        pixels = training_pixels(cfg) or _pixels(suite)
        split = str(cfg.data.train.ann_file).removesuffix(".json")
        trained, reported = (images_of(suite, name) for name in (split, suite.report_split))
        if trained and pixels:
            found[kind_of(suite, variant)] = trained * pixels * cfg.runner.max_epochs
        if reported and pixels and variant != PRETRAINING:
            found[kind_of(suite, variant, "evaluate")] = reported * pixels
            timed_pixels = pixels
    if timed_pixels and suite.speed is not None:
        found["speed"] = suite.speed.rounds * suite.speed.images * timed_pixels
    images = [images_of(suite, split) for split in suite.dataset.splits]
    if None not in images:
        found["data"] = sum(filter(None, images))
    return found | _of_the_sweep(suite, found)


def measured_work(suite: Suite, layout: Layout) -> dict[str, float]:
    """The same of the jobs whose results are there."""
    found: dict[str, float] = {}
    timed_pixels = 0.0
    for folder in (layout.pretraining, *layout.runs()):
        with contextlib.suppress(OSError, SuiteError, KeyError):
            run = read_json(folder.run)
            if run["variant"] not in suite.trained:
                continue
            pixels = run["trained_on"]["pixels"]
            found[kind_of(suite, run["variant"])] = run["trained_on"]["images"] * run["epochs"] * pixels
            if run["variant"] != PRETRAINING:
                evaluated = layout.evaluation(run["variant"], run["seed"], suite.report_split).setting("off")
                found[kind_of(suite, run["variant"], "evaluate")] = read_json(evaluated)["images"] * pixels
                timed_pixels = pixels
    for path in layout.speeds() if timed_pixels else []:
        with contextlib.suppress(OSError, SuiteError, KeyError):
            timed = read_json(path)["timed"]
            found["speed"] = timed["rounds"] * timed["images"] * timed_pixels
    with contextlib.suppress(OSError, SuiteError, KeyError):
        splits = read_json(layout.data.manifest)["splits"]
        found["data"] = sum(splits[split]["images"] for split in suite.dataset.splits)
    return found | _of_the_sweep(suite, found)


def _of_the_sweep(suite: Suite, known: Work) -> dict[str, float]:
    """Its trials are trainings of its base, its summary is an evaluation."""
    if suite.sweep is None or suite.sweep.base not in suite.variants:
        return {}
    pairs = {"sweep_worker": kind_of(suite, suite.sweep.base), "sweep": kind_of(suite, suite.sweep.base, "evaluate")}
    return {kind: known[base] for kind, base in pairs.items() if base in known}


def images_of(suite: Suite, split: str) -> float | None:
    """How many images a split has, or will have; None if they are not counted yet."""
    if isinstance(suite.dataset, GeneratedData):
        return suite.dataset.splits[split].images if split in suite.dataset.splits else None
    with contextlib.suppress(OSError, SuiteError, KeyError):
        manifest: Any = read_json(suite.layout.data.manifest)
        return float(manifest["splits"][split]["images"])
    return _stated(suite.dataset, split)


def _stated(dataset: FolderData, name: str) -> float | None:
    split = dataset.splits.get(name)
    if split is None:
        return None
    if split.join:
        counts = [member.count for member in split.join.values()]
        return None if None in counts else sum(filter(None, counts))
    if split.origin is None:
        return split.count
    return split.take if split.take > 1 else None


def _pixels(suite: Suite) -> float | None:
    return suite.dataset.image_size**2 if isinstance(suite.dataset, GeneratedData) else None

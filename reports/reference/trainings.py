"""What this suite's own trainings score: made once by many of them, kept as data, and read here.

A reference is of one recipe: one dataset draw, one pretraining, one config per variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.errors import MissingResult, ReportError
from reports.results.collect import Results
from reports.results.files import need, read_json
from reports.results.sides import POINTS
from suite.files import write_json
from suite.settings import Setting

FOLDER = Path(__file__).parent
OFF = Setting().name
METRICS = ("AP", "AP50", "AP75", "AP90")
FEWEST = 10  # trainings of a variant that make a distribution

Values = Mapping[tuple[str, str, str], NDArray[np.float64]]  # variant, setting, metric -> points, one per training


@dataclass(frozen=True)
class Recipe:
    """What trainings must share to be compared: the images, and the hash of each variant's config."""

    dataset_fingerprint: str
    configs: Mapping[str, str]


@dataclass(frozen=True)
class Trainings:
    """Figures of some trainings of each variant.

    Attributes:
        seeds: of each variant, in the order of the values.
        made: what made them: commits, versions, hardware.
    """

    suite: str
    recipe: Recipe
    seeds: Mapping[str, tuple[int, ...]]
    values: Values
    made: Mapping[str, Any]


def trainings_of(results: Results) -> Trainings:
    """The trainings of a run.

    Raises:
        MissingResult: one of them was not evaluated.
        ReportError: a result is stale.
    """
    suite, values, configs = results.suite, {}, {}
    for variant in suite.variants:
        for setting in suite.settings(variant):
            rows = [results.evaluation(variant, seed, setting.name) for seed in suite.seeds]
            for row in rows:
                if row["stale"]:
                    raise ReportError(f"{row['source']}: stale ({row['stale']}); run the suite again")
            configs[variant] = str(rows[0]["config_hash"])
            for metric in METRICS:
                values[variant, setting.name, metric] = POINTS * np.array([float(row[metric]) for row in rows])
    runs = [results.run(variant, seed)["data"] for variant in suite.variants for seed in suite.seeds]
    if results.dataset is None:
        raise MissingResult(f"{results.layout.data.manifest}: no such file")
    return Trainings(
        suite=suite.name,
        recipe=Recipe(str(results.dataset["fingerprint"]), configs),
        seeds=dict.fromkeys(suite.variants, suite.seeds),
        values=values,
        made={
            "commits": sorted({str(run["git_commit"]) for run in runs}),
            "versions": runs[0]["versions"],
            "hardware": runs[0]["hardware"],
            "started": min(str(run["started"]) for run in runs),
        },
    )


def write_trainings(path: Path, trainings: Trainings) -> None:
    """Write trainings as JSON: values in points with 4 decimals."""
    figures: dict[str, dict[str, dict[str, list[float]]]] = {}
    for (variant, setting, metric), values in trainings.values.items():
        figures.setdefault(variant, {}).setdefault(setting, {})[metric] = [round(value, 4) for value in values.tolist()]
    write_json(
        path,
        {
            "suite": trainings.suite,
            "dataset_fingerprint": trainings.recipe.dataset_fingerprint,
            "config_hashes": dict(trainings.recipe.configs),
            "seeds": {variant: list(seeds) for variant, seeds in trainings.seeds.items()},
            "made": dict(trainings.made),
            "points": figures,
        },
    )


def read_trainings(path: Path) -> Trainings:
    """Read what `write_trainings` wrote.

    Raises:
        MissingResult: no such file.
        ReportError: it is damaged, or has too few trainings of a variant.
    """
    if not path.exists():
        raise MissingResult(
            f"{path}: no such file: there is no reference of this suite yet; run it with {FEWEST} seeds or more and "
            "write one (`python -m reports.verify --record`)"
        )
    data = read_json(path)
    keys = ("suite", "dataset_fingerprint", "config_hashes", "seeds", "made", "points")
    suite, fingerprint, configs, seeds, made, points = (need(data, key, path) for key in keys)
    values = {
        (variant, setting, metric): np.array(own, dtype=float)
        for variant, settings in points.items()
        for setting, metrics in settings.items()
        for metric, own in metrics.items()
    }
    for (variant, setting, metric), own in values.items():
        if len(own) != len(seeds.get(variant, ())) or len(own) < FEWEST:
            raise ReportError(
                f"{path}: points.{variant}.{setting}.{metric}: {len(own)} values of {len(seeds.get(variant, ()))} "
                f"seeds; a reference needs {FEWEST} trainings of each variant or more, a value for each"
            )
    return Trainings(suite, Recipe(fingerprint, configs), {key: tuple(own) for key, own in seeds.items()}, values, made)


def figures(trainings: Trainings) -> Values:
    """What is compared: a variant with its branch off, and what each setting adds to that on the same checkpoint."""
    return {
        (variant, setting, metric): own if setting == OFF else own - trainings.values[variant, OFF, metric]
        for (variant, setting, metric), own in trainings.values.items()
    }

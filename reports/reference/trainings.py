"""What this suite's own trainings score: kept as data, and read here.

A reference is of one recipe: one dataset draw, one config per variant. It grows by every whole run of that recipe:
machines round differently, so that their pretrainings differ, and a run to be judged has a pretraining of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.errors import MissingResult, ReportError
from reports.results import diagnostics
from reports.results.collect import Results
from reports.results.files import SHORT, need, read_json
from reports.results.sides import POINTS
from suite.files import write_json
from suite.settings import Setting

FOLDER = Path(__file__).parent
OFF = Setting().name
METRICS = ("AP", "AP50", "AP75", "AP90")
DIAGNOSTICS = "diagnostics"  # in place of a setting: what AP is too coarse to show
DECIMALS = 4  # of a figure in points
FEWEST = 10  # trainings of a variant that make a distribution
MAKE_ONE = (
    f"run the suite until {FEWEST} trainings of each variant are there, of more seeds or on more machines, and add "
    "them (`python -m reports.verify --record`)"
)

Values = dict[tuple[str, str, str], NDArray[np.float64]]  # variant, setting, metric -> points, one per training


@dataclass(frozen=True)
class Recipe:
    """What trainings must share to be compared: the images, and the hash of each variant's config."""

    dataset_fingerprint: str
    configs: Mapping[str, str]


@dataclass(frozen=True)
class Trainings:
    """Figures of some trainings of each variant.

    Attributes:
        made: what made them, one entry per run: seeds, commits, versions, hardware, the pretraining's SHA-256.
    """

    suite: str
    recipe: Recipe
    values: Values
    made: tuple[Mapping[str, Any], ...]

    @property
    def number(self) -> int:
        """Of the variant that has the fewest."""
        return min(len(own) for own in self.values.values())


def trainings_of(results: Results) -> Trainings:
    """The trainings of a run.

    Raises:
        MissingResult: one of them was not evaluated.
        ReportError: a result is stale.
    """
    suite, configs = results.suite, {}
    values: Values = {}
    for variant in suite.variants:
        for setting in suite.settings(variant):
            rows = [results.evaluation(variant, seed, setting.name) for seed in suite.seeds]
            _check_fresh(rows)
            configs[variant] = str(rows[0]["config_hash"])
            for metric in METRICS:
                values[variant, setting.name, metric] = POINTS * np.array([float(row[metric]) for row in rows])
        diagnosed = {row["seed"]: row for row in diagnostics.rows_of(results, variant)}
        _check_fresh([*diagnosed.values()])
        for seed in suite.seeds if diagnosed else ():
            if seed not in diagnosed:
                path = results.layout.evaluation(variant, seed, suite.report_split).diagnostics
                raise MissingResult(f"{path}: no such file; run the evaluation of this checkpoint")
            for metric, value in _diagnosed(diagnosed[seed]["data"]).items():
                key = (variant, DIAGNOSTICS, metric)
                values[key] = np.append(values.get(key, np.empty(0)), POINTS * value)
    runs = [results.run(variant, seed)["data"] for variant in suite.variants for seed in suite.seeds]
    if results.dataset is None:
        raise MissingResult(f"{results.layout.data.manifest}: no such file")
    return Trainings(
        suite=suite.name,
        recipe=Recipe(str(results.dataset["fingerprint"]), configs),
        values=values,
        made=(
            {
                "seeds": list(suite.seeds),
                "commits": sorted({str(run["git_commit"]) for run in runs}),
                "versions": runs[0]["versions"],
                "hardware": runs[0]["hardware"],
                "started": min(str(run["started"]) for run in runs),
                "pretrainings": sorted({str(run["inputs"].get("pretraining_sha256", ""))[:SHORT] for run in runs}),
            },
        ),
    )


def _check_fresh(rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse results that are out of date."""
    for row in rows:
        if row["stale"]:
            raise ReportError(f"{row['source']}: stale ({row['stale']}); run the suite again")


def _diagnosed(data: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one diagnostics file; an undefined one is NaN.

    The share of boxes that refinement moves in its every step shows its two stopping rules: AP hardly depends on them.
    """
    confidence, refinement = data["confidence"], data["refinement"]
    (start, end), steps = (refinement["by_step"]["true_iou"][i] for i in (0, -1)), refinement["steps"]
    found = {
        "correlation of class score and true IoU": confidence["class_score"]["pearson"],
        "correlation of predicted and true IoU": confidence["predicted_iou"]["pearson"],
        "true IoU gained by refinement": None if start is None else end - start,
        "boxes moved by every step": steps[-1] / sum(steps) if any(steps) else None,
    }
    return {metric: math.nan if value is None else value for metric, value in found.items()}


def check_recipe(run: Trainings, reference: Trainings) -> None:
    """Check that a run's trainings are of the reference's recipe.

    Raises:
        ReportError: they are not, or lack a figure that the reference has.
    """
    remedy = (
        "the reference judges its own recipe only: delete its file and make one of this recipe (CONTRIBUTING.md), or "
        "undo the change"
    )
    if run.suite != reference.suite:
        raise ReportError(f"the run is of suite {run.suite!r}, the reference of {reference.suite!r}")
    found, expected = run.recipe.dataset_fingerprint, reference.recipe.dataset_fingerprint
    if found != expected:
        raise ReportError(
            f"the run's images (fingerprint {found[:SHORT]}…) are not the reference's ({expected[:SHORT]}…); {remedy}"
        )
    for variant, config in reference.recipe.configs.items():
        if run.recipe.configs.get(variant) != config:
            raise ReportError(
                f"{variant}: the run's config ({run.recipe.configs.get(variant)}) is not the reference's ({config}); "
                f"{remedy}"
            )
    missing = sorted(set(reference.values) - set(run.values))
    if missing:
        raise ReportError(f"the run lacks {len(missing)} figures of the reference, the first: {' '.join(missing[0])}")


def joined(reference: Trainings, run: Trainings) -> Trainings:
    """The reference with those trainings of a run that it does not have yet: those with other figures.

    Raises:
        ReportError: the run is of another recipe, or lacks a figure of the reference.
    """
    check_recipe(run, reference)
    new = {variant: _unknown(variant, reference, run) for variant, _, _ in reference.values}
    return replace(
        reference,
        values={key: np.append(own, run.values[key][new[key[0]]]) for key, own in reference.values.items()},
        made=(*reference.made, *run.made) if any(new.values()) else reference.made,
    )


def _unknown(variant: str, reference: Trainings, run: Trainings) -> list[int]:
    """Which trainings of a variant the reference does not have."""
    keys = [key for key in reference.values if key[0] == variant]
    known, found = (np.stack([one.values[key] for key in keys]).round(DECIMALS).T for one in (reference, run))
    return [i for i, figures in enumerate(found) if not (figures == known).all(axis=1).any()]


def write_trainings(path: Path, trainings: Trainings) -> None:
    """Write trainings as JSON: values in points."""
    figures: dict[str, dict[str, dict[str, list[float]]]] = {}
    for (variant, setting, metric), values in trainings.values.items():
        figures.setdefault(variant, {}).setdefault(setting, {})[metric] = values.round(DECIMALS).tolist()
    write_json(
        path,
        {
            "suite": trainings.suite,
            "dataset_fingerprint": trainings.recipe.dataset_fingerprint,
            "config_hashes": dict(trainings.recipe.configs),
            "made": [dict(run) for run in trainings.made],
            "points": figures,
        },
    )


def read_trainings(path: Path) -> Trainings:
    """Read what `write_trainings` wrote.

    Raises:
        MissingResult: no such file.
        ReportError: it is damaged.
    """
    if not path.exists():
        raise MissingResult(f"{path}: no such file: there is no reference of this suite yet; {MAKE_ONE}")
    data = read_json(path)
    keys = ("suite", "dataset_fingerprint", "config_hashes", "made", "points")
    suite, fingerprint, configs, made, points = (need(data, key, path) for key in keys)
    values = {
        (variant, setting, metric): np.array(own, dtype=float)
        for variant, settings in points.items()
        for setting, metrics in settings.items()
        for metric, own in metrics.items()
    }
    for (variant, setting, metric), own in values.items():
        expected = len(values.get((variant, OFF, METRICS[0]), ()))
        if len(own) != expected:
            raise ReportError(
                f"{path}: points.{variant}.{setting}.{metric}: {len(own)} values, and {expected} of '{OFF}': it needs "
                "one for each training"
            )
    return Trainings(suite, Recipe(fingerprint, configs), values, tuple(made))


def figures(trainings: Trainings) -> Values:
    """What is compared: a variant with its branch off, what each setting adds on the same checkpoint, diagnostics."""
    return {
        (variant, setting, metric): own
        if setting in (OFF, DIAGNOSTICS)
        else own - trainings.values[variant, OFF, metric]
        for (variant, setting, metric), own in trainings.values.items()
    }

"""The files of what was done with the boxes of any detector, read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd

from reports.errors import MissingResult, ReportError
from reports.results.collect import Results
from reports.results.files import SHORT, check_dataset, check_place, need, need_all, read_json
from reports.results.readers import Place, mark_stale_evaluations
from reports.results.treated import STAGES, Treated
from suite.layout import TreatmentFolder
from suite.records import run_id
from suite.roles import FIRST
from suite.suite import Suite
from suite.treatments import (
    BASELINE_LABEL,
    HEADS,
    NUM_STEPS,
    STEPS,
    Treatment,
    by_iteration,
    by_threshold,
    compared,
)

KEYS = (
    *("images", "candidates", "AP", "checkpoint_sha256", "config_hash", "git_commit"),
    *(f"seconds.{stage}" for stage in STAGES),
    *(f"refiners.{head}.sha256" for head in HEADS),
)
MADE_BY = "`snakemake anydetector` makes what this page reads"


@contextmanager
def remedied() -> Iterator[None]:
    """Errors inside say how what they name is made."""
    try:
        yield
    except ReportError as error:
        raise type(error)(f"{error}; {MADE_BY}") from None


def with_treatments(results: Results) -> tuple[Results, Treated]:
    """Results of the detectors with the evaluations of every treatment as settings, and with the runs of the refiners.

    Raises:
        NotInSuite: the suite has no baseline.
        MissingResult: something was not trained or evaluated.
        ReportError: a file is damaged or belongs elsewhere.
    """
    suite, layout = results.suite, results.layout
    place = Place(suite, layout, results.dataset)
    refiners = {(head, seed): _refiner(place, head, seed) for head, seed in product(HEADS, suite.seeds)}
    indices = []
    for detector, seed in product(suite.treated, suite.seeds):
        results.run(detector, seed)  # an error that says so where it is missing
        indices.append(_index(place, detector, seed))
    treated = _treated(suite, pd.DataFrame(indices))
    rows = []
    for detector, seed in product(treated.labels, suite.seeds):
        folder = layout.treated(detector, seed, suite.report_split)
        index = next(row for row in treated.measured(detector) if row["seed"] == seed)
        seconds = index["data"].get("wall_time_s", float("nan"))
        for treatment in dict.fromkeys(_treatments(treated, detector)):
            rows.append({**_evaluation(place, folder, detector, seed, treatment), "seconds": seconds})
    mark_stale_evaluations(results.runs.to_dict("records"), [*rows, *indices])  # type: ignore[arg-type]
    for row in [*rows, *indices]:
        asked = [_other_refiner(refiners, head, sha, row["seed"]) for head, sha in row["refiners"].items()]
        reasons = [row["stale"], *asked]
        row["stale"] = "; ".join(filter(None, reasons))
    found = replace(
        results,
        evaluations=pd.DataFrame(rows),
        runs=pd.concat([results.runs, pd.DataFrame(refiners.values())], ignore_index=True),
        diagnostics=pd.DataFrame(),
        speeds=pd.DataFrame(),
    )
    return found, replace(treated, indices=pd.DataFrame(indices))


def _refiner(place: Place, head: str, seed: int) -> dict[str, Any]:
    folder = place.layout.refiner(head, seed)
    trained_as = {"head": head, "variant": place.suite.standing_for(FIRST)}
    row = place.training(folder, f"refiner {head}", seed, trained_as)
    if row is None:
        raise MissingResult(f"{folder.run}: no such file")
    return row


def _index(place: Place, detector: str, seed: int) -> dict[str, Any]:
    folder = place.layout.treated(detector, seed, place.suite.report_split)
    path = folder.index
    data = read_json(path)
    keys = {"variant": detector, "seed": seed, "split": place.suite.report_split}
    check_place(data, path, {"suite": place.suite.name, **keys})
    need_all(data, KEYS, path)
    check_dataset(data, path, "dataset_fingerprint", place.fingerprint)
    return {
        **keys,
        "setting": "",
        **{key: data[key] for key in ("checkpoint_sha256", "config_hash", "git_commit")},
        "refiners": {head: data["refiners"][head]["sha256"] for head in HEADS},
        "wandb_run_id": run_id(folder.record, data),
        "source": place.layout.relative(path),
        "data": data,
    }


def _treated(suite: Suite, indices: pd.DataFrame) -> Treated:
    labels = {
        name: suite.detectors[name].label if name in suite.detectors else BASELINE_LABEL for name in suite.treated
    }
    steps = tuple(map(suite.scale.step, STEPS))
    refined, regressed = (by_iteration(steps, has_regression=True)[place].name for place in (0, -NUM_STEPS))

    def having(treatment: str) -> tuple[str, ...]:
        there = {row["variant"] for row in indices.to_dict("records") if treatment in row["data"]["AP"]}
        return tuple(name for name in labels if name in there)

    return Treated(labels, steps, having(refined), having(regressed), indices)


def _treatments(treated: Treated, detector: str) -> list[Treatment]:
    """All treatments that a page shows of a detector."""
    iterations = [treatment for own in treated.movers(detector).values() for treatment in own]
    return [*compared(treated.steps), *(by_threshold() if detector == treated.baseline else []), *iterations]


def _evaluation(
    place: Place, folder: TreatmentFolder, detector: str, seed: int, treatment: Treatment
) -> dict[str, Any]:
    path = folder.setting(treatment.name)
    data = read_json(path)
    keys = {"variant": detector, "seed": seed, "split": place.suite.report_split}
    check_place(data, path, {"suite": place.suite.name, **keys})
    try:
        described = Treatment.of_description(need(data, "treatment", path))
    except (KeyError, TypeError) as error:
        raise ReportError(f"{path}: key 'treatment' is damaged ({error})") from None
    if described != treatment:
        raise ReportError(f"{path}: key 'treatment' describes '{described.name}', not '{treatment.name}' of this suite")
    refiner = need(data, "refiner_sha256", path)
    return {
        **keys,
        "setting": treatment.name,
        **place.evaluated(data, path, folder),
        "refiners": {} if treatment.head is None else {treatment.head: refiner},
    }


def _other_refiner(refiners: Mapping[tuple[str, int], Mapping[str, Any]], head: str, found: str, seed: int) -> str:
    """Why an evaluation does not go with the refiners there are; '' where it does."""
    there = {own: row["data"] for (kind, own), row in refiners.items() if kind == head}
    newest = max(there, key=lambda own: there[own]["started"])
    compared_with = [
        ("evaluated with", found, there[seed]["checkpoint"]["sha256"], "the one there"),
        ("trained with config", there[seed]["config_hash"], there[newest]["config_hash"], f"that of seed {newest}"),
    ]
    return "; ".join(
        f"refiner ({head}) {what} {str(one)[:SHORT]}…, {other} has {str(expected)[:SHORT]}…"
        for what, one, expected, other in compared_with
        if one != expected
    )

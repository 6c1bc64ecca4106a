"""What was registered before a suite's run, beside what was run: `experiments/registered/<suite>.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from reports.claims import claims_digest
from reports.errors import ReportError
from reports.results.collect import Results
from reports.results.files import SHORT
from suite.suite import PRETRAINING, ROOT

REGISTERED = ROOT / "experiments/registered"
KEYS = ("suite", "date", "recipe", "claims", "estimator", "choices", "targets", "deviations")


def load_registration(path: Path) -> Mapping[str, Any]:
    """A registration.

    Raises:
        ReportError: a key is missing.
    """
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key in KEYS:
        if key not in data:
            raise ReportError(f"{path}: key '{key}' is missing")
    return data


def registered_notes(results: Results, folder: Path = REGISTERED) -> Sequence[str]:
    """Whether this run is the registered one, and what was registered; nothing for a suite that has no registration."""
    path = folder / f"{results.suite.name}.yaml"
    if results.dataset is None or not path.is_file():
        return []
    registration = load_registration(path)
    found = differences(results, registration)
    return [
        f"Written down on {registration['date']}, before the run (`{path.relative_to(ROOT)}`): recipe "
        f"`{registration['recipe']['hash']}`, the claims and their margins, the estimator, and how each choice was "
        "made. "
        + ("**This run is not the registered one:** " + "; ".join(found) + "." if found else "This run follows it."),
        f"**Estimator:** {registration['estimator']}",
        *(f"**{one['what']}:** {one['value']}. Chosen by {one['by']}." for one in registration["choices"]),
        *(_target(one) for one in registration["targets"]),
        *(f"**Deviation:** {text}" for text in registration["deviations"]),
    ]


def differences(results: Results, registration: Mapping[str, Any]) -> list[str]:
    """What of this run is not as registered."""
    recipe = registration["recipe"]
    found = []
    if results.dataset is not None and results.dataset["fingerprint"] != recipe["dataset_fingerprint"]:
        found.append(f"its images have the fingerprint `{results.dataset['fingerprint'][:SHORT]}`")
    if list(results.suite.seeds) != recipe["seeds"]:
        found.append(f"its seeds are {', '.join(map(str, results.suite.seeds))}")
    runs = [] if results.runs.empty else results.runs.to_dict("records")
    other = {
        str(run["variant"]) for run in runs if run["data"]["config_hash"] != recipe["trainings"].get(run["variant"])
    }
    other |= set(recipe["trainings"]) - {PRETRAINING} - {str(run["variant"]) for run in runs}
    if other:
        found.append(f"trained otherwise or not at all: {', '.join(f'`{name}`' for name in sorted(other))}")
    if claims_digest() != registration["claims"]:
        found.append("the claims were changed since")
    return found


def _target(one: Mapping[str, Any]) -> str:
    """A target of the recipe's choice, and what the baseline measured."""
    low, high = one.get("low"), one.get("high")
    wanted = f"at most {high:g}" if low is None else f"{low:g} to {high:g}"
    met = (low is None or one["measured"] >= low) and one["measured"] <= high
    return f"**Target, {one['what']}:** {wanted}; measured {one['measured']:g}" + ("." if met else " – **missed**.")

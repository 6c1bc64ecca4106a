"""A results folder as tidy frames: evaluations, runs and training histories, each row with the file it came from.

Nothing is averaged here. A file that is damaged, or that belongs to another suite, dataset, variant or seed than its
folder says, is refused with an error naming file and key; one made from another checkpoint than the run beside it has,
or with another config than its variant's latest run, is kept and marked stale.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from reports.errors import MissingResult, NotInSuite, ReportError
from reports.results.matches import Matches, average_precision, whole
from reports.suite import Suite, setting_name

METRICS = ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90", "APs", "APm", "APl")
SHORT = 12  # characters shown of a hash
DIAGNOSED = {  # what a report reads of diagnostics.json
    "setting": ("step_size", "num_steps"),
    "confidence": ("boxes", "true_iou_edges", "edges", "class_score", "predicted_iou"),
    "survivors": ("edges", "guided", "regular", "no_nms"),
    "refinement": ("boxes", "unchanged_below", "by_step", "by_start", "change", "steps"),
}
AGREEMENT = 1e-4  # AP of a matches file against the AP beside it, in [0, 1]


@dataclass(frozen=True)
class Results:
    """Everything a report is computed from.

    Attributes:
        evaluations: one row per variant, seed, split and setting; metrics in [0, 1]; `source` is the file's path below
            `root`, `stale` says why the row is out of date ('' when it is not).
        runs: one row per variant and seed; `source`, `history_source`, and `data` (the parsed run.json).
        histories: the training histories in one frame, with `variant`, `seed` and `source` columns.
        dataset: the manifest of the images, or None without one.
        diagnostics: one row per variant and seed that has any: `source`, `stale`, and `data` (the parsed file).
        speeds: one row per device whose inference was timed: `device`, `source`, `stale`, and `data`.
    """

    suite: Suite
    root: Path
    evaluations: pd.DataFrame
    runs: pd.DataFrame
    histories: pd.DataFrame
    dataset: Mapping[str, Any] | None
    diagnostics: pd.DataFrame = field(default_factory=pd.DataFrame)
    speeds: pd.DataFrame = field(default_factory=pd.DataFrame)
    _matches: dict[str, Matches] = field(default_factory=dict, repr=False)

    @property
    def is_generated(self) -> bool:
        """Whether the images were made by this project, in miniature, and not found in a folder."""
        return self.dataset is not None and "generator" in self.dataset

    @property
    def download(self) -> str | None:
        """Name of the public data set that the images are, if they are one."""
        return None if self.dataset is None else self.dataset.get("download")

    @cached_property
    def _by_source(self) -> dict[str, Any]:
        return {row["source"]: row for frame in (self.evaluations, self.runs) for row in frame.to_dict("records")}

    def evaluation(self, variant: str, seed: int, setting: str) -> Mapping[str, Any]:
        """The row of one evaluation on the suite's report split.

        Raises:
            NotInSuite: the variant is not in the suite.
            MissingResult: the evaluation file does not exist; the message names it.
        """
        self.suite.require(variant)
        path = evaluation_path(variant, seed, self.suite.split, setting)
        if path not in self._by_source:
            raise MissingResult(f"{self.root / path}: no such file; run the evaluation of this checkpoint")
        return self._by_source[path]

    def run(self, variant: str, seed: int) -> Mapping[str, Any]:
        """The row of one training run.

        Raises:
            NotInSuite: the variant is not in the suite.
            MissingResult: its run.json does not exist.
        """
        self.suite.require(variant)
        path = f"runs/{variant}/seed{seed}/run.json"
        if path not in self._by_source:
            raise MissingResult(f"{self.root / path}: no such file; run the training first")
        return self._by_source[path]

    def matches(self, variant: str, seed: int, setting: str) -> Matches:
        """The matches behind one evaluation; read once.

        Raises:
            MissingResult: the matches file does not exist.
            ReportError: it is damaged, or its AP is not the one in the evaluation file beside it.
        """
        row = self.evaluation(variant, seed, setting)
        source = row["source"].removesuffix(".json") + ".matches.json.gz"
        if source not in self._matches:
            self._matches[source] = load_matches(self.root / source, row["AP"], row["source"])
        return self._matches[source]


def evaluation_path(variant: str, seed: int, split: str, setting: str) -> str:
    """Path of an evaluation file below the results folder."""
    return f"evaluations/{variant}/seed{seed}/{split}/{setting}.json"


def read_json(path: Path) -> Any:
    """Parse a JSON file, gzipped or not.

    Raises:
        MissingResult: no such file.
        ReportError: not JSON, or a truncated archive.
    """
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except FileNotFoundError:
        raise MissingResult(f"{path}: no such file") from None
    except (OSError, EOFError, ValueError) as error:
        raise ReportError(f"{path}: damaged, cannot be read ({error}); delete it and evaluate again") from None


def load_matches(path: Path, stated: float | None, where: str) -> Matches:
    """A matches file, checked against the AP in [0, 1] that an evaluation file, `where`, states.

    Raises:
        MissingResult: it does not exist.
        ReportError: it is damaged, or gives another AP.
    """
    matches = Matches.from_json(read_json(path), path)
    recomputed = float(average_precision(matches, whole(matches)).mean())
    if stated is None or abs(recomputed - stated) > AGREEMENT:
        shown = "null" if stated is None else f"{stated:.4f}"
        raise ReportError(f"{path}: AP {recomputed:.4f} from the matches, but metrics.AP is {shown} in {where}")
    return matches


def need(data: Any, key: str, path: Path) -> Any:
    """The value at a dotted key.

    Raises:
        ReportError: naming file and key when it is missing.
    """
    for part in key.split("."):
        if not isinstance(data, Mapping) or part not in data:
            raise ReportError(f"{path}: key '{key}' is missing")
        data = data[part]
    return data


def _check(data: Any, path: Path, expected: Mapping[str, Any]) -> None:
    for key, value in expected.items():
        found = need(data, key, path)
        if found != value:
            raise ReportError(f"{path}: belongs to another place: key '{key}' is {found!r}, expected {value!r}")


def _check_dataset(found: str, fingerprint: str | None, path: Path, key: str) -> None:
    if fingerprint is not None and found != fingerprint:
        raise ReportError(
            f"{path}: made with another dataset: key '{key}' is {str(found)[:SHORT]}…, "
            f"data/dataset.json says {fingerprint[:SHORT]}…; train and evaluate again"
        )


def _metric(data: Any, name: str, path: Path) -> float:
    value = need(data, f"metrics.{name}", path)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ReportError(f"{path}: key 'metrics.{name}' must be in [0, 1] or null, found {value!r}")
    return float(value)


def _evaluation_row(path: Path, root: Path, suite: Suite, keys: Mapping[str, Any]) -> dict[str, Any]:
    data = read_json(path)
    _check(data, path, {"suite": suite.name, **keys, "setting.name": path.stem})
    guide, step_size = need(data, "setting.guide", path), need(data, "setting.step_size", path)
    if setting_name(guide, step_size) != path.stem:
        raise ReportError(f"{path}: key 'setting' describes '{setting_name(guide, step_size)}', not '{path.stem}'")
    return {
        **keys,
        "setting": path.stem,
        "guide": guide,
        "step_size": step_size,
        "num_steps": need(data, "setting.num_steps", path),
        **{name: _metric(data, name, path) for name in METRICS},
        **{key: need(data, key, path) for key in ("images", "detections", "seconds")},
        **{key: need(data, key, path) for key in ("checkpoint_sha256", "config_hash", "git_commit", "wandb_run_id")},
        "dataset_fingerprint": need(data, "dataset_fingerprint", path),
        "source": path.relative_to(root).as_posix(),
        "stale": "",
    }


def _diagnostics_row(path: Path, root: Path, suite: Suite, keys: Mapping[str, Any]) -> dict[str, Any]:
    data = read_json(path)
    _check(data, path, {"suite": suite.name, **keys})
    for key in ("images", "objects", "ascent", *(f"{part}.{key}" for part, own in DIAGNOSED.items() for key in own)):
        need(data, key, path)
    return {
        **keys,
        **{key: need(data, key, path) for key in ("checkpoint_sha256", "config_hash", "dataset_fingerprint")},
        "source": path.relative_to(root).as_posix(),
        "stale": "",
        "data": data,
    }


def _speed_rows(root: Path, suite: Suite, fingerprint: str | None, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The timed inference of each device; stale where it was of other checkpoints or configs than the evaluations."""
    known = {(row["variant"], row["seed"]): row for row in rows}
    speeds = []
    for path in sorted((root / "speed").glob("*.json")):
        data = read_json(path)
        _check(data, path, {"suite": suite.name, "device": path.stem})
        for key in ("blocks", "threads", "seed", "hardware", "versions", "checkpoints", "dataset_fingerprint"):
            need(data, key, path)
        for key in ("git_commit", "wandb_run_id", "hardware.cpu", "hardware.gpu", "versions.torch"):
            need(data, key, path)
        _check_dataset(data["dataset_fingerprint"], fingerprint, path, "dataset_fingerprint")
        reasons = []
        for variant, timed in data["checkpoints"].items():
            evaluated = known.get((variant, data["seed"]))
            for key, name in (("sha256", "checkpoint_sha256"), ("config_hash", "config_hash")):
                found = str(need(timed, key, path))
                if evaluated is not None and found != evaluated[name]:
                    other = str(evaluated[name])
                    reasons.append(f"{variant}: timed with {name} {found[:SHORT]}…, evaluated with {other[:SHORT]}…")
        source = path.relative_to(root).as_posix()
        speeds.append({"device": path.stem, "source": source, "stale": "; ".join(reasons), "data": data})
    return speeds


def _mark_stale(runs: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> None:
    """Set `stale` of evaluations that do not go with the runs there are, or with their variant's latest seed.

    A run's config hash covers what training depends on, an evaluation's the whole config: so each is compared with its
    own kind, across the seeds of a variant, the latest run being the one that is up to date.
    """
    by_place = {(run["variant"], run["seed"]): run["data"] for run in runs}
    latest = {run["variant"]: run for run in sorted(runs, key=lambda run: run["data"]["started"])}
    evaluated_with: dict[str, str] = {}
    for row in evaluations:
        if row["seed"] == latest[row["variant"]]["seed"]:
            evaluated_with.setdefault(row["variant"], row["config_hash"])
    for row in evaluations:
        run, current = by_place[row["variant"], row["seed"]], latest[row["variant"]]["data"]
        pairs = [
            ("evaluated from checkpoint", row["checkpoint_sha256"], run["checkpoint"]["sha256"], "the run beside it"),
            ("trained with config", run["config_hash"], current["config_hash"], f"seed {current['seed']}"),
            (
                "evaluated with config",
                row["config_hash"],
                evaluated_with.get(row["variant"], row["config_hash"]),
                f"seed {current['seed']}",
            ),
        ]
        row["stale"] = "; ".join(
            f"{what} {str(found)[:SHORT]}…, {where} has {str(expected)[:SHORT]}…"
            for what, found, expected, where in pairs
            if found != expected
        )


def _read_run(path: Path, suite: Suite, variant: str, seed: int) -> Any:
    data = read_json(path)
    _check(data, path, {"suite": suite.name, "variant": variant, "seed": seed})
    for key in ("config_hash", "git_commit", "git_dirty", "versions", "hardware", "wandb_run_id", "started"):
        need(data, key, path)
    for key in ("inputs.dataset_fingerprint", "wall_time_s", "epochs", "iterations", "mapped"):
        need(data, key, path)
    for key in ("checkpoint.sha256", "checkpoint.bytes"):
        need(data, key, path)
    return data


def _read_history(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path)
    except FileNotFoundError:
        raise MissingResult(f"{path}: no such file; run the training first") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: damaged, cannot be read ({error})") from None
    for column in ("step", "epoch"):
        if column not in frame:
            raise ReportError(f"{path}: column '{column}' is missing")
    for column in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            raise ReportError(f"{path}: column '{column}' holds something that is not a number")
    return frame


def collect(suite: Suite, root: Path, variants: list[str] | None = None) -> Results:
    """Read the results of a suite.

    Args:
        suite: the suite; only its variants, seeds and settings are read, anything else in the folder is ignored.
        root: the results folder, `results/<suite>`.
        variants: read these variants only; all of the suite's by default.

    Returns:
        The frames. A run or evaluation that does not exist is no row; it is an error once a table asks for it.

    Raises:
        ReportError: a file is damaged or belongs elsewhere; the message names file and key.
        MissingResult: there is no results folder, or a run's history is missing.
    """
    if not root.is_dir():
        raise MissingResult(f"{root}: no such results folder")
    manifest = root / "data" / "dataset.json"
    dataset = read_json(manifest) if manifest.exists() else None
    fingerprint = need(dataset, "fingerprint", manifest) if dataset is not None else None
    if variants is not None and not set(variants) <= set(suite.variants):
        raise NotInSuite(f"not in suite '{suite.name}': {', '.join(sorted(set(variants) - set(suite.variants)))}")

    runs: list[dict[str, Any]] = []
    histories: list[pd.DataFrame] = []
    evaluations: list[dict[str, Any]] = []
    diagnostics: list[dict[str, Any]] = []
    for variant in variants if variants is not None else suite.variants:
        for seed in suite.seeds:
            path = root / "runs" / variant / f"seed{seed}" / "run.json"
            if not path.exists():
                continue
            run = _read_run(path, suite, variant, seed)
            _check_dataset(run["inputs"]["dataset_fingerprint"], fingerprint, path, "inputs.dataset_fingerprint")
            history = path.with_name("history.csv")
            keys: dict[str, Any] = {"variant": variant, "seed": seed}
            sources = {"source": path.relative_to(root).as_posix()}
            history_source = history.relative_to(root).as_posix()
            runs.append({**keys, **sources, "history_source": history_source, "data": run})
            histories.append(_read_history(history).assign(**keys, source=history_source))
            folder = root / "evaluations" / variant / f"seed{seed}" / suite.split
            found = [(folder / f"{setting}.json", _evaluation_row, evaluations) for setting in suite.settings]
            for file, read, rows in [*found, (folder / "diagnostics.json", _diagnostics_row, diagnostics)]:
                if file.exists():
                    row = read(file, root, suite, {**keys, "split": suite.split})
                    _check_dataset(row["dataset_fingerprint"], fingerprint, file, "dataset_fingerprint")
                    rows.append(row)
    _mark_stale(runs, [*evaluations, *diagnostics])
    return Results(
        suite=suite,
        root=root,
        evaluations=pd.DataFrame(evaluations),
        runs=pd.DataFrame(runs),
        histories=pd.concat(histories, ignore_index=True) if histories else pd.DataFrame(),
        dataset=dataset,
        diagnostics=pd.DataFrame(diagnostics),
        speeds=pd.DataFrame(_speed_rows(root, suite, fingerprint, evaluations)),
    )

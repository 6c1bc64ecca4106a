"""One function per kind of result file: it reads the file, checks that it belongs where it lies, and returns a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reports.errors import ReportError
from reports.results.files import SHORT, check_dataset, check_place, metric, need, need_all, read_json, read_table
from suite.layout import EvaluationFolder, Layout, RunFolder
from suite.manifest import LEARNT, splits_digest
from suite.records import run_id
from suite.settings import Setting, setting_name
from suite.suite import Suite

METRICS = ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90", "APs", "APm", "APl")
DIAGNOSED = {  # what a report reads of diagnostics.json
    "setting": ("step_size", "num_steps"),
    "confidence": ("boxes", "true_iou_edges", "edges", "class_score", "predicted_iou"),
    "survivors": ("edges", "guided", "regular", "no_nms"),
    "refinement": ("boxes", "unchanged_below", "by_step", "by_start", "change", "steps"),
}
RUN_KEYS = (
    *("config_hash", "git_commit", "git_dirty", "versions", "hardware", "started"),
    *("wall_time_s", "epochs", "iterations", "mapped", "checkpoint.sha256", "checkpoint.bytes"),
)
SPEED_KEYS = (
    *("blocks", "threads", "seed", "checkpoints", "git_commit"),
    *("hardware.cpu", "hardware.gpu", "versions.torch"),
)


@dataclass(frozen=True)
class Place:
    """Results of a suite, and the manifest of its images (None without one): what every file must fit."""

    suite: Suite
    layout: Layout
    dataset: Mapping[str, Any] | None

    @property
    def fingerprint(self) -> str | None:
        """Of the images."""
        return None if self.dataset is None else str(self.dataset["fingerprint"])

    def run(self, variant: str, seed: int) -> dict[str, Any] | None:
        """`variant, seed, source, history_source, record_source, wandb_run_id` and `data`, the parsed run.json.

        Returns:
            The row; None if the training is not there.

        Raises:
            ReportError: the file is damaged or belongs elsewhere.
        """
        return self.training(self.layout.run(variant, seed), variant, seed, {"variant": variant})

    def training(self, folder: RunFolder, name: str, seed: int, place: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row of a training in this folder, as `run` has it, with a name as its variant.

        `place` is what run.json says of it beside suite and seed. Raises as `run` does.
        """
        path = folder.run
        if not path.exists():
            return None
        data = read_json(path)
        check_place(data, path, {"suite": self.suite.name, **place, "seed": seed})
        need_all(data, RUN_KEYS, path)
        self._check_learnt(data, path)
        source = self.layout.relative(path)
        return {
            "variant": name,
            "seed": seed,
            "source": source,
            "history_source": self.layout.relative(folder.history),
            "record_source": source if "wandb_run_id" in data else self.layout.relative(folder.record),
            "wandb_run_id": run_id(folder.record, data),
            "data": data,
        }

    def _check_learnt(self, run: Mapping[str, Any], path: Path) -> None:
        """Check that a training looked at the images there are; what else the data hold does not matter to it."""
        if self.dataset is not None and LEARNT in run["inputs"]:
            looked_at = (need(run, "trained_on.split", path), self.suite.validation.split)
            check_dataset(run, path, f"inputs.{LEARNT}", splits_digest(self.dataset, looked_at))
        else:
            check_dataset(run, path, "inputs.dataset_fingerprint", self.fingerprint)

    def history(self, variant: str, seed: int) -> pd.DataFrame:
        """The curves of a training, with `variant`, `seed` and `source` columns.

        Raises:
            MissingResult: the file does not exist.
            ReportError: it is damaged.
        """
        path = self.layout.run(variant, seed).history
        frame = read_table(path, ("step", "epoch"), "run the training first")
        for column in frame.columns:
            if not pd.api.types.is_numeric_dtype(frame[column]):
                raise ReportError(f"{path}: column '{column}' holds something that is not a number")
        return frame.assign(variant=variant, seed=seed, source=self.layout.relative(path))

    def evaluation(
        self, variant: str, seed: int, setting: Setting, folder: EvaluationFolder | None = None
    ) -> dict[str, Any] | None:
        """The metrics of one setting in [0, 1], and what they were made with; None if there is no such file.

        `folder` is where the evaluation lies, if not in its own place.

        Raises:
            ReportError: the file is damaged or belongs elsewhere.
        """
        folder = folder or self.layout.evaluation(variant, seed, self.suite.report_split)
        path = folder.setting(setting.name)
        if not path.exists():
            return None
        data = read_json(path)
        keys = {"variant": variant, "seed": seed, "split": self.suite.report_split}
        check_place(data, path, {"suite": self.suite.name, **keys, "setting.name": setting.name})
        guide, step_size = need(data, "setting.guide", path), need(data, "setting.step_size", path)
        described = setting_name(guide, step_size, data["setting"].get("part"))
        if described != setting.name:
            raise ReportError(f"{path}: key 'setting' describes '{described}', not '{setting.name}'")
        described_by = {"guide": guide, "step_size": step_size, "num_steps": need(data, "setting.num_steps", path)}
        found = {**self.evaluated(data, path, folder), "seconds": need(data, "seconds", path)}
        return {**keys, "setting": setting.name, **described_by, **found}

    def evaluated(self, data: Mapping[str, Any], path: Path, folder: EvaluationFolder) -> dict[str, Any]:
        """What a row has of every evaluation file in a folder: metrics, and what they were made with.

        Raises:
            ReportError: the file is damaged or belongs elsewhere.
        """
        check_dataset(data, path, "dataset_fingerprint", self.fingerprint)
        copied = ("images", "detections", "checkpoint_sha256", "config_hash", "git_commit")
        return {
            **{name: metric(data, name, path) for name in METRICS},
            **{key: need(data, key, path) for key in (*copied, "dataset_fingerprint")},
            "wandb_run_id": run_id(folder.record, data),
            "source": self.layout.relative(path),
            "stale": "",
        }

    def diagnostics(self, variant: str, seed: int) -> dict[str, Any] | None:
        """The diagnostics of a checkpoint (`data`), and what they were made with; None if there is no such file.

        Raises:
            ReportError: the file is damaged or belongs elsewhere.
        """
        folder = self.layout.evaluation(variant, seed, self.suite.report_split)
        path = folder.diagnostics
        if not path.exists():
            return None
        data = read_json(path)
        keys = {"variant": variant, "seed": seed, "split": self.suite.report_split}
        check_place(data, path, {"suite": self.suite.name, **keys})
        read = (f"{part}.{key}" for part, own in DIAGNOSED.items() for key in own)
        need_all(data, ("images", "objects", "ascent", *read), path)
        check_dataset(data, path, "dataset_fingerprint", self.fingerprint)
        return {
            **keys,
            **{key: need(data, key, path) for key in ("checkpoint_sha256", "config_hash", "dataset_fingerprint")},
            "wandb_run_id": run_id(folder.record, data),
            "source": self.layout.relative(path),
            "stale": "",
            "data": data,
        }

    def speeds(self) -> list[dict[str, Any]]:
        """The timed inference of each device: `device, source, wandb_run_id, stale` and `data`, the parsed file.

        Raises:
            ReportError: a file is damaged or belongs elsewhere.
        """
        rows = []
        for path in self.layout.speeds():
            data = read_json(path)
            check_place(data, path, {"suite": self.suite.name, "device": path.stem})
            need_all(data, SPEED_KEYS, path)
            check_dataset(data, path, "dataset_fingerprint", self.fingerprint)
            for timed in data["checkpoints"].values():
                need_all(timed, ("sha256", "config_hash"), path)
            rows.append(
                {
                    "device": path.stem,
                    "source": self.layout.relative(path),
                    "wandb_run_id": run_id(self.layout.speed_record(path.stem), data),
                    "stale": "",
                    "data": data,
                }
            )
        return rows


def mark_stale_evaluations(runs: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Set `stale` of evaluations that do not go with the runs there are, or with their variant's latest seed.

    A run's config hash covers what training depends on, an evaluation's the whole config: so each is compared with its
    own kind, across the seeds of a variant, the latest run being the one that is up to date.
    """
    by_place = {(run["variant"], run["seed"]): run["data"] for run in runs}
    latest = {run["variant"]: run["data"] for run in sorted(runs, key=lambda run: run["data"]["started"])}
    evaluated_with: dict[str, str] = {}
    for row in rows:
        if row["seed"] == latest[row["variant"]]["seed"]:
            evaluated_with.setdefault(row["variant"], row["config_hash"])
    for row in rows:
        run, current = by_place[row["variant"], row["seed"]], latest[row["variant"]]
        beside, newest = "the run beside it", f"seed {current['seed']}"
        hashes = evaluated_with.get(row["variant"], row["config_hash"])
        compared = [
            ("evaluated from checkpoint", row["checkpoint_sha256"], run["checkpoint"]["sha256"], beside),
            ("trained with config", run["config_hash"], current["config_hash"], newest),
            ("evaluated with config", row["config_hash"], hashes, newest),
        ]
        row["stale"] = "; ".join(
            f"{what} {str(found)[:SHORT]}…, {where} has {str(expected)[:SHORT]}…"
            for what, found, expected, where in compared
            if found != expected
        )


def mark_stale_speeds(evaluations: list[dict[str, Any]], speeds: list[dict[str, Any]]) -> None:
    """Set `stale` of speeds that were timed with other checkpoints or configs than the evaluations."""
    by_place = {(row["variant"], row["seed"]): row for row in evaluations}
    for speed in speeds:
        reasons = []
        for variant, timed in speed["data"]["checkpoints"].items():
            evaluated = by_place.get((variant, speed["data"]["seed"]))
            for key, name in (("sha256", "checkpoint_sha256"), ("config_hash", "config_hash")):
                found = str(timed[key])
                if evaluated is not None and found != evaluated[name]:
                    other = str(evaluated[name])
                    reasons.append(f"{variant}: timed with {name} {found[:SHORT]}…, evaluated with {other[:SHORT]}…")
        speed["stale"] = "; ".join(reasons)

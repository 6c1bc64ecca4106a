"""The run of a training: every row of its history, its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.config import changes_of_head, fit_schedule, resolve_config, set_classes
from experiments.history import read_metrics
from experiments.tracking.references import checkpoint_artifact, dataset_artifact, refiner_name
from experiments.tracking.runs import Contents, Json, Stage, log_artifact
from suite.blocks import BASELINE
from suite.files import read_json
from suite.layout import RunFolder
from suite.suite import PRETRAINING, Suite


def training_stage(suite: Suite, folder: RunFolder) -> Stage:
    """The finished training in a folder."""
    run = read_json(folder.run)
    variant, seed = run["variant"], run["seed"]
    head = run.get("head")  # of a refiner
    shown_as = refiner_name(head) if head else variant
    name, alias = checkpoint_artifact(suite, shown_as, seed, run["checkpoint"]["sha256"]).split(":")

    def contents(run_id: str) -> Contents:
        history = read_metrics(folder.metrics)
        kept = ("git_commit", "git_dirty", "versions", "hardware", "config_hash", "mapped")
        config = training_config(suite, variant, seed, _trained_config(suite, run))
        config |= {key: run.get(key) for key in kept} | run["inputs"] | ({"head": head} if head else {})
        config["uses"] = _uses(suite, run["inputs"])
        validations = [row for row in history if any(key.startswith("val/") for key in row)]
        last = validations[-1] if validations else {}
        metadata = {key: run[key] for key in ("config_hash", "epochs", "iterations")}
        metadata |= {key: value for key, value in last.items() if key.startswith("val/")}

        def fill(tracked: Any) -> None:
            log_rows(tracked, history)
            tracked.summary["wall_time_s"] = run["wall_time_s"]
            files = [path for path in (folder.checkpoint, folder.config) if path.is_file()]
            log_artifact(tracked, suite, name, "checkpoint", ["best", alias], files=files, metadata=metadata)

        return Contents(group=shown_as, job_type="train", config=config, fill=fill)

    begun = {"training_hash": run["config_hash"], "seed": seed, "ranks": run["ranks"], **run["inputs"]}
    identity = {**begun, "checkpoint": run["checkpoint"]}  # the live view claims its run by what is known at the start
    return Stage(name=name, record=folder.record, result=run, identity=identity, contents=contents)


def live_run(suite: Suite, variant: str, seed: int, config: Json) -> tuple[str, Contents]:
    """Name and contents of the run that shows a training while it goes on: those that `training_stage` will have.

    Args:
        suite: a checked suite.
        variant: of the suite, or 'pretraining'.
        seed: of the training.
        config: the resolved mmdet config.
    """
    name = checkpoint_artifact(suite, variant, seed, "").rstrip(":")
    settings = training_config(suite, variant, seed, config)
    return name, Contents(group=variant, job_type="train", config=settings, fill=lambda run: None)


def training_config(suite: Suite, variant: str, seed: int, config: Json) -> dict[str, Any]:
    """What the config of a run says of its variant; the folder of the results, a machine's own affair, is left out."""
    settings = {key: value for key, value in suite.raw.items() if key != "results"}
    raw = suite.raw
    entries = {PRETRAINING: raw.get("pretraining"), **raw["detectors"], **raw["variants"]}
    entry = {"family": BASELINE, **entries[variant]}
    named = {"suite": suite.name, "variant": variant, "seed": seed, "entry": entry}
    return {**named, "suite_settings": settings, "mmdet": config}


def log_rows(run: Any, rows: Iterable[Mapping[str, float]], defined: set[str] | None = None) -> None:
    """Logs rows of metrics.jsonl at their own steps.

    Everything goes by iteration, which survives a resume; of a validation metric the largest value is its summary.

    Args:
        run: of W&B.
        rows: steps ascending.
        defined: metrics that earlier calls defined; this one adds its own. (Of two globs that match, W&B takes any.)
    """
    defined = set() if defined is None else defined
    for row in rows:
        values = {key: value for key, value in row.items() if key != "step"}
        for key in values.keys() - defined:
            run.define_metric(key, step_metric="iteration", summary="max" if key.startswith("val/") else None)
        defined.update(values)
        run.log({"iteration": row["step"], **values}, step=int(row["step"]))


def _uses(suite: Suite, inputs: Json) -> list[str]:
    """References of the artifacts that a training starts from."""
    uses = [dataset_artifact(suite, inputs["dataset_fingerprint"])]
    if pretraining := inputs.get("pretraining_sha256"):
        uses.append(checkpoint_artifact(suite, PRETRAINING, suite.variant(PRETRAINING).seed, pretraining))
    return uses


def _trained_config(suite: Suite, run: Json) -> dict[str, Any]:
    """The mmdet config that a training ran with: resolved, for the classes of the data, its schedule fitted to them."""
    cfg = resolve_config(suite, run["variant"], changes_of_head(run["head"]) if "head" in run else None)
    if suite.layout.data.manifest.is_file():  # trainings may be copied without their images
        set_classes(cfg, read_json(suite.layout.data.manifest)["categories"])
    ranks = run["ranks"]
    fit_schedule(cfg, ranks, math.ceil(run["trained_on"]["images"] / (ranks * cfg.data.samples_per_gpu)))
    return cfg._cfg_dict.to_dict()

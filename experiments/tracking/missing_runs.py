"""Writes the W&B runs of stages that finished while W&B was disabled or could not be used, from what they left."""

import os
from pathlib import Path
from typing import Any

from experiments.config import default_setting, resolve_config, set_classes
from experiments.data.datasets import build_split, dataset_classes
from experiments.history import METRICS, read_metrics
from experiments.tracking import stages as tracking
from experiments.tracking.offline import offline_runs, read_run
from experiments.tracking.track_report import track_report
from suite.files import read_json, write_json
from suite.suite import Suite, load_suite


def write_missing_runs(results: Path) -> int:
    """Writes the runs that are missing below `results` and their ids into the stages' files; returns how many."""
    written = 0
    names = {read_run(run)["name"] for run in offline_runs(results)}
    for file in sorted(results.glob("*/suite.yaml")):
        suite, root = load_suite(file).changed(results=str(results)), file.parent
        manifest = root / "data" / "dataset.json"
        if f"{suite.name}__data" not in names and manifest.is_file():
            written += tracking.log_dataset(suite, manifest) is not None
        for path in [root / "pretraining/run.json", *sorted(root.glob("runs/*/seed*/run.json"))]:
            written += path.is_file() and _write(path, suite, _training)
        for path in sorted(root.glob("evaluations/*/seed*/*/evaluation.json")):
            written += path.parents[2].name in suite.variants and _write(path, suite, _evaluation)
        if f"{suite.name}__report" not in names and (root / "report/README.md").is_file():
            written += track_report(suite, root / "report") is not None
    return written


def _write(path: Path, suite: Suite, write: Any) -> bool:
    if read_json(path).get("wandb_run_id") is not None:
        return False
    run_id = write(suite, path.parent)
    for file in path.parent.glob("*.json") if run_id else ():
        record, times = read_json(file), file.stat()
        if "wandb_run_id" in record:
            write_json(file, {**record, "wandb_run_id": run_id})
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # no new result: nothing is to be made again
    return run_id is not None


def _training(suite: Suite, folder: Path) -> str | None:
    run = read_json(folder / "run.json")
    return tracking.log_training(
        suite,
        run["variant"],
        run["seed"],
        run=run,
        config=resolve_config(suite, run["variant"])._cfg_dict.to_dict(),
        history=read_metrics(folder / METRICS),
        checkpoint=folder / "checkpoint.pth",
        upload=False,
    )


def _evaluation(suite: Suite, folder: Path) -> str | None:
    index = read_json(folder / "evaluation.json")
    results = {name: read_json(folder / f"{name}.json") for name in index["AP"]}
    first = next(iter(results.values()))
    cfg, data = resolve_config(suite, first["variant"]), folder.parents[3] / "data"
    set_classes(cfg, dataset_classes(data))
    dataset = build_split(cfg, data, first["split"])
    diagnostics = folder / "diagnostics.json"
    return tracking.log_evaluation(
        suite,
        first["variant"],
        first["seed"],
        first["split"],
        config=cfg._cfg_dict.to_dict(),
        origin={key: index[key] for key in tracking.ORIGIN},
        machine={},
        results=results,
        diagnostics=read_json(diagnostics) if diagnostics.is_file() else None,
        detections=folder / "detections.json.gz",
        annotations=Path(dataset.ann_file),
        images=Path(dataset.img_prefix),
        own=default_setting(cfg).name,
        upload=False,
    )

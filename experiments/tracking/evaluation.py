"""The run of an evaluation: tables of AP, AP per class, charts, sample images; its files as an artifact."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.config import default_setting, resolve_config, set_classes
from experiments.tracking import panels
from experiments.tracking.references import checkpoint_artifact, dataset_artifact, evaluation_artifact
from experiments.tracking.runs import Contents, Json, Stage, log, log_artifact, tracks
from experiments.tracking.training import training_config
from suite.files import read_json
from suite.images import read_image
from suite.layout import EvaluationFolder
from suite.records import FIRST_RELEASE
from suite.suite import Suite

ORIGIN = ("checkpoint_sha256", "config_hash", "git_commit", "dataset_fingerprint")
MACHINE = ("versions", "hardware")


@tracks
def log_evaluation(suite: Suite, folder: EvaluationFolder, *, config: Any = None) -> str | None:
    """Logs the evaluation in a folder; its images are the suite's data.

    Args:
        suite: a checked suite.
        folder: of the evaluation of one of its variants, or of a trial of its sweep. The latter's files call the
            variant by a name that the suite does not have, and its checkpoint is no artifact.
        config: mmcv.Config, resolved; None = the variant's. A trial's has other parameters than the sweep's base.

    Returns:
        The run's id; None if nothing was logged.
    """
    return log(suite, evaluation_stage(suite, folder, config))


def evaluation_stage(
    suite: Suite, folder: EvaluationFolder, config: Any = None, *, shown_as: str | None = None
) -> Stage:
    """The evaluation in a folder; see `log_evaluation`. With `shown_as` its run and artifact are called so."""
    index = read_json(folder.index)
    results = {name: read_json(folder.setting(name)) for name in index["AP"]}
    first = next(iter(results.values()))  # `off`, where all settings were evaluated
    evaluated, seed, split = first["variant"], first["seed"], first["split"]
    shown_as = shown_as or evaluated
    origin = {key: index[key] for key in ORIGIN}

    def contents(run_id: str) -> Contents:
        # without a config, `resolve_config` refuses the name that the files of a trial have
        cfg = resolve_config(suite, evaluated) if config is None else copy.deepcopy(config)
        set_classes(cfg, read_json(suite.layout.data.manifest)["categories"])
        variant = evaluated if evaluated in suite.variants or suite.sweep is None else suite.sweep.base
        own = default_setting(cfg).name
        diagnostics = read_json(folder.diagnostics) if folder.diagnostics.is_file() else None
        uses = [dataset_artifact(suite, origin["dataset_fingerprint"])]
        if evaluated == variant:
            uses.insert(0, checkpoint_artifact(suite, variant, seed, origin["checkpoint_sha256"]))
        logged = training_config(suite, variant, seed, cfg._cfg_dict.to_dict())
        logged |= {"split": split, "images": first["images"], "uses": uses, **origin}
        logged |= {key: index[key] for key in MACHINE if key in index}

        def fill(run: Any) -> None:
            names = list(results)
            shown = dict.fromkeys([names[0], own if own in results else names[-1]])
            samples = _samples(suite, folder, split, [results[name]["setting"] for name in shown])
            run.log({**tables(results), **_charts(results, diagnostics), "samples": samples})
            for setting, result in results.items():
                run.summary.update({f"{setting}/{key}": v for key, v in result["metrics"].items() if v is not None})
            artifact, alias = evaluation_artifact(suite, shown_as, seed, split, run_id).split(":")
            files = {f"{name}.json": {**result, FIRST_RELEASE: run_id} for name, result in results.items()}
            if diagnostics is not None:
                files["diagnostics.json"] = {key: item for key, item in diagnostics.items() if key != FIRST_RELEASE}
            whole = [folder.detections]
            log_artifact(run, suite, artifact, "evaluation", [alias], files=whole, contents=files, metadata=origin)

        return Contents(group=shown_as, job_type="eval", config=logged, fill=fill)

    return Stage(
        name=evaluation_artifact(suite, shown_as, seed, split, "").rstrip(":"),
        record=folder.record,
        result=index,
        identity={**origin, "AP": index["AP"]},
        contents=contents,
    )


def tables(results: Mapping[str, Json]) -> dict[str, Any]:
    """AP, and AP by class, of each way of detecting."""
    import wandb

    first = next(iter(results.values()))
    return {
        table: wandb.Table(["setting", *first[key]], [[name, *r[key].values()] for name, r in results.items()])
        for table, key in (("average_precision", "metrics"), ("average_precision_by_class", "per_class"))
    }


def _charts(results: Mapping[str, Json], diagnostics: Json | None) -> dict[str, Any]:
    import wandb

    charts = {}
    for key, chart in panels.charts(results, diagnostics).items():
        xs, ys = ([[point[axis] for point in points] for points in chart.curves.values()] for axis in (0, 1))
        charts[key] = wandb.plot.line_series(xs, ys, keys=list(chart.curves), title=chart.title, xname=chart.x)
    return charts


def _samples(suite: Suite, folder: EvaluationFolder, split: str, settings: Sequence[Json]) -> Any:
    """The table of sample images, each with its boxes in these settings."""
    import wandb

    data = suite.layout.data
    samples = panels.sample_images(
        read_json(data.annotations(split)), data.images(split), read_json(folder.detections), settings
    )
    table = wandb.Table(["image", "ground truth", *(setting["name"] for setting in settings)])
    for sample in samples:
        shown = {"ground_truth": sample["ground_truth"], **sample["predictions"]}
        images = [
            wandb.Image(read_image(sample["path"]), boxes={kind: {"box_data": boxes, "class_labels": sample["labels"]}})
            for kind, boxes in shown.items()
        ]
        table.add_data(sample["id"], *images)
    return table

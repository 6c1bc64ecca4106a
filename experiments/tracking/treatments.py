"""The run of a detector's boxes in every treatment: tables of AP and of AP by class; its files as an artifact."""

from __future__ import annotations

from typing import Any

from experiments.tracking.evaluation import MACHINE, ORIGIN, tables
from experiments.tracking.references import (
    checkpoint_artifact,
    dataset_artifact,
    evaluation_artifact,
    refiner_name,
    treated_name,
)
from experiments.tracking.runs import Contents, Stage, log_artifact
from suite.files import read_json
from suite.layout import TreatmentFolder
from suite.suite import Suite


def treatment_stage(suite: Suite, folder: TreatmentFolder) -> Stage:
    """The treatments in a folder; their inputs are the detector's checkpoint and the refiners."""
    index = read_json(folder.index)
    detector, seed, split = index["variant"], index["seed"], index["split"]
    shown_as = treated_name(detector)
    origin = {key: index[key] for key in (*ORIGIN, "refiners")}

    def contents(run_id: str) -> Contents:
        results = {name: read_json(folder.setting(name)) for name in index["AP"]}
        uses = [checkpoint_artifact(suite, detector, seed, index["checkpoint_sha256"])]
        for head, refiner in index["refiners"].items():
            uses.append(checkpoint_artifact(suite, refiner_name(head), seed, refiner["sha256"]))
        uses.append(dataset_artifact(suite, index["dataset_fingerprint"]))
        counted = {key: index[key] for key in ("images", "candidates", "seconds", *MACHINE)}
        config = {"suite": suite.name, "detector": detector, "seed": seed, "split": split, "uses": uses}

        def fill(run: Any) -> None:
            run.log(tables(results))
            for name, result in results.items():
                run.summary.update({f"{name}/{key}": v for key, v in result["metrics"].items() if v is not None})
            artifact, alias = evaluation_artifact(suite, shown_as, seed, split, run_id).split(":")
            files = {f"{name}.json": result for name, result in results.items()}
            whole = [folder.detections]
            log_artifact(run, suite, artifact, "evaluation", [alias], files=whole, contents=files, metadata=origin)

        return Contents(group=shown_as, job_type="treat", config={**config, **origin, **counted}, fill=fill)

    return Stage(
        name=evaluation_artifact(suite, shown_as, seed, split, "").rstrip(":"),
        record=folder.record,
        result=index,
        identity={**origin, "AP": index["AP"]},
        contents=contents,
    )

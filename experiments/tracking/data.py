"""The run of a data set; its artifact is the manifest, from which the images can be made or checked again."""

from __future__ import annotations

from typing import Any

from experiments.tracking.references import dataset_artifact
from experiments.tracking.runs import Contents, Stage, log_artifact
from suite.files import read_json
from suite.layout import DataFolder
from suite.suite import Suite


def data_stage(suite: Suite, folder: DataFolder) -> Stage:
    """The data set in a folder."""
    manifest = read_json(folder.manifest)
    fingerprint = manifest["fingerprint"]
    name, alias = dataset_artifact(suite, fingerprint).split(":")

    def fill(run: Any) -> None:
        log_artifact(run, suite, name, "dataset", [alias], files=[folder.manifest], metadata=manifest["splits"])

    config = {"suite": suite.name, "dataset": suite.raw["dataset"], "dataset_fingerprint": fingerprint}
    return Stage(
        name=name,
        record=folder.record,
        result=manifest,
        identity={"fingerprint": fingerprint},
        contents=lambda run_id: Contents(group="data", job_type="data", config=config, fill=fill),
    )

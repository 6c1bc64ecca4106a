"""The run of a report: tables/*.csv as tables, figures/*.png as images, both and README.md as an artifact."""

from __future__ import annotations

from typing import Any

from experiments.tracking.references import evaluation_artifact
from experiments.tracking.runs import Contents, Stage, log_artifact
from suite import provenance
from suite.files import read_json, sha256
from suite.layout import ReportFolder
from suite.records import FIRST_RELEASE
from suite.suite import Suite


def report_stage(suite: Suite, folder: ReportFolder) -> Stage:
    """The report in a folder; its inputs are the evaluations that its provenance.json names."""
    contents = read_json(folder.provenance)
    tables, figures = sorted(folder.tables.glob("*.csv")), sorted(folder.figures.glob("*.png"))
    files, name = [folder.readme, *tables, *figures], f"{suite.name}__report"
    uses = {
        evaluation_artifact(suite, file["variant"], file["seed"], file["split"], file[FIRST_RELEASE])
        for path, file in contents["files"].items()
        if path.startswith("evaluations/") and file.get(FIRST_RELEASE)
    }

    def fill(run: Any) -> None:
        import pandas as pd
        import wandb

        values: dict[str, Any] = {}
        for path in tables:
            frame = pd.read_csv(path)
            frame = frame.astype(object).where(frame.notna(), None)
            values[f"tables/{path.stem}"] = wandb.Table(dataframe=frame)
        values |= {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}
        run.log(values)
        log_artifact(run, suite, name, "report", [], files=files, base=folder.path)

    config = {"suite": suite.name, "title": suite.title, "uses": sorted(uses), "versions": provenance.versions()}
    return Stage(
        name=name,
        record=folder.record,
        result={},
        identity={path.relative_to(folder.path).as_posix(): sha256(path) for path in [*files, folder.provenance]},
        contents=lambda run_id: Contents(group="report", job_type="report", config=config, fill=fill),
    )

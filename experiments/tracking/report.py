"""The run of a report, or of a page beside it.

Its tables/*.csv are tables, its figures/*.png images; both and README.md are an artifact.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from experiments.tracking.references import evaluation_artifact, swapped_name, treated_name
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
    places = [page.path.resolve() for page in suite.layout.pages]
    page = folder.path.name if folder.path.resolve() in places else "report"
    files, name = [folder.readme, *tables, *figures], f"{suite.name}__{page}"
    uses = {_evaluation(suite, path, file) for path, file in contents["files"].items() if file.get(FIRST_RELEASE)}

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

    config = {
        "suite": suite.name,
        "title": suite.title,
        "uses": sorted(filter(None, uses)),
        "versions": provenance.versions(),
    }
    return Stage(
        name=name,
        record=folder.record,
        result={},
        identity={path.relative_to(folder.path).as_posix(): sha256(path) for path in [*files, folder.provenance]},
        contents=lambda run_id: Contents(group="report", job_type="report", config=config, fill=fill),
    )


def _evaluation(suite: Suite, path: str, file: dict[str, Any]) -> str | None:
    """The artifact of the evaluation that a results file belongs to; None if it belongs to none."""
    kind, below, *_ = PurePosixPath(path).parts
    if kind not in ("evaluations", "treatments", "pooling_data"):
        return None
    shown_as = file["variant"]
    if kind == "treatments":
        shown_as = treated_name(shown_as)
    elif kind == "pooling_data":
        shown_as = swapped_name(shown_as, below)
    return evaluation_artifact(suite, shown_as, file["seed"], file["split"], file[FIRST_RELEASE])

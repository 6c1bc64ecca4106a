"""The runs of RoI poolings: an IoU-Net's evaluation with another one, and what was measured of each."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from experiments.config import resolve_config
from experiments.pooling.rows import changes_of
from experiments.tracking.evaluation import MACHINE, evaluation_stage
from experiments.tracking.references import checkpoint_artifact, dataset_artifact, swapped_name
from experiments.tracking.runs import Contents, Stage, log_artifact
from suite.files import read_json
from suite.layout import EvaluationFolder
from suite.suite import Suite


def swapped_stage(suite: Suite, folder: EvaluationFolder) -> Stage:
    """The evaluation of an IoU-Net's checkpoint with another RoI pooling, which the folders are named after."""
    variant, pooling = read_json(folder.index)["variant"], folder.path.resolve().parents[1].name
    config = resolve_config(suite, variant, changes_of(pooling))
    return evaluation_stage(suite, folder, config, shown_as=swapped_name(variant, pooling))


def measured_stage(suite: Suite) -> Stage:
    """What was measured of RoI poolings: `pooling/<name>/value_error` of the detector's own RoIs, mean over the seeds,
    and `pooling/<name>/forward_ratio` to Precise RoI Pooling's time; the file as an artifact.
    """
    file = suite.layout.measured_pooling
    result = read_json(file)
    name = f"{suite.name}__pooling__measured"

    def contents(run_id: str) -> Contents:
        uses = [dataset_artifact(suite, result["dataset_fingerprint"])]
        for seed, own in result["checkpoints"].items():
            uses.append(checkpoint_artifact(suite, result["variant"], seed, own["sha256"]))
        kept = ("suite", "variant", "split", "seeds", "settings", "samples", "measured", "git_commit", *MACHINE)

        def fill(run: Any) -> None:
            own = result["measured"]["rows"].index("own")
            timed = result["times"]["timed"]["forward"]
            for pooling in (result["exact"], *result["samples"]):
                errors = [seed["error"][pooling][own] for seed in result["values"]]
                if None not in errors:
                    run.summary[f"pooling/{pooling}/value_error"] = fmean(errors)
                run.summary[f"pooling/{pooling}/forward_ratio"] = timed[pooling]["ratio"]["median"]
            log_artifact(run, suite, name, "measurement", [run_id], files=[file])

        config = {key: result[key] for key in kept}
        return Contents(group="pooling", job_type="measure", config={**config, "uses": uses}, fill=fill)

    return Stage(
        name=name,
        record=suite.layout.measured_pooling_record,
        result=result,
        identity={key: result[key] for key in ("checkpoints", "dataset_fingerprint", "values", "times")},
        contents=contents,
    )

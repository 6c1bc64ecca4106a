"""The run of timed inference: a table, and every number in it by the name of its row."""

from __future__ import annotations

from typing import Any

from experiments.tracking.references import checkpoint_artifact, dataset_artifact
from experiments.tracking.runs import Contents, Stage
from suite.files import read_json
from suite.records import FIRST_RELEASE
from suite.suite import Suite

MEASURES = ("latency_ms", "ratio", "ratio_without_pooling")


def speed_stage(suite: Suite, device: str) -> Stage:
    """What was timed on a device: the table `speed`, `speed/<row>_batch<n>/<measure>` for every number in it, and
    `speed/<row>/AP` of the row in reduced precision and of the one that it is compared with.
    """
    result = read_json(suite.layout.speed(device))

    def contents(run_id: str) -> Contents:
        rows = [
            {
                "row": key,
                "batch_size": block["batch_size"],
                "fps": row["fps"],
                **{m: row[m]["median"] for m in MEASURES},
            }
            for block in result["blocks"]
            for key, row in block["rows"].items()
        ]

        def fill(run: Any) -> None:
            import wandb

            columns: list[Any] = list(rows[0])
            run.log({"speed": wandb.Table(columns, [list(row.values()) for row in rows])})
            for row in rows:
                place = f"speed/{row['row']}_batch{row['batch_size']}"
                run.summary.update({f"{place}/{measure}": row[measure] for measure in ("fps", *MEASURES)})
            for key, metrics in (result["reduced_precision"] or {"metrics": {}})["metrics"].items():
                run.summary[f"speed/{key}/AP"] = metrics["AP"]

        uses = [dataset_artifact(suite, result["dataset_fingerprint"])]
        for variant, timed in result["checkpoints"].items():
            uses.append(checkpoint_artifact(suite, variant, result["seed"], timed["sha256"]))
        left_out = ("blocks", "reduced_precision", FIRST_RELEASE)
        config = {key: value for key, value in result.items() if key not in left_out}
        return Contents(group="speed", job_type="speed", config={**config, "uses": uses}, fill=fill)

    return Stage(
        name=f"{suite.name}__speed__{device}",
        record=suite.layout.speed_record(device),
        result=result,
        identity={key: result[key] for key in ("checkpoints", "dataset_fingerprint", "blocks")},
        contents=contents,
    )

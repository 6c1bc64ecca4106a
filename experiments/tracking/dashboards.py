"""The W&B project's workspace and report as code: `python -m experiments dashboards`; online.

A panel is one entry of `sections`, under the name that a stage logs its values by.
"""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from experiments.speed.rows import timed_settings
from experiments.tracking.runs import PROJECT
from experiments.tracking.telling import tell
from suite.errors import NotInSuite, SuiteError, exits_on_error
from suite.suite import Suite, load_suite

LOSSES = ("loss", "loss_cls", "loss_bbox", "loss_iou", "loss_rpn_cls", "loss_rpn_bbox")
TRAINING = ("acc", "lr", "grad_norm", "time", "memory")
VALIDATION = ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90")


def sections(suite: Suite) -> dict[str, list[Any]]:
    """Panels by the section's title; workspace and report show the same ones."""
    import wandb_workspaces.reports.v2 as wr

    settings = list(dict.fromkeys(s.name for variant in suite.variants for s in suite.settings(variant)))
    try:
        timed = [f"speed/{row.key}_batch1" for row in timed_settings(suite)]
    except NotInSuite:
        timed = []
    return {
        "Training losses": [
            *(wr.LinePlot(title=key, x="iteration", y=[key], smoothing_factor=0.6) for key in LOSSES),
            *(wr.LinePlot(title=key, x="iteration", y=[key]) for key in TRAINING),
        ],
        "AP by threshold": [
            *(wr.LinePlot(title=f"validation {key}", x="epoch", y=[f"val/{key}"]) for key in VALIDATION),
            _curves("ap_by_threshold"),
            *(
                wr.BarPlot(title=f"{key} by setting", metrics=[wr.SummaryMetric(f"{name}/{key}") for name in settings])
                for key in ("AP", "AP50", "AP75", "AP90")
            ),
        ],
        "Paper vs. ours": [
            *(_table(f"tables/{name}") for name in ("main", "ablation", "claims")),
            wr.MediaBrowser(media_keys=["figures/improvement", "figures/thresholds"], num_columns=2),
        ],
        "λ curve": [
            _curves("ap_by_lambda"),
            wr.MediaBrowser(media_keys=["figures/refinement", "figures/ascent"], num_columns=2),
        ],
        "Calibration and samples": [_curves("calibration"), _table("samples")],
        "Sweep importance": [
            wr.ParameterImportancePlot(with_respect_to="trial/value"),
            wr.LinePlot(title="trials as they went", x="Step", y=["trial/intermediate"]),
        ],
        "Speed": [
            _table("speed"),
            *(
                wr.BarPlot(title=f"{key}, batch size 1", metrics=[wr.SummaryMetric(f"{row}/{key}") for row in timed])
                for key in ("fps", "ratio")
            ),
        ],
    }


def build_workspace(suite: Suite, entity: str, project: str) -> Any:
    """The workspace, not saved: a section of panels for each part of the experiment."""
    import wandb_workspaces.workspaces as ws

    return ws.Workspace(
        entity=entity,
        project=project,
        name=suite.title,
        sections=[ws.Section(name=title, panels=panels, is_open=True) for title, panels in sections(suite).items()],
        settings=ws.WorkspaceSettings(x_axis="iteration", max_runs=30),
    )


def build_report(suite: Suite, entity: str, project: str) -> Any:
    """The W&B report, not saved: the same panels, each over the runs of the jobs that fill them."""
    import wandb_workspaces.reports.v2 as wr

    jobs = {"Training losses": "train", "Paper vs. ours": "report", "Sweep importance": "sweep", "Speed": "speed"}
    blocks: list[Any] = [wr.P(suite.description or suite.title), wr.TableOfContents()]
    for title, panels in sections(suite).items():
        job = jobs.get(title, "eval")
        runset = wr.Runset(name=job, filters=f"Metric('JobType') == '{job}'")
        blocks += [wr.H2(title), wr.PanelGrid(runsets=[runset], panels=panels)]
    return wr.Report(entity=entity, project=project, title=suite.title, width="fluid", blocks=blocks)


def _table(name: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.WeavePanelSummaryTable(table_name=name)


def _curves(name: str) -> Any:
    """A chart of `experiments.tracking.panels`, which is logged with `wandb.plot.line_series`."""
    import wandb_workspaces.reports.v2 as wr

    fields = {field: field for field in ("step", "lineKey", "lineVal")}
    return wr.CustomChart(
        query={"summaryTable": {"tableKey": f"{name}_table"}},
        chart_name="wandb/lineseries/v0",
        chart_fields=fields,
        chart_strings={"title": name},
    )


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments dashboards", description="Make the W&B workspace and report of a suite."
    )
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--project", default=PROJECT, help="W&B project (default: %(default)s)")
    parser.add_argument("--entity", default=os.environ.get("WANDB_ENTITY"), help="W&B user or team (default: yours)")
    options = parser.parse_args(arguments)
    suite = load_suite(options.suite)
    try:
        import wandb

        entity = str(options.entity or wandb.Api(timeout=30).default_entity)
        for board in (build_workspace(suite, entity, options.project), build_report(suite, entity, options.project)):
            print(board.save().url)
    except SuiteError:
        raise
    except Exception as error:
        tell(f"the dashboards are not made ({type(error).__name__}: {error}); log in with `wandb login` and try again")
        return 1
    return 0

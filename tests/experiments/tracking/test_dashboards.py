"""The workspace and the report as they would be sent, and that what they show is what is logged."""

import json

import pytest

from experiments.tracking import dashboards as dashboard
from experiments.tracking.offline import offline_runs, read_run
from suite.suite import load_suite
from tests.experiments.tracking.tracked import log_evaluation, log_training

TITLES = [
    "Training losses",
    "AP by threshold",
    "Paper vs. ours",
    "λ curve",
    "Calibration and samples",
    "Sweep importance",
    "Speed",
]


@pytest.fixture(scope="module")
def suite():
    return load_suite("experiments/shapes.yaml")


@pytest.fixture(scope="module")
def workspace(suite):
    model = dashboard.build_workspace(suite, "me", "iounet")._to_model()
    return json.loads(model.model_dump_json(by_alias=True, exclude_none=True))


@pytest.fixture(scope="module")
def report(suite):
    model = dashboard.build_report(suite, "me", "iounet")._to_model()
    return json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))


def test_the_workspace_has_every_section_with_panels(suite, workspace):
    sections = workspace["spec"]["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == TITLES
    assert all(section["panels"] for section in sections)
    assert (workspace["entity"], workspace["project"], workspace["displayName"]) == ("me", "iounet", suite.title)


def test_the_report_shows_each_section_over_the_runs_of_its_job(report):
    grids = [block for block in report["blocks"] if block["type"] == "panel-grid"]
    jobs = []
    for grid in grids:
        (runset,) = grid["metadata"]["runSets"]
        (chosen,) = runset["filters"]["filters"]
        assert (chosen["key"], chosen["op"]) == ({"section": "run", "name": "jobType"}, "=")
        jobs.append(chosen["value"])
    assert jobs == ["train", "eval", "report", "eval", "eval", "sweep", "speed"]
    headings = [block["children"][0]["text"] for block in report["blocks"] if block["type"] == "heading"]
    assert headings == TITLES


def keys(panels):
    """Names of the metrics and tables that panels show."""
    found = set()
    for panel in panels:
        found |= {getattr(metric, "name", metric) for metric in getattr(panel, "y", [])}
        found |= {metric.name for metric in getattr(panel, "metrics", [])}
        found |= {panel.table_name} if hasattr(panel, "table_name") else set()
        found |= {panel.query["summaryTable"]["tableKey"]} if hasattr(panel, "query") else set()
    return found


def test_what_is_shown_of_an_evaluation_is_logged_under_these_names(tiny_suite, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", "")  # restored after the test
    inference = {**tiny_suite.raw["inference"], "step_sizes": {"rank": [1.0]}}  # 0.5 as it is used
    suite = tiny_suite.changed(results=str(tmp_path), inference=inference)
    log_evaluation(suite, tmp_path / "evaluation")
    log_training(suite, tmp_path / "run")
    logged = {key for run in map(read_run, offline_runs(tmp_path)) for key in [*run["summary"], *run["metrics"]]}
    sections = dashboard.sections(suite)
    shown = keys(sections["λ curve"]) | keys(sections["Calibration and samples"])
    assert shown == {"ap_by_lambda_table", "calibration_table", "samples"}
    shown |= {key for key in keys(sections["AP by threshold"]) if key.endswith(("/AP", "/AP50", "_table"))}
    assert {"val/AP", "rank_refine0.5/AP50", "off/AP", "ap_by_threshold_table"} < shown
    tables = {key for key in shown if key == "samples" or key.endswith("_table")}
    assert {f"{key}._type" if key in tables else key for key in shown} <= logged


def test_without_a_login_it_says_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert dashboard.main([]) == 1
    assert "log in with `wandb login`" in capsys.readouterr().err

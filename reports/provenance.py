"""Each cell of each table traced to what it was computed from, as data."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from reports.context import Context
from reports.document.blocks import Report
from reports.results.collect import Results
from reports.results.pooling import MeasuredPooling
from reports.results.search import SearchResults
from reports.results.source import Source
from reports.tables.table import cells_of

TRACED = (
    "variant",
    "seed",
    "split",
    "setting",
    "checkpoint_sha256",
    "config_hash",
    "git_commit",
    "wandb_run_id",
    "stale",
)


def provenance(report: Report) -> dict[str, Any]:
    """The traces.

    Returns:
        `cells`: table, row, column, value, half width and sources of every cell that shows something; `files`: for each
        results file named there, its evaluation, checkpoint hash, config hash, commit, seed and W&B run.
    """
    cells = []
    files: dict[str, Any] = {}
    suite = report.context.results.suite
    known = _known(report.context)
    for table, row, column, cell in cells_of(report.tables):
        if cell.value is None:
            continue
        cells.append(
            {
                "table": table.key,
                "row": " / ".join(filter(None, (row.group, row.label))),
                "column": column,
                "value": cell.value,
                "half_width": cell.half_width,
                "seeds": cell.seeds,
                "stale": cell.stale,
                "sources": [_source(source) for source in cell.sources],
            }
        )
        files |= {source.file: known[source.file] for source in cell.sources if not source.is_published}
    return {
        "suite": suite.name,
        "split": suite.report_split,
        "seeds": list(suite.seeds),
        "unit": "AP and differences in points (x 100); half_width is half of the 95 % interval over seeds",
        "cells": cells,
        "files": dict(sorted(files.items())),
    }


def provenance_text(traces: dict[str, Any]) -> str:
    """The traces as JSON with one cell, and one file, to a line: readable, and small enough to commit."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    parts = []
    for key, value in traces.items():
        if key == "cells":
            parts.append(f'"{key}": [\n' + ",\n".join(map(line, value)) + "\n]")
        elif key == "files":
            parts.append(f'"{key}": {{\n' + ",\n".join(f"{line(k)}: {line(v)}" for k, v in value.items()) + "\n}")
        else:
            parts.append(f'"{key}": {line(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _source(source: Source) -> dict[str, str]:
    return {"file": source.file, "key": source.key} | ({"url": source.url} if source.is_published else {})


def _known(context: Context) -> dict[str, Any]:
    """What is known of every results file that a cell can name."""
    results = context.results
    known = _of_runs(results) | _of_speeds(results)
    indices = [] if context.treated is None else context.treated.indices.to_dict("records")
    for row in [*results.evaluations.to_dict("records"), *indices]:
        refiners = {"refiners": row["refiners"]} if row.get("refiners") else {}
        known[row["source"]] = {**{key: _plain(row[key]) for key in TRACED}, **refiners}
    for row in results.diagnostics.to_dict("records"):
        known[row["source"]] = {key: _plain(row[key] if key in row else row["data"].get(key)) for key in TRACED}
    if context.search is not None:
        known |= _of_search(context.search)
    if context.pooling is not None:
        known[context.pooling.source] = _of_pooling(context.pooling)
    return known


def _of_runs(results: Results) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for row in results.runs.to_dict("records"):
        run = row["data"]
        entry = {
            "variant": row["variant"],
            "seed": int(row["seed"]),
            "checkpoint_sha256": run["checkpoint"]["sha256"],
            "config_hash": run["config_hash"],
            "git_commit": run["git_commit"],
            "wandb_run_id": _plain(row["wandb_run_id"]),
        }
        known |= {row[key]: entry for key in ("source", "history_source", "record_source")}
    return known


def _of_speeds(results: Results) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for row in results.speeds.to_dict("records"):
        timed = row["data"]
        known[row["source"]] = {
            "device": row["device"],
            "seed": timed["seed"],
            "checkpoint_sha256": {variant: own["sha256"] for variant, own in timed["checkpoints"].items()},
            "config_hash": {variant: own["config_hash"] for variant, own in timed["checkpoints"].items()},
            "git_commit": timed["git_commit"],
            "wandb_run_id": _plain(row["wandb_run_id"]),
            "stale": row["stale"],
        }
    return known


def _of_search(search: SearchResults) -> dict[str, Any]:
    trials = search.layout.relative(search.layout.sweep.trials)
    known: dict[str, Any] = {trials: {"study": search.summary["study"], "git_commit": search.summary.get("git_commit")}}
    for (side, setting), data in search.evaluations.items():
        keys = ("variant", "seed", "split", "checkpoint_sha256", "config_hash", "git_commit", "wandb_run_id")
        file = search.evaluation_source(side, setting).file
        known[file] = {"setting": setting, **{key: data[key] for key in keys}}
    return known


def _of_pooling(measured: MeasuredPooling) -> dict[str, Any]:
    data = measured.data
    return {
        "variant": data["variant"],
        "seed": data["seeds"],
        "checkpoint_sha256": {seed: own["sha256"] for seed, own in data["checkpoints"].items()},
        "config_hash": {seed: own["config_hash"] for seed, own in data["checkpoints"].items()},
        "git_commit": data["git_commit"],
        "stale": measured.stale,
    }


def _plain(value: Any) -> Any:
    """A value of a frame as JSON writes it."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value

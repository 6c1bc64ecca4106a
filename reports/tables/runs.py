"""Tables about the runs: log and model, and the cost of training."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from reports.results.collect import Results
from reports.results.files import SHORT
from reports.results.published import Published
from reports.results.sides import BASELINE, POINTS, headline
from reports.results.source import Source
from reports.statistics import mean_interval
from reports.tables.cells import estimate_cell, published_cell, published_row, variant_row
from reports.tables.table import Cell, Row, Table, TableEntry, format_duration, plural
from suite.errors import NotInSuite


def format_size(size: int) -> str:
    """A file size in MB (10^6 bytes)."""
    return f"{size / 1e6:.1f} MB"


def models_table(results: Results, published: Mapping[str, Published]) -> Table:
    """Config, log, checkpoint, W&B run and wall time of every run of the suite."""
    columns = ("seed", "schedule", "AP", "config", "log", "checkpoint", "sha256", "W&B run", "wall time")
    source = published["reproduction"]
    rows = [_published_model(source, variant) for variant in source.table("models")["rows"]]
    rows += [_run_row(results, variant, seed) for variant in results.suite.variants for seed in results.suite.seeds]
    caption = "AP of this run is each seed's own, with the inference of the main result."
    return Table(MODELS.key, MODELS.title, caption, columns, tuple(rows))


def _published_model(source: Published, variant: str) -> Row:
    values, origin = source.table("models")["rows"][variant], (source.source("models", variant),)
    linked = {
        "config": ("config", "config"),
        "log": ("log", "log"),
        "checkpoint": ("model", f"model [{values.get('model_code')}]"),
    }
    cells = {
        name: Cell(text, kind="text", sources=origin, link=values[key])
        for name, (key, text) in linked.items()
        if values.get(key)
    }
    if values.get("AP") is not None:
        cells["AP"] = published_cell(source, "models", variant, "AP")
        setup = f"{values['backbone']}, {values['schedule']}, {values['gpus']} GPUs"
        cells["schedule"] = Cell(setup, kind="text", sources=origin)
    return published_row(source, "models", variant, cells)


def _run_row(results: Results, variant: str, seed: int) -> Row:
    run = results.run(variant, seed)
    data = run["data"]
    evaluation = results.evaluation(variant, seed, headline(results, variant).setting(results))
    ap = POINTS * float(evaluation["AP"])

    def text(value: str | None, source: Source, link: str = "") -> Cell:
        return Cell(value, kind="text", sources=(source,), link=link)

    def from_run(value: str, key: str, link: str = "") -> Cell:
        return text(value, Source.of_run(run, key), link)

    checkpoint, wandb = data["checkpoint"], run["wandb_run_id"]
    cells = {
        "seed": from_run(str(seed), "seed"),
        "schedule": from_run(f"{plural(data['epochs'], 'epoch')}, {plural(data['iterations'], 'iteration')}", "epochs"),
        "AP": Cell(
            None if math.isnan(ap) else ap,
            seeds=1,
            sources=(Source.of_evaluation(evaluation, "metrics.AP"),),
            stale=bool(evaluation["stale"]),
        ),
        "config": from_run("config", "config_hash", f"repo:{results.suite.variants[variant].config}"),
        "log": text("history", Source.of_history(run, "step"), run["history_source"]),
        "checkpoint": from_run(format_size(checkpoint["bytes"]), "checkpoint.bytes"),
        "sha256": from_run(f"`{checkpoint['sha256'][:SHORT]}`", "checkpoint.sha256"),
        "wall time": from_run(format_duration(data["wall_time_s"]), "wall_time_s"),
    }
    if not pd.isna(wandb):
        cells["W&B run"] = text(f"`{wandb}`", Source.of_record(run))
    return variant_row(variant, cells)


def training_cost_table(results: Results, published: Mapping[str, Published]) -> Table:
    """Median seconds per iteration, and the ratio to Faster R-CNN."""
    seconds, ratio = "seconds per iteration", "ratio to Faster R-CNN"
    source = published["reproduction"]
    rows = []
    for variant in source.table("training_cost")["rows"]:
        cells = {
            seconds: published_cell(source, "training_cost", variant, "seconds_per_iteration", digits=3),
            ratio: published_cell(source, "training_cost", variant, "ratio", digits=2),
        }
        rows.append(published_row(source, "training_cost", variant, cells))
    baseline = median_times(results, BASELINE.own(results))
    for variant in results.suite.variants:
        times = median_times(results, variant)
        origin = tuple(Source.of_history(results.run(variant, seed), "time") for seed in results.suite.seeds)
        ratios = [times[seed] / baseline[seed] for seed in results.suite.seeds]
        cells = {
            seconds: estimate_cell(mean_interval(list(times.values())), digits=3, sources=origin),
            ratio: estimate_cell(mean_interval(ratios), digits=2, sources=origin),
        }
        rows.append(variant_row(variant, cells))
    caption = (
        "Medians over the iterations. Only the ratio compares: the published one is a GPU's, and here other jobs may "
        "have run beside a training."
    )
    return Table(TRAINING_COST.key, TRAINING_COST.title, caption, (seconds, ratio), tuple(rows), stub="variant")


def median_times(results: Results, variant: str) -> dict[int, float]:
    """Median seconds per iteration of each seed.

    Raises:
        NotInSuite: the suite lacks the variant, or its histories record no time.
        MissingResult: a run is missing.
    """
    results.suite.require(variant)
    medians = {}
    for seed in results.suite.seeds:
        run = results.run(variant, seed)
        frame = results.histories
        times = (
            frame.loc[frame["source"] == run["history_source"], "time"] if "time" in frame else pd.Series(dtype=float)
        )
        if times.dropna().empty:
            raise NotInSuite(f"{run['history_source']} records no time per iteration")
        medians[seed] = float(times.median())
    return medians


MODELS = TableEntry("models", "Log and model", lambda c: models_table(c.results, c.published))
TRAINING_COST = TableEntry("training_cost", "Cost of training", lambda c: training_cost_table(c.results, c.published))

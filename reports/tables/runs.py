"""Tables about the runs: log and model, and the cost of training."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from reports.errors import NotInSuite
from reports.results.collect import SHORT, Results
from reports.results.published import Published
from reports.statistics import mean_interval
from reports.tables.accuracy import PAPER_STEP, THIS_RUN
from reports.tables.cells import POINTS, Side, published_cell
from reports.tables.table import Cell, Row, Source, Table


def headline_setting(results: Results, variant: str) -> str:
    """The setting whose AP stands for a variant: branch off for the baseline, the paper's inference for an IoU-Net."""
    if results.suite.variants[variant].get("family") == "baseline":
        return "off"
    try:
        return Side(variant, "rank", PAPER_STEP).setting(results)
    except NotInSuite:
        return "off"


def format_duration(seconds: float) -> str:
    """Seconds, minutes or hours, as a person would say them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} min {rest:02d} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def format_size(size: int) -> str:
    """A file size in MB (10^6 bytes)."""
    return f"{size / 1e6:.1f} MB"


def models_table(results: Results, published: Mapping[str, Published]) -> Table:
    """Config, log, checkpoint, W&B run and wall time of every run of the suite."""
    columns = ("seed", "schedule", "AP", "config", "log", "checkpoint", "sha256", "W&B run", "wall time")
    source = published["reproduction"]
    rows = []
    for variant, values in source.table("models")["rows"].items():
        origin = (Source(source.file, f"models/{variant}", True, source.table("models")["url"]),)
        cells = {
            name: Cell(text, kind="text", sources=origin, link=values[key])
            for name, key, text in (
                ("config", "config", "config"),
                ("log", "log", "log"),
                ("checkpoint", "model", f"model [{values.get('model_code')}]"),
            )
            if values.get(key)
        }
        if values.get("AP") is not None:
            cells["AP"] = published_cell(source, "models", variant, "AP")
            setup = f"{values['backbone']}, {values['schedule']}, {values['gpus']} GPUs"
            cells["schedule"] = Cell(setup, kind="text", sources=origin)
        rows.append(Row(source.name, values["label"], cells))
    for variant, settings in results.suite.variants.items():
        for seed in results.suite.seeds:
            rows.append(_run_row(results, variant, seed, settings.get("config")))
    caption = "AP of this run is each seed's own, with the inference of the main result."
    return Table("models", "Log and model", caption, columns, tuple(rows))


def _run_row(results: Results, variant: str, seed: int, config: str | None) -> Row:
    run = results.run(variant, seed)
    data, origin = run["data"], run["source"]
    setting = headline_setting(results, variant)
    evaluation = results.evaluation(variant, seed, setting)
    ap = POINTS * float(evaluation["AP"])

    def text(value: str | None, key: str, link: str = "") -> Cell:
        return Cell(value, kind="text", sources=(Source(origin, key),), link=link)

    checkpoint = data["checkpoint"]
    cells = {
        "seed": text(str(seed), "seed"),
        "schedule": text(f"{data['epochs']} epochs, {data['iterations']} iterations", "epochs"),
        "AP": Cell(
            None if math.isnan(ap) else ap,
            seeds=1,
            sources=(Source(evaluation["source"], "metrics.AP"),),
            stale=bool(evaluation["stale"]),
        ),
        "config": text("config", "config_hash", f"repo:{config}" if config else ""),
        "log": Cell(
            "history", kind="text", sources=(Source(run["history_source"], "step"),), link=run["history_source"]
        ),
        "checkpoint": text(format_size(checkpoint["bytes"]), "checkpoint.bytes"),
        "sha256": text(f"`{checkpoint['sha256'][:SHORT]}`", "checkpoint.sha256"),
        "W&B run": text(f"`{data['wandb_run_id']}`" if data["wandb_run_id"] else None, "wandb_run_id"),
        "wall time": text(format_duration(data["wall_time_s"]), "wall_time_s"),
    }
    return Row(THIS_RUN, variant, cells)


def training_cost_table(results: Results, published: Mapping[str, Published]) -> Table:
    """Median seconds per iteration, and the ratio to Faster R-CNN."""
    columns = ("seconds per iteration", "ratio to Faster R-CNN")
    source = published["reproduction"]
    rows = []
    for variant, values in source.table("training_cost")["rows"].items():
        pairs = {"seconds per iteration": "seconds_per_iteration", "ratio to Faster R-CNN": "ratio"}
        cells = {name: published_cell(source, "training_cost", variant, key) for name, key in pairs.items()}
        rows.append(Row(source.name, values["label"], _with_digits(cells)))
    baseline = median_times(results, "faster_rcnn")
    for variant in results.suite.variants:
        times = median_times(results, variant)
        origin = tuple(Source(results.run(variant, seed)["history_source"], "time") for seed in results.suite.seeds)
        mean = mean_interval(list(times.values()))
        ratio = mean_interval([times[seed] / baseline[seed] for seed in results.suite.seeds])
        cells = {
            "seconds per iteration": Cell(mean.mean, mean.half_width, mean.n, sources=origin),
            "ratio to Faster R-CNN": Cell(ratio.mean, ratio.half_width, ratio.n, sources=origin),
        }
        rows.append(Row(THIS_RUN, variant, _with_digits(cells)))
    caption = (
        "Medians over the iterations. Only the ratio compares: the published one is a GPU's, and here other jobs may "
        "have run beside a training."
    )
    return Table("training_cost", "Cost of training", caption, columns, tuple(rows), stub="variant")


def _with_digits(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    return {
        name: Cell(
            cell.value, cell.half_width, cell.seeds, cell.kind, 3 if name.startswith("seconds") else 2, cell.sources
        )
        for name, cell in cells.items()
    }


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

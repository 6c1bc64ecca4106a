"""The tables of the hyper-parameter search: its trials, and winner against default on the report split."""

from __future__ import annotations

import math
from typing import Any

from reports.results.search import SearchResults, difference
from reports.results.sides import POINTS
from reports.tables.table import Cell, Row, Table, TableEntry, format_duration, format_range, plural
from suite.search import PARAMETERS, SAMPLINGS

METRICS = ("AP", "AP50", "AP75", "AP90")


def comparison_table(search: SearchResults, resamples: int) -> Table:
    """Winner against default on the report split, training and inference apart."""
    rows = tuple(_side_row(search, label, side, setting, resamples) for label, side, setting in _sides(search))
    options = search.summary
    caption = (
        f"On `{options['report_split']}`, which nothing was chosen on. Checkpoints of the search, {options['epochs']} "
        f"of {plural(options['full_epochs'], 'epoch')}, one seed: not those of the other tables. *Default* is "
        f"`{options['base']}` with its own inference; *difference* is in AP, to the first row, on the same images; its "
        "interval covers the choice of images, not that of the seed."
    )
    columns = (*METRICS, "difference", "95 % interval")
    return Table(COMPARISON.key, COMPARISON.title, caption, columns, rows, stub="checkpoint and inference")


def _sides(search: SearchResults) -> list[tuple[str, str, str]]:
    """What is compared on the report split: (row label, side, setting), the default first, the winner last."""
    default, winner = search.summary["settings"]["default"], search.summary["settings"]["winner"]
    rows = [("Default", "default", default)]
    if default != winner:
        rows.append(("Default, guide and λ of the winner", "default", winner))
        rows.append(("Winner, guide and λ of the default", "winner", default))
    return [*rows, ("Winner", "winner", winner)]


def _side_row(search: SearchResults, label: str, side: str, setting: str, resamples: int) -> Row:
    metrics = search.evaluations[side, setting]["metrics"]
    cells = {
        metric: Cell(
            None if metrics[metric] is None else POINTS * metrics[metric],
            seeds=1,
            sources=(search.evaluation_source(side, setting, f"metrics.{metric}"),),
        )
        for metric in METRICS
    }
    reference = ("default", search.summary["settings"]["default"])
    if (side, setting) != reference:
        found = difference(search, (side, setting), reference, resamples)
        both = (search.evaluation_source(side, setting), search.evaluation_source(*reference))
        cells["difference"] = Cell(found.mean, seeds=1, kind="difference", sources=both)
        if found.bounds is not None:
            cells["95 % interval"] = Cell(format_range(*found.bounds), kind="text", sources=both)
    is_choice = (side, setting) == ("winner", search.summary["settings"]["winner"])
    return Row("", label, cells, emphasis=is_choice, key=f"{side}/{setting}")


def trials_table(search: SearchResults) -> Table:
    """Every trial: where it came from, its parameters, its best AP and the setting it has it in."""
    columns = ("from", "state", "loss weight", "RoIs", "AP", "guide", "λ", "epochs", "time")
    rows: list[Any] = search.trials.to_dict("records")
    caption = (
        f"AP is each trial's best over the inference settings, on `{search.summary['split']}`, which no reported "
        f"number is computed on; guide and λ say where it has it (λ = 0: no refinement). Loss weight, RoIs and λ "
        "are in published units. The best trial is in bold."
    )
    return Table(
        TRIALS.key, TRIALS.title, caption, columns, tuple(_trial_row(search, row) for row in rows), stub="trial"
    )


def _trial_row(search: SearchResults, row: dict[str, Any]) -> Row:
    number = int(row["number"])

    def text(value: str | None, column: str) -> Cell:
        return Cell(value, kind="text", sources=(search.trial_source(number, column),))

    def value(column: str, digits: int, **rest: Any) -> Cell:
        found = row.get(column)
        return Cell(
            None if _is_nan(found) else float(found),  # type: ignore[arg-type]
            digits=digits,
            sources=(search.trial_source(number, column),),
            **rest,
        )

    sampling = next((name for name in SAMPLINGS if not _is_nan(row.get(name))), None)
    rois = None if sampling is None else f"{row[sampling]:.0f} {PARAMETERS[sampling].amount}"
    cells = {
        "from": text(_origin(row), "published"),
        "state": text(row["state"], "state"),
        "loss weight": value("loss_weight", 2),
        "RoIs": text(rois, sampling or SAMPLINGS[0]),
        "AP": value("value", 1, seeds=1),
        "guide": text(None if _is_nan(row["guide"]) else row["guide"], "guide"),
        "λ": value("step_size", 2),
        "epochs": value("epochs", 0),
        "time": text(None if _is_nan(row["seconds"]) else format_duration(row["seconds"]), "seconds"),
    }
    return Row("", str(number), cells, emphasis=number == search.best["trial"], key=str(number))


def _origin(row: dict[str, Any]) -> str:
    """The trial that it repeats, the published variant that it is, or the sampler."""
    if not _is_nan(row.get("retry_of")):
        return f"retry of {row['retry_of']:.0f}"
    return f"`{row['source']}`" if row["source"] == row["published"] else row["source"]


def _is_nan(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


COMPARISON = TableEntry(
    "sweep_val",
    "Winner and default of the search",
    lambda c: None if c.search is None else comparison_table(c.search, c.results.resamples),
)
TRIALS = TableEntry(
    "sweep_trials", "Trials of the search", lambda c: None if c.search is None else trials_table(c.search)
)

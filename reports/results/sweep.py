"""The hyper-parameter search: its files as frames, its tables, and what follows from them in plain words.

AP is shown × 100. Step sizes λ and training parameters are shown in published units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports.errors import MissingResult, NotInSuite, ReportError
from reports.results.collect import METRICS, Results, load_matches, need, read_json
from reports.results.matches import Matches, average_precision, draw_image_weights
from reports.statistics import LEVEL, RESAMPLES, bootstrap_interval
from reports.tables.cells import POINTS, per_seed
from reports.tables.runs import format_duration, headline_setting
from reports.tables.table import Cell, Row, Source, Table, format_number, format_range

FOLDER = "sweep"
SUMMARY = (
    *("study", "base", "space", "budget", "states", "epochs", "full_epochs"),
    *("seconds", "settings", "split", "sampler", "pruner"),
)
PARAMETERS = {"loss_weight": "loss weight", "per_img": "RoIs per image", "per_iou": "RoIs per IoU bin"}
SIDES = ("default", "winner")
AMOUNTS = {"per_img": "per image", "per_iou": "per IoU bin"}
FEW = 30  # trials below which a search is called small, whatever it finds


@dataclass(frozen=True)
class Sweep:
    """A finished search.

    Attributes:
        summary, best, importance: the contents of sweep.json, best.json and importance.json.
        trials: one row per trial (see `sweeps.summary`), `value` in points, `source` = published label or 'sampler'.
        curves: `number, epoch, AP` in points: validation during the trials.
        profiles: `number, guide, step_size, actual_step_size, AP` in points: every complete trial in every setting.
        evaluations: (side, setting) to the contents of its evaluation file on the report split.
        matches: (side, setting) to what a bootstrap resamples.
    """

    summary: Mapping[str, Any]
    best: Mapping[str, Any]
    importance: Mapping[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame
    profiles: pd.DataFrame
    evaluations: Mapping[tuple[str, str], Mapping[str, Any]]
    matches: Mapping[tuple[str, str], Matches] = field(repr=False)

    @property
    def complete(self) -> pd.DataFrame:
        """The complete trials."""
        return self.trials[self.trials["state"] == "complete"]

    def trial(self, number: int) -> Any:
        """The row of one trial."""
        return self.trials.set_index("number").loc[number]

    def file(self, side: str, setting: str) -> str:
        """Path of an evaluation file below the results folder."""
        return f"{FOLDER}/val/{side}/{setting}.json"


@dataclass(frozen=True)
class Difference:
    """A difference of AP on the report split in points, and its interval over images (None if none was asked for)."""

    mean: float
    images: tuple[float, float] | None

    @property
    def text(self) -> str:
        """The difference with its interval."""
        interval = "" if self.images is None else f" ({LEVEL:.0%} interval over images {format_range(*self.images)})"
        return f"{format_number(self.mean, signed=True)}{interval}".replace("95%", "95 %")


def load_sweep(results: Results) -> Sweep | None:
    """Read the search of a results folder; None if there is no finished one.

    Raises:
        ReportError: a file is damaged or belongs to another suite or dataset; the message names file and key.
        MissingResult: a file that sweep.json promises is not there.
    """
    folder = results.root / FOLDER
    path = folder / "sweep.json"
    if not path.exists():
        return None
    summary = read_json(path)
    for key in SUMMARY:
        need(summary, key, path)
    expected = {"suite": results.suite.name, "report_split": results.suite.split}
    if results.dataset is not None:
        expected["dataset_fingerprint"] = results.dataset["fingerprint"]
    for key, value in expected.items():
        if need(summary, key, path) != value:
            raise ReportError(
                f"{path}: belongs elsewhere: key '{key}' is {summary[key]!r}, expected {value!r}; sweep again"
            )
    best, importance = (read_json(folder / name) for name in ("best.json", "importance.json"))
    trials = _frame(folder / "trials.csv", ("number", "state", "published", "value", "guide", "step_size", "seconds"))
    trials = trials.assign(value=POINTS * trials["value"].astype(float))
    trials["source"] = trials["published"].fillna("sampler") if trials["published"].notna().any() else "sampler"
    curves = _frame(folder / "curves.csv", ("number", "epoch", "AP"))
    profiles = _frame(folder / "profiles.csv", ("number", "guide", "step_size", "actual_step_size", "AP"))
    evaluations, matches = {}, {}
    for side in SIDES:
        for setting in dict.fromkeys(summary["settings"].values()):
            file = folder / "val" / side / f"{setting}.json"
            evaluations[side, setting] = _evaluation(file, results, setting)
            matches_file = file.with_name(f"{setting}.matches.json.gz")
            stated = evaluations[side, setting]["metrics"]["AP"]
            matches[side, setting] = load_matches(matches_file, stated, file.name)
    return Sweep(
        summary=summary,
        best=best,
        importance=importance,
        trials=trials,
        curves=curves.assign(AP=POINTS * curves["AP"]),
        profiles=profiles.assign(AP=POINTS * profiles["AP"], guide=profiles["guide"].fillna("none")),
        evaluations=evaluations,
        matches=matches,
    )


def _frame(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        # 'none' is a guide, not a missing value
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise MissingResult(f"{path}: no such file; sweep again") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: damaged, cannot be read ({error})") from None
    for column in columns:
        if column not in frame:
            raise ReportError(f"{path}: column '{column}' is missing")
    return frame


def _evaluation(path: Path, results: Results, setting: str) -> Any:
    data = read_json(path)
    for key, value in {"suite": results.suite.name, "split": results.suite.split, "setting.name": setting}.items():
        if need(data, key, path) != value:
            raise ReportError(f"{path}: belongs elsewhere: key '{key}' is not {value!r}; sweep again")
    for metric in METRICS:
        need(data, f"metrics.{metric}", path)
    for key in ("seed", "variant", "checkpoint_sha256", "config_hash", "git_commit", "wandb_run_id"):
        need(data, key, path)
    return data


def difference(sweep: Sweep, left: tuple[str, str], right: tuple[str, str], resamples: int | None = None) -> Difference:
    """AP of one (side, setting) minus that of another on the report split, on the same resampled image sets.

    Args:
        sweep: the search.
        left: what is compared.
        right: what it is compared with.
        resamples: image resamples; 0 for no interval, None for the report's own number.
    """
    count = RESAMPLES if resamples is None else resamples
    sets = [sweep.matches[side] for side in (left, right)]
    values = [POINTS * float(sweep.evaluations[side]["metrics"]["AP"]) for side in (left, right)]
    if count == 0:
        return Difference(values[0] - values[1], None)
    if sets[0].image_ids != sets[1].image_ids:
        raise ReportError(f"{FOLDER}/val: the two sides were evaluated on different images; sweep again")
    weights = draw_image_weights(len(sets[0].image_ids), count)
    ours, others = (POINTS * average_precision(matches, weights).mean(axis=1) for matches in sets)
    return Difference(values[0] - values[1], bootstrap_interval([ours], [others]))


def parameters_text(row: Mapping[str, Any]) -> str:
    """A trial's training parameters, in published units."""
    texts = [
        f"{name} {row[key]:.3g}"
        for key, name in PARAMETERS.items()
        if key in row and row[key] is not None and not math.isnan(row[key])
    ]
    return ", ".join(texts) or "none"


def setting_text(guide: str, step_size: float) -> str:
    """An inference setting, in published units."""
    return f"guide `{guide}`" + (f", λ = {step_size:g}" if step_size else ", no refinement")


def trials_table(sweep: Sweep) -> Table:
    """Every trial: where it came from, its parameters, its best AP and the setting it has it in."""
    columns = ("from", "state", "loss weight", "RoIs", "AP", "guide", "λ", "epochs", "time")
    rows = []
    for row in sweep.trials.to_dict("records"):
        number = int(row["number"])
        retry = row.get("retry_of")
        source = row["source"] if retry is None or math.isnan(retry) else f"retry of {retry:.0f}"
        kind = next((key for key in AMOUNTS if not _is_nan(row.get(key))), None)
        cells = {
            "from": _text(f"`{source}`" if source == row["published"] else source, number, "published"),
            "state": _text(row["state"], number, "state"),
            "loss weight": Cell(_number(row.get("loss_weight")), digits=2, sources=_source(number, "loss_weight")),
            "RoIs": _text(None if kind is None else f"{row[kind]:.0f} {AMOUNTS[kind]}", number, kind or "per_img"),
            "AP": Cell(_number(row["value"]), seeds=1, sources=_source(number, "value")),
            "guide": _text(None if _is_nan(row["guide"]) else row["guide"], number, "guide"),
            "λ": Cell(_number(row["step_size"]), digits=2, sources=_source(number, "step_size")),
            "epochs": Cell(_number(row.get("epochs")), digits=0, sources=_source(number, "epochs")),
            "time": _text(None if _is_nan(row["seconds"]) else format_duration(row["seconds"]), number, "seconds"),
        }
        rows.append(Row("", str(number), cells, emphasis=number == sweep.best["trial"]))
    caption = (
        f"AP is each trial's best over the inference settings, on `{sweep.summary['split']}`, which no reported number "
        f"is computed on; guide and λ say where it has it (λ = 0: no refinement). Loss weight, RoIs and λ are in "
        "published units. The best trial is in bold."
    )
    return Table("sweep_trials", "Trials of the search", caption, columns, tuple(rows), stub="trial")


def _is_nan(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float | None:
    return None if _is_nan(value) else float(value)


def _source(number: int, column: str) -> tuple[Source, ...]:
    return (Source(f"{FOLDER}/trials.csv", f"{number}/{column}"),)


def _text(value: str | None, number: int, column: str) -> Cell:
    return Cell(value, kind="text", sources=_source(number, column))


def sides(sweep: Sweep) -> list[tuple[str, str, str]]:
    """What is compared on the report split: (row label, side, setting), the default first, the winner last."""
    own = sweep.summary["settings"]
    found = [("Default", "default", own["default"])]
    if own["default"] != own["winner"]:
        found.append(("Default, guide and λ of the winner", "default", own["winner"]))
        found.append(("Winner, guide and λ of the default", "winner", own["default"]))
    return [*found, ("Winner", "winner", own["winner"])]


def comparison_table(sweep: Sweep, resamples: int | None = None) -> Table:
    """Winner against default on the report split, training and inference apart."""
    metrics = ("AP", "AP50", "AP75", "AP90")
    rows = []
    for label, side, setting in sides(sweep):
        data, file = sweep.evaluations[side, setting], sweep.file(side, setting)
        cells = {
            metric: Cell(
                None if data["metrics"][metric] is None else POINTS * data["metrics"][metric],
                seeds=1,
                sources=(Source(file, f"metrics.{metric}"),),
            )
            for metric in metrics
        }
        reference = ("default", sweep.summary["settings"]["default"])
        if (side, setting) != reference:
            found = difference(sweep, (side, setting), reference, resamples)
            both = (Source(file, "metrics.AP"), Source(sweep.file(*reference), "metrics.AP"))
            cells["difference"] = Cell(found.mean, seeds=1, kind="difference", sources=both)
            if found.images is not None:
                cells["95 % interval"] = Cell(format_range(*found.images), kind="text", sources=both)
        rows.append(Row("", label, cells, emphasis=label == "Winner"))
    split, options = sweep.summary["report_split"], sweep.summary
    caption = (
        f"On `{split}`, which nothing was chosen on. Checkpoints of the search, {options['epochs']} of "
        f"{options['full_epochs']} epochs, one seed: not those of the other tables. *Default* is `{options['base']}` "
        "with its own inference; *difference* is in AP, to the first row, on the same images; its interval covers the "
        "choice of images, not that of the seed."
    )
    return Table("sweep_val", "Winner and default of the search", caption, (*metrics, "difference", "95 % interval"),
                 tuple(rows), stub="checkpoint and inference")  # fmt: skip


def seed_spread(results: Results, variant: str) -> tuple[float, int] | None:
    """Standard deviation of a variant's AP over the suite's seeds, in points, and their number; None if unknown."""
    if len(results.suite.seeds) < 2:
        return None
    try:
        values = per_seed(results, variant, headline_setting(results, variant), "AP")
    except (MissingResult, NotInSuite):
        return None
    spread = float(np.std(list(values.values()), ddof=1))
    return None if math.isnan(spread) else (spread, len(values))


def conclusion(results: Results, sweep: Sweep, resamples: int | None = None) -> list[str]:
    """What was done, what came out, and what it is worth."""
    return [_effort(sweep), _choice(sweep), _verdict(sweep, resamples), _worth(results, sweep)]


def _effort(sweep: Sweep) -> str:
    options, states = sweep.summary, sweep.summary["states"]
    complete, settings = states.get("complete", 0), len(sweep.profiles[["guide", "step_size"]].drop_duplicates())
    names = {"pruned": "pruned", "fail": "failed", "running": "running", "waiting": "waiting"}
    others = ", ".join(f"{states[state]} {name}" for state, name in names.items() if state in states)
    sampler = options["sampler"]
    published = int((sweep.complete["source"] != "sampler").sum())
    text = (
        f"**{_plural(complete, 'complete trial')}** of {options['epochs']} of {options['full_epochs']} epochs"
        f"{f' (and {others})' if others else ''}, {format_duration(options['seconds'])} of wall time added up; budget "
        f"{options['budget']}. Published points among them: {published}; the sampler's: {complete - published} "
        f"({sampler['name']}, random until {sampler['startup_trials']} trials are done). {_pruning(sweep)}."
    )
    return (
        f"{text} Each checkpoint was evaluated in {settings} inference settings on `{options['split']}`: guide and λ "
        "cost no training."
    )


def _pruning(sweep: Sweep) -> str:
    pruner, pruned = sweep.summary["pruner"], sweep.summary["states"].get("pruned", 0)
    if not pruned and len(sweep.complete) <= pruner["startup_trials"]:
        return f"None was pruned: {pruner['name']} begins after {_plural(pruner['startup_trials'], 'complete trial')}"
    return f"{pruner['name']} stopped {pruned} early, by validation AP after an epoch"


def _choice(sweep: Sweep) -> str:
    best = sweep.best
    row, inference = sweep.trial(best["trial"]), best["inference"]
    origin = "a published point" if row["source"] != "sampler" else "of the sampler"
    text = (
        f"Best on `{best['split']}` is trial {best['trial']} ({origin}): {parameters_text(row)}; "
        f"{setting_text(inference['guide'], inference['step_size']['published'])}: AP {POINTS * best['value']:.1f}"
    )
    default = best["default"]
    if default["value"] is None:
        return text + "."
    own, in_best = POINTS * default["value"], POINTS * default["best_value"]
    return f"{text}. The default has {own:.1f}, in its best setting {in_best:.1f}."


def _verdict(sweep: Sweep, resamples: int | None) -> str:
    own, split = sweep.summary["settings"], sweep.summary["report_split"]
    reference = ("default", own["default"])
    whole_gain = difference(sweep, ("winner", own["winner"]), reference, resamples)
    shas = {sweep.evaluations[key]["checkpoint_sha256"] for key in (("winner", own["winner"]), reference)}
    if len(shas) == 1 and own["winner"] == own["default"]:
        return f"The search chose the default itself: on `{split}` there is no difference to report."
    if len(shas) == 1:
        return f"The winner is the default's checkpoint in another inference setting. On `{split}`: {whole_gain.text}."
    text = f"On `{split}`, winner minus default: **{whole_gain.text}**"
    if own["winner"] != own["default"]:
        inference = difference(sweep, ("default", own["winner"]), reference, resamples)
        training = difference(sweep, ("winner", own["winner"]), ("default", own["winner"]), resamples)
        text += f"; of it, guide and λ alone {inference.text}, the training parameters the rest: {training.text}"
    return text + "."


def _worth(results: Results, sweep: Sweep) -> str:
    values = sweep.complete["value"]
    trials, settings = len(values), len(sweep.profiles) // max(1, len(values))
    spread = float(values.max() - values.min())
    seeds = seed_spread(results, sweep.summary["base"])
    text = f"The best of {trials} trials × {settings} settings is chosen by its own score, so that score is too high. "
    text += f"Best and worst trial differ by {spread:.1f} points; "
    if seeds is None:
        text += "how much seeds alone differ is not known here. "
    else:
        deviation, number = seeds
        noise = expected_range(trials) * deviation
        text += (
            f"{trials} seeds of one and the same training would differ by about {noise:.1f} (standard deviation "
            f"{deviation:.2f} over {number} seeds of `{sweep.summary['base']}`). "
        )
        if spread <= noise:
            verdict = "Training parameters and chance cannot be told apart: a search of this size proves little."
            return f"{text}**{verdict}**"
    if trials < FEW:
        return f"{text}**With {trials} trials of one seed each, a search of this size proves little.**"
    more = "larger than chance alone would make them" if seeds is not None else "of unknown weight without more seeds"
    return f"{text}The differences between trials are {more}."


def expected_range(number: int, draws: int = 20_000) -> float:
    """Expected largest minus smallest of `number` normal values, in standard deviations (by simulation, seeded)."""
    if number < 2:
        return 0.0
    values = np.random.default_rng(0).standard_normal((draws, number))
    return float((values.max(axis=1) - values.min(axis=1)).mean())


def _plural(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def known_files(sweep: Sweep | None) -> dict[str, Any]:
    """What provenance says of the search's files that cells name."""
    if sweep is None:
        return {}
    known: dict[str, Any] = {
        f"{FOLDER}/trials.csv": {"study": sweep.summary["study"], "git_commit": sweep.summary.get("git_commit")}
    }
    for (side, setting), data in sweep.evaluations.items():
        keys = ("variant", "seed", "split", "checkpoint_sha256", "config_hash", "git_commit", "wandb_run_id")
        known[sweep.file(side, setting)] = {"setting": setting, **{key: data[key] for key in keys}}
    return known

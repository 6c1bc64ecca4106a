"""What the hyper-parameter search did, what came out, and what it is worth, in plain words."""

from __future__ import annotations

import math

import numpy as np

from reports.errors import MissingResult
from reports.results.collect import Results
from reports.results.search import SearchResults, difference, parameters_text, setting_text
from reports.results.sides import POINTS, headline
from reports.statistics import LEVEL, Interval
from reports.tables.table import format_duration, format_number, format_range, plural
from suite.errors import NotInSuite

FEW = 30  # trials below which a search is called small, whatever it finds


def conclusion(results: Results, search: SearchResults) -> list[str]:
    """What was done, what came out, and what it is worth."""
    if not search.complete["value"].any():
        return [
            _effort(search),
            "**No trial found anything: AP is 0 in every trial and every setting.** Which one is called best is "
            "arbitrary. Look at the training logs of the trials, and let them train longer (`sweep.epochs`).",
        ]
    return [_effort(search), _choice(search), _verdict(search, results.resamples), _worth(results, search)]


def _effort(search: SearchResults) -> str:
    options, states = search.summary, search.summary["states"]
    complete, settings = states.get("complete", 0), len(search.profiles[["guide", "step_size"]].drop_duplicates())
    names = {"pruned": "pruned", "fail": "failed", "running": "running", "waiting": "waiting"}
    others = ", ".join(f"{states[state]} {name}" for state, name in names.items() if state in states)
    sampler = options["sampler"]
    published = int((search.complete["source"] != "sampler").sum())
    text = (
        f"**{plural(complete, 'complete trial')}** of {options['epochs']} of {plural(options['full_epochs'], 'epoch')}"
        f"{f' (and {others})' if others else ''}, {format_duration(options['seconds'])} of wall time added up; budget "
        f"{options['budget']}. Published points among them: {published}; the sampler's: {complete - published} "
        f"({sampler['name']}, random until {sampler['startup_trials']} trials are done). {_pruning(search)}."
    )
    return (
        f"{text} Each checkpoint was evaluated in {settings} inference settings on `{options['split']}`: guide and λ "
        "cost no training."
    )


def _pruning(search: SearchResults) -> str:
    pruner, pruned = search.summary["pruner"], search.summary["states"].get("pruned", 0)
    if not pruned and len(search.complete) <= pruner["startup_trials"]:
        return f"None was pruned: {pruner['name']} begins after {plural(pruner['startup_trials'], 'complete trial')}"
    return f"{pruner['name']} stopped {pruned} early, by validation AP after an epoch"


def _choice(search: SearchResults) -> str:
    best = search.best
    row, inference = search.trial(best["trial"]), best["inference"]
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


def _verdict(search: SearchResults, resamples: int) -> str:
    own, split = search.summary["settings"], search.summary["report_split"]
    reference = ("default", own["default"])
    whole_gain = difference(search, ("winner", own["winner"]), reference, resamples)
    shas = {search.evaluations[key]["checkpoint_sha256"] for key in (("winner", own["winner"]), reference)}
    if len(shas) == 1 and own["winner"] == own["default"]:
        return f"The search chose the default itself: on `{split}` there is no difference to report."
    if len(shas) == 1:
        return (
            f"The winner is the default's checkpoint in another inference setting. On `{split}`: {_text(whole_gain)}."
        )
    text = f"On `{split}`, winner minus default: **{_text(whole_gain)}**"
    if own["winner"] != own["default"]:
        inference = difference(search, ("default", own["winner"]), reference, resamples)
        training = difference(search, ("winner", own["winner"]), ("default", own["winner"]), resamples)
        text += f"; of it, guide and λ alone {_text(inference)}, the training parameters the rest: {_text(training)}"
    return text + "."


def _worth(results: Results, search: SearchResults) -> str:
    values = search.complete["value"]
    trials, settings = len(values), len(search.profiles) // max(1, len(values))
    spread = float(values.max() - values.min())
    seeds = seed_spread(results, search.summary["base"])
    text = f"The best of {trials} trials × {settings} settings is chosen by its own score, so that score is too high. "
    text += f"Best and worst trial differ by {spread:.1f} points; "
    if seeds is None:
        text += "how much seeds alone differ is not known here. "
    else:
        deviation, number = seeds
        noise = expected_range(trials) * deviation
        text += (
            f"{trials} seeds of one and the same training would differ by about {noise:.1f} (standard deviation "
            f"{deviation:.2f} over {number} seeds of `{search.summary['base']}`). "
        )
        if spread <= noise:
            verdict = "Training parameters and chance cannot be told apart: a search of this size proves little."
            return f"{text}**{verdict}**"
    if trials < FEW:
        return f"{text}**With {trials} trials of one seed each, a search of this size proves little.**"
    more = "larger than chance alone would make them" if seeds is not None else "of unknown weight without more seeds"
    return f"{text}The differences between trials are {more}."


def seed_spread(results: Results, variant: str) -> tuple[float, int] | None:
    """Standard deviation of a variant's AP over the suite's seeds, in points, and their number; None if unknown."""
    if len(results.suite.seeds) < 2:
        return None
    try:
        values = headline(results, variant).per_seed(results, "AP")
    except (MissingResult, NotInSuite):
        return None
    spread = float(np.std(list(values.values()), ddof=1))
    return None if math.isnan(spread) else (spread, len(values))


def expected_range(number: int, draws: int = 20_000) -> float:
    """Expected largest minus smallest of `number` normal values, in standard deviations (by simulation, seeded)."""
    if number < 2:
        return 0.0
    values = np.random.default_rng(0).standard_normal((draws, number))
    return float((values.max(axis=1) - values.min(axis=1)).mean())


def _text(found: Interval) -> str:
    """A difference with its interval."""
    text = format_number(found.mean, signed=True)
    if found.bounds is None:
        return text
    return f"{text} ({100 * LEVEL:.0f} % interval over images {format_range(*found.bounds)})"

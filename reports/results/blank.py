"""Trainings that came to nothing: their AP is 0 in every inference setting."""

from __future__ import annotations

from typing import Any

from reports.results.collect import Results


def blank_trainings(results: Results) -> dict[str, list[int]]:
    """The seeds of each variant whose training came to nothing, of those that were evaluated on the report split."""
    if results.evaluations.empty:
        return {}
    best: Any = results.evaluations.groupby(["variant", "seed"], sort=False)["AP"].max()
    found: dict[str, list[int]] = {}
    for variant, seed in best.index[best == 0]:
        found.setdefault(variant, []).append(int(seed))
    return found


def blank_variants(results: Results) -> list[str]:
    """The variants all of whose evaluated trainings came to nothing."""
    blank, rows = blank_trainings(results), results.evaluations
    return [variant for variant in blank if set(rows.loc[rows["variant"] == variant, "seed"]) == set(blank[variant])]


def blank_notes(results: Results) -> list[str]:
    """What a report says first of such trainings, a line each."""
    blank, whole, split = blank_trainings(results), blank_variants(results), results.suite.report_split
    if not blank:
        return []
    variant, seed = next((variant, seeds[0]) for variant, seeds in blank.items())
    log = results.layout.relative(results.layout.run(variant, seed).log)
    remedy = (
        f"Look at the losses in the training log (`{log}`): where they do not fall, or jump, lower the learning rate "
        "(`optimizer.lr` of the config); where they fall, train longer (`training.epochs`), and make sure that boxes "
        "and classes of the data are right"
    )
    if len(whole) == results.evaluations["variant"].nunique():
        return [
            f"**Nothing was found: AP on `{split}` is 0 in every training and every inference setting.** The models "
            f"have learnt nothing, so there is nothing to compare, and no claim is tested. {remedy}."
        ]
    lines = []
    for variant, seeds in blank.items():
        named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        if variant in whole:
            what = "Claims about it are not tested, and differences to it say nothing"
        else:
            what = "It is part of its variant's means and intervals all the same"
        lines.append(f"**`{variant}`, {named}, found nothing: AP on `{split}` is 0 in every setting.** {what}.")
    return [*lines, f"{remedy}."]

"""What happened, in plain words generated from the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED, Verdict
from reports.context import Context
from reports.results.published import Published
from reports.tables.table import format_number, format_range


def plain_words(verdict: Verdict, published: Mapping[str, Published]) -> str:
    """One claim in one line: the difference here with its interval, and in the publications."""
    interval = verdict.interval
    here = f"{format_number(interval.mean, signed=True)}"
    if interval.combined is not None:
        here += f" here (95 % interval {format_range(*interval.combined)})"
    else:
        here += " here (no interval)"
    elsewhere = [
        f"{format_number(value, signed=True)} in the {published[key].name.lower()}"
        for key, value in verdict.published.items()
    ]
    return f"{verdict.claim.metric} {', '.join([here, *elsewhere])}"


def summary(context: Context) -> list[str]:
    """The report's opening lines: a count of verdicts, then the claims by verdict, the first of them in full."""
    results, published, verdicts = context.results, context.published, context.verdicts
    if not verdicts:
        return []
    scale = " at this scale" if results.dataset is None else " at miniature scale" if results.is_generated else ""
    by_verdict = {name: [v for v in verdicts if v.verdict == name] for name in (REPRODUCED, CONTRADICTED, INCONCLUSIVE)}
    lines = [
        f"Of {len(verdicts)} published claims that this run can test, **{len(by_verdict[REPRODUCED])} are reproduced"
        f"{scale}, {len(by_verdict[CONTRADICTED])} contradicted and {len(by_verdict[INCONCLUSIVE])} inconclusive**."
    ]
    if len(results.suite.seeds) == 1:
        covered = "cover the choice of images only" if any(v.interval.combined for v in verdicts) else "are missing"
        lines.append(f"One seed: the intervals {covered}, so another training may decide otherwise.")
    first = verdicts[0]
    lines.append(f"{first.claim.text}: {plain_words(first, published)} – *{first.verdict}*.")
    if by_verdict[REPRODUCED]:
        lines.append("Reproduced: " + _list(by_verdict[REPRODUCED]) + ".")
    if by_verdict[CONTRADICTED]:
        against = "; ".join(f"{v.claim.text} – {plain_words(v, published)}" for v in by_verdict[CONTRADICTED])
        lines.append(f"**Against the publications:** {against}.")
    else:
        lines.append("Nothing goes against the publications with an interval that excludes zero.")
    if by_verdict[INCONCLUSIVE]:
        lines.append(f"Not decided: {_list(by_verdict[INCONCLUSIVE])}. {_direction(by_verdict[INCONCLUSIVE])}.")
    return lines


def _list(verdicts: Sequence[Verdict]) -> str:
    return ", ".join(f"{v.claim.short} ({format_number(v.interval.mean, signed=True)})" for v in verdicts)


def _direction(verdicts: Sequence[Verdict]) -> str:
    """How many of the undecided point the published way."""
    same = sum((v.interval.mean > 0) if v.claim.expected == "+" else (v.interval.mean < 0) for v in verdicts)
    if same == len(verdicts):
        return "It points the published way" if same == 1 else f"All {same} point the published way"
    return f"Of these, {same} of {len(verdicts)} point{'s' if same == 1 else ''} the published way"

"""What happened, in plain words generated from the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.context import Context
from reports.document.facts import uses_adam
from reports.results.blank import blank_notes
from reports.results.collect import Results
from reports.results.published import Published, is_published
from reports.tables.claims import OPPOSITE, effect_text, interval_text, scope, verdict_text
from reports.verdicts import CONTRADICTED, INCONCLUSIVE, REPRODUCED, Verdict


def plain_words(verdict: Verdict, published: Mapping[str, Published]) -> str:
    """One claim in one line: the effect here with its interval, and in the publications."""
    claim, interval = verdict.claim, verdict.interval
    text = interval_text(claim, interval)
    here = f"{effect_text(claim, interval.mean)} here ({f'95 % interval {text}' if text else 'no interval'})"
    elsewhere = [
        f"{effect_text(claim, value)} in the {published[key].name.lower()}" for key, value in verdict.published.items()
    ]
    return f"{claim.metric} {', '.join([here, *elsewhere])}"


def summary(context: Context) -> list[str]:
    """The report's opening lines: trainings that came to nothing, then the verdicts."""
    return [*blank_notes(context.results), *_verdicts(context)]


def _verdicts(context: Context) -> list[str]:
    """A count of verdicts, then the claims by verdict, the first of them in full."""
    results, published = context.results, context.published
    verdicts = [verdict for verdict in context.verdicts if verdict.claim.is_published]
    if not verdicts:
        return []
    by_verdict = {name: [v for v in verdicts if v.verdict == name] for name in (REPRODUCED, CONTRADICTED, INCONCLUSIVE)}
    counts = {name: len(found) for name, found in by_verdict.items()}
    changed = sum(verdict.in_family != verdict.verdict for verdict in verdicts)
    lines = [
        f"Of {len(verdicts)} published claims that this run can test: **{counts[REPRODUCED]} reproduced"
        f"{_scale(results, published)}, {counts[CONTRADICTED]} {_against(results, published)}, "
        f"{counts[INCONCLUSIVE]} inconclusive**. {scope(results)}",
        f"Judged together, at 5 % over the whole family (Holm), {changed or 'none'} of these verdicts "
        f"{'becomes' if changed < 2 else 'become'} inconclusive.",
    ]
    if len(results.suite.seeds) == 1:
        lines.append("One training of each variant decides nothing: the intervals leave out how trainings differ.")
    first = verdicts[0]
    lines.append(
        f"{first.claim.text}: {plain_words(first, published)} – *{verdict_text(first.verdict, results, published)}*."
    )
    if by_verdict[REPRODUCED]:
        lines.append("Reproduced: " + _list(by_verdict[REPRODUCED]) + ".")
    if by_verdict[CONTRADICTED]:
        against = "; ".join(f"{v.claim.text} – {plain_words(v, published)}" for v in by_verdict[CONTRADICTED])
        lines.append(f"**Against the publications:** {against}.")
    else:
        lines.append("Nothing goes against the publications beyond chance.")
    if by_verdict[INCONCLUSIVE]:
        lines.append(f"Not decided: {_list(by_verdict[INCONCLUSIVE])}. {_direction(by_verdict[INCONCLUSIVE])}.")
    return lines


def claim_notes(context: Context) -> list[str]:
    """What must be known of single claims to read their verdicts."""
    lines = []
    adam = uses_adam(context.results)
    for claim in (verdict.claim for verdict in context.verdicts):
        note = " ".join(filter(None, (claim.note, claim.adam if adam else "")))
        if note:
            lines.append(f"{claim.text}: {note}")
    return lines


def _scale(results: Results, published: Mapping[str, Published]) -> str:
    if results.is_generated:
        return " at miniature scale"
    return "" if is_published(results.download, published) else " on these images"


def _against(results: Results, published: Mapping[str, Published]) -> str:
    word = verdict_text(CONTRADICTED, results, published)
    return f"with the {word}" if word == OPPOSITE else word


def _list(verdicts: Sequence[Verdict]) -> str:
    return ", ".join(f"{v.claim.short} ({effect_text(v.claim, v.interval.mean)})" for v in verdicts)


def _direction(verdicts: Sequence[Verdict]) -> str:
    """How many of the undecided point the published way."""
    signed = [verdict for verdict in verdicts if verdict.claim.expected]
    same = sum(verdict.claim.sign * verdict.interval.mean > 0 for verdict in signed)
    if same == len(signed):
        return "It points the published way" if same == 1 else f"All {same} with a sign point the published way"
    return f"Of these, {same} of {len(signed)} point{'s' if same == 1 else ''} the published way"

"""The claims as tables: what is published and what happened here, effect by effect, and what would decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reports.claims import Claim
from reports.results.collect import Results
from reports.results.published import Published, is_published
from reports.statistics import RESAMPLES, Design, Interval
from reports.tables.table import Cell, Row, Table, TableEntry, digits_of, format_number, format_range
from reports.verdicts import CONTRADICTED, Verdict, power_of

OPPOSITE = "opposite sign here"  # what contradicted is called on other images than those of the publications


def verdict_text(verdict: str, results: Results, published: Mapping[str, Published]) -> str:
    """A verdict in words that fit the scale: other images do not contradict results on COCO."""
    return OPPOSITE if verdict == CONTRADICTED and not is_published(results.download, published) else verdict


def scope(results: Results) -> str:
    """What was there once, so that the intervals do not cover it."""
    once = ["one draw of the data" if results.is_generated else "one set of images"]
    if results.suite.pretraining is not None:
        once.insert(0, "one pretraining")
    return f"{', '.join(once).capitalize()}: another{' of either' * (len(once) > 1)} may give other effects."


def effect_text(claim: Claim, value: float) -> str:
    """An effect in its own unit: points, a ratio of times, a difference of correlations."""
    if claim.kind == "ratio":
        return f"× {format_number(math.exp(value), 3)}"
    return format_number(value, 2 if claim.kind == "correlation" else digits_of(value), signed=True)


def interval_text(claim: Claim, interval: Interval) -> str | None:
    """The 95 % interval of an effect in its own unit; None without one."""
    if interval.bounds is None:
        return None
    low, high = interval.bounds
    if claim.kind == "ratio":
        return f"{format_number(math.exp(low), 3)} to {format_number(math.exp(high), 3)}"
    return format_range(low, high)


def scoreboard(verdicts: Sequence[Verdict], published: Mapping[str, Published], results: Results) -> Table:
    """The claims: published effects, this run's with its interval, the verdicts, the size beside the published one."""
    columns = ("metric", *published, "this run", "95 % interval", "verdict", "in the family", "published size")
    rows = tuple(verdict_row(verdict, published, results) for verdict in verdicts)
    return Table(CLAIMS.key, CLAIMS.title, _caption(published, results), columns, rows, stub="claim")


def verdict_row(verdict: Verdict, published: Mapping[str, Published], results: Results) -> Row:
    """A claim in the columns of `scoreboard`."""
    claim, interval = verdict.claim, verdict.interval
    rest: dict[str, Any] = {"seeds": interval.n, "sources": verdict.sources, "kind": "text"}
    cells = {"metric": Cell(claim.metric, kind="text")}
    for key, value in verdict.published.items():
        text = effect_text(claim, value) if claim.kind in ("ratio", "correlation") else None
        cells[key] = Cell(
            text or value, kind="text" if text else "difference", sources=verdict.effect.published_sources[key]
        )
    least = f" (the least of {len(verdict.effects)})" if len(verdict.effects) > 1 else ""
    cells["this run"] = Cell(effect_text(claim, interval.mean) + least, stale=verdict.stale, **rest)
    cells["95 % interval"] = Cell(interval_text(claim, interval), **rest)
    cells["verdict"] = Cell(verdict_text(verdict.verdict, results, published), **rest)
    if verdict.in_family is not None:
        cells["in the family"] = Cell(verdict_text(verdict.in_family, results, published), **rest)
    if verdict.equivalent:
        cells["published size"] = Cell(verdict.equivalent, **rest)
    label = claim.text if claim.is_published else f"{claim.text} (not a published claim)"
    return Row("", label, cells, emphasis=verdict.verdict == CONTRADICTED, key=claim.id)


def verdicts_note(published: Mapping[str, Published], results: Results) -> str:
    """What intervals cover, and what verdicts mean."""
    n = len(results.suite.seeds)
    basis = f"variation over {n} trainings of each variant" if n > 1 else "no variation between trainings"
    if results.resamples:
        basis += f" and over images ({RESAMPLES} bootstrap resamples)"
    word = verdict_text(CONTRADICTED, results, published)
    text = f"Differences in points. The intervals cover {basis}. {scope(results)} "
    if n == 1:
        text += "With one training of each variant no difference is decided. "
    return text + (
        f"*Reproduced*: the whole interval lies on the claimed side of zero (or of a margin that the claim states); "
        f"*{word}*: on the other side; *inconclusive*: it contains zero. *In the family*: the same at 5 % over all "
        "published claims together (Holm)."
    )


def _caption(published: Mapping[str, Published], results: Results) -> str:
    return verdicts_note(published, results) + (
        " *Published size*: whether the interval reaches the reproduction's effect (the paper's where it has none) "
        "± half of it, at least 0.2 points."
    )


def effects_table(verdicts: Sequence[Verdict]) -> Table | None:
    """Every effect of the claims that are about several."""
    rows = []
    for verdict in (verdict for verdict in verdicts if len(verdict.effects) > 1):
        for effect in verdict.effects:
            rest: dict[str, Any] = {"seeds": effect.interval.n, "sources": effect.sources, "kind": "text"}
            cells = {
                key: Cell(value, kind="difference", sources=effect.published_sources[key])
                for key, value in effect.published.items()
            }
            cells["this run"] = Cell(effect_text(verdict.claim, effect.interval.mean), stale=effect.stale, **rest)
            cells["95 % interval"] = Cell(interval_text(verdict.claim, effect.interval), **rest)
            rows.append(Row(verdict.claim.short, effect.label, cells))
    if not rows:
        return None
    margins = ", ".join(
        f"{v.claim.short} {v.claim.margin:g}" for v in verdicts if len(v.effects) > 1 and v.claim.margin
    )
    caption = f"A claim about several differences holds when each does. Margins in points: {margins}."
    return Table(
        EFFECTS.key, EFFECTS.title, caption, ("reproduction", "this run", "95 % interval"), tuple(rows), "difference"
    )


def power_table(verdicts: Sequence[Verdict], results: Results) -> Table | None:
    """What deciding each published effect would take."""
    rows = []
    for verdict in verdicts:
        power = power_of(verdict)
        if power is None:
            continue
        design, interval = power.design(), verdict.interval
        cells = {
            "published effect": Cell(power.effect, kind="difference", sources=verdict.effect.reference_sources),
            "half width here": Cell(interval.half_width, digits=2, seeds=interval.n, sources=verdict.sources),
            "trainings needed": Cell(_trainings(design, power.most), kind="text", sources=verdict.sources),
            "images needed": Cell(_images(design, results), kind="text", sources=verdict.sources),
        }
        rows.append(Row("", verdict.claim.text, cells, key=verdict.claim.id))
    if not rows:
        return None
    caption = (
        "To decide an effect of the published size with 80 % power at 5 %: trainings of each variant, with the images "
        "there are; or images, with the trainings there are. An en dash: no number suffices, the other must grow."
    )
    columns = ("published effect", "half width here", "trainings needed", "images needed")
    return Table(POWER.key, POWER.title, caption, columns, tuple(rows), stub="claim")


def _trainings(design: Design, most: int) -> str:
    return f"more than {most}" if design.trainings is None else str(design.trainings)


def _images(design: Design, results: Results) -> str | None:
    if design.images is None:
        return None
    split = results.suite.report_split
    there = max((row["images"] for row in results.evaluations.to_dict("records") if row["split"] == split), default=0)
    return f"{math.ceil(design.images * there / 10) * 10}"


CLAIMS = TableEntry(
    "claims",
    "What the publications claim, and what happened here",
    lambda c: scoreboard(c.verdicts, c.published, c.results) if c.verdicts else None,
)
EFFECTS = TableEntry("claim_effects", "Claims about several differences", lambda c: effects_table(c.verdicts))
POWER = TableEntry("power", "What would decide", lambda c: power_table(c.verdicts, c.results))

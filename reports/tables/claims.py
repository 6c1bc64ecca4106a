"""The claims as a table: what the publications report, and what happened here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.claims import CONTRADICTED, Verdict
from reports.results.published import Published
from reports.statistics import RESAMPLES
from reports.tables.table import Cell, Row, Table, TableEntry, format_range


def scoreboard(verdicts: Sequence[Verdict], published: Mapping[str, Published]) -> Table:
    """The claims: published differences, this run's difference with its interval, the verdict."""
    columns = ("metric", *published, "this run", "95 % interval", "verdict")
    rows = tuple(_row(verdict) for verdict in verdicts)
    return Table(CLAIMS.key, CLAIMS.title, _caption(verdicts), columns, rows, stub="claim")


def _row(verdict: Verdict) -> Row:
    interval, combined = verdict.interval, verdict.interval.combined
    rest: dict[str, Any] = {"seeds": interval.n, "sources": verdict.sources}
    cells = {"metric": Cell(verdict.claim.metric, kind="text")}
    for key, value in verdict.published.items():
        cells[key] = Cell(value, kind="difference", sources=verdict.published_sources[key])
    cells["this run"] = Cell(interval.mean, kind="difference", stale=verdict.stale, **rest)
    cells["95 % interval"] = Cell(format_range(*combined) if combined else None, kind="text", **rest)
    cells["verdict"] = Cell(verdict.verdict, kind="text", **rest)
    is_contradicted = verdict.verdict == CONTRADICTED
    return Row("", verdict.claim.text, cells, emphasis=is_contradicted, key=verdict.claim.id)


def _caption(verdicts: Sequence[Verdict]) -> str:
    n = max((verdict.interval.n for verdict in verdicts), default=0)
    parts = []
    if n > 1:
        parts.append(f"variation over {n} seeds (t interval of paired differences)")
    if any(verdict.interval.images for verdict in verdicts):
        parts.append(f"variation over images (bootstrap, {RESAMPLES} resamples)")
    basis = " combined with ".join(parts) if parts else "nothing: one seed and no bootstrap give no interval"
    text = f"Differences in points. The interval is on the difference and covers {basis}. "
    if n == 1:
        text += "With one seed, the variation between trainings is not covered. "
    return text + (
        "*Reproduced*: the whole interval lies on the claimed side of zero; *contradicted*: on the other side; "
        "*inconclusive*: it contains zero."
    )


CLAIMS = TableEntry(
    "claims",
    "What the publications claim, and what happened here",
    lambda c: scoreboard(c.verdicts, c.published) if c.verdicts else None,
)

"""What the tables, figures and texts of a report are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.results.collect import Results
from reports.results.pooling import MeasuredPooling
from reports.results.published import Published
from reports.results.search import SearchResults
from reports.results.treated import Treated
from reports.verdicts import Verdict


@dataclass(frozen=True)
class Context:
    """What the tables, figures and texts of a report are made from.

    Attributes:
        published: the published sources.
        search: the hyper-parameter search; None without a finished one.
        verdicts: the claims that were judged.
        pooling: what was measured of RoI poolings; None for a report that is not about them.
        treated: the detectors whose boxes were treated; None for a report that is not about them.
    """

    results: Results
    published: Mapping[str, Published]
    search: SearchResults | None = None
    verdicts: Sequence[Verdict] = ()
    pooling: MeasuredPooling | None = None
    treated: Treated | None = None

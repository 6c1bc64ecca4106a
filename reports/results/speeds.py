"""The timed inference of every device and batch size, with the names that table and figure give it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from reports.results.collect import Results
from reports.results.files import need
from reports.results.sides import THIS_RUN
from suite.errors import NotInSuite

NOT_TIMED = "inference was not timed (`snakemake speed`)"


def require_timed(results: Results) -> None:
    """Raises `NotInSuite`, saying why, where no inference was timed."""
    if results.speeds.empty:
        nothing = results.suite.speed is None
        raise NotInSuite("inference is not timed (`speed: null`)" if nothing else NOT_TIMED)


class TimedBlock(NamedTuple):
    """One batch size on one device.

    Attributes:
        timed: the row of `Results.speeds`.
        group: a name for the block.
        origin: its dotted key in the speed file.
        rows: what was timed, by the keys of the published table, and what it took.
    """

    timed: Mapping[Any, Any]
    group: str
    origin: str
    rows: Mapping[str, Any]


def timed_blocks(results: Results) -> Iterator[TimedBlock]:
    """Every timed batch size of every device."""
    several = len(results.speeds) > 1
    for timed in results.speeds.to_dict("records"):
        for index, block in enumerate(timed["data"]["blocks"]):
            group = f"{THIS_RUN}, {timed['device']}" if several else THIS_RUN
            group += f", {block['batch_size']} images at once" if block["batch_size"] > 1 else ""
            yield TimedBlock(timed, group, f"blocks.{index}", block["rows"])


def own_label(results: Results, timed: Mapping[Any, Any]) -> str:
    """Label of the row that the published table does not have. Raises `ReportError` where the file does not name it."""
    dtype = need(timed["data"], "reduced_precision.fc_dtype", results.root / timed["source"])
    return f"+ Refine, FC in {dtype}"

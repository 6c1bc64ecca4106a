"""What a table is: rows of cells with values, intervals and sources; as a frame, and as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from reports.context import Context
from reports.results.source import Source

MINUS = "\u2212"
Kind = Literal["value", "difference", "text"]


@dataclass(frozen=True)
class Cell:
    """One cell: AP and its differences in points (× 100), everything else as it is.

    Attributes:
        value: number or text; None where there is none to show.
        half_width: half of the 95 % interval over seeds; None if there is no interval.
        seeds: number of seeds behind it; 0 for published numbers and text.
        kind: 'difference' is shown with its sign.
        digits: decimals shown.
        stale: an input changed since it was computed.
        link: for text, the file below the results folder or URL it links to.
    """

    value: float | str | None
    half_width: float | None = None
    seeds: int = 0
    kind: Kind = "value"
    digits: int = 1
    sources: tuple[Source, ...] = ()
    stale: bool = False
    link: str = ""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        group: whose numbers they are (a source).
        label: what was measured.
        emphasis: it is shown in bold.
        key: what the row is, for code that looks for it: a row of a published table, a variant, a trial.
        is_name: the label is a name, set in code font.
    """

    group: str
    label: str
    cells: Mapping[str, Cell]
    emphasis: bool = False
    key: str = ""
    is_name: bool = False

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files behind the row, each once, in order."""
        return tuple({source.file + source.url: source for c in self.cells.values() for source in c.sources}.values())


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        key: file name of its CSV.
        stub: header of the label column.
    """

    key: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    stub: str = "model"

    @property
    def grouped(self) -> bool:
        """Whether rows come from more than one source."""
        return any(row.group for row in self.rows)

    def frame(self) -> pd.DataFrame:
        """The table as it goes to its CSV: numbers in full precision, intervals and sources in columns of their own."""
        intervals = {
            column for column in self.columns if any(_cell(r, column).half_width is not None for r in self.rows)
        }
        records: list[dict[str, Any]] = []
        for row in self.rows:
            record: dict[str, Any] = {"source": row.group} if self.grouped else {}
            record[self.stub] = row.label
            for column in self.columns:
                cell = _cell(row, column)
                record[column] = round(cell.value, 6) if isinstance(cell.value, float) else cell.value
                if column in intervals:
                    record[f"{column} half width"] = None if cell.half_width is None else round(cell.half_width, 6)
            record["seeds"] = max((cell.seeds for cell in row.cells.values()), default=0) or None
            record["stale"] = any(cell.stale for cell in row.cells.values())
            record["files"] = " ".join(dict.fromkeys(source.file for source in row.sources))
            records.append(record)
        return pd.DataFrame(records)


@dataclass(frozen=True)
class TableEntry:
    """A table that a report can have.

    Attributes:
        key: of the table.
        title: of the table; a line names it where the table is left out.
        make: makes the table, or None where there is nothing to show and nothing to say about it. It raises
            `NotInSuite` when the suite lacks what the table is about (it is left out, with a line that says so) and
            `MissingResult` when a file is missing (an error).
        variants: the published names of those it is about; () = all of the suite's. Without one of them, or what
            stands for it, the table is left out, with a line that names all that is missing.
    """

    key: str
    title: str
    make: Callable[[Context], Table | None]
    variants: tuple[str, ...] = ()


def _cell(row: Row, column: str) -> Cell:
    return row.cells.get(column, Cell(None))


def plural(number: int, name: str) -> str:
    """A number of things: 1 epoch, 2 epochs."""
    return f"{number} {name}{'' if number == 1 else 's'}"


def format_number(value: float, digits: int = 1, signed: bool = False) -> str:
    """A number with a true minus sign, never a signed zero."""
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", MINUS)


def digits_of(*values: float) -> int:
    """Decimals of a difference: two near zero, else one."""
    return 2 if min(map(abs, values)) < 1 else 1


def format_duration(seconds: float) -> str:
    """Seconds, minutes or hours, as a person would say them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} min {rest:02d} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def format_range(low: float, high: float) -> str:
    """A 95 % interval of a difference, in words that survive a negative bound."""
    digits = digits_of(low, high)
    return f"{format_number(low, digits, signed=True)} to {format_number(high, digits, signed=True)}"


def format_cell(cell: Cell) -> str:
    """The cell's text: value, interval, and a dagger if it is stale; an en dash if there is nothing to show."""
    if cell.value is None or (isinstance(cell.value, float) and math.isnan(cell.value)):
        return "–"
    if isinstance(cell.value, str):
        text = cell.value
    else:
        text = format_number(cell.value, cell.digits, signed=cell.kind == "difference")
        if cell.half_width is not None:
            text += f" ± {format_number(cell.half_width, cell.digits)}"
    return text + " †" if cell.stale else text


def cells_of(tables: Sequence[Table]) -> list[tuple[Table, Row, str, Cell]]:
    """Every cell with its place."""
    return [
        (table, row, column, _cell(row, column)) for table in tables for row in table.rows for column in table.columns
    ]

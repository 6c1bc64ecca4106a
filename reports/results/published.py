"""Published numbers: data files with their sources, and how to look one up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reports.errors import ReportError
from reports.results.source import Source

FOLDER = Path(__file__).parents[1] / "published"


@dataclass(frozen=True)
class Published:
    """One published source: the paper, or the published reproduction."""

    key: str
    data: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.data["source"]["name"]

    @property
    def download(self) -> str:
        """Name of the data set it reports on."""
        return self.data["source"]["download"]

    @property
    def file(self) -> str:
        """Path of its data file inside the repository."""
        return f"reports/published/{self.key}.yaml"

    def has(self, table: str) -> bool:
        """Whether the source has this table."""
        return table in self.data["tables"]

    def table(self, table: str) -> Mapping[str, Any]:
        """One table: `rows`, `columns`, `source`, `url`.

        Raises:
            ReportError: the source has no such table.
        """
        if table not in self.data["tables"]:
            raise ReportError(f"{self.file}: no table '{table}'")
        return self.data["tables"][table]

    def value(self, table: str, row: str, column: str) -> float | None:
        """One number, in the table's unit; None where the source prints none.

        Raises:
            ReportError: no such table, row or column.
        """
        rows = self.table(table)["rows"]
        if row not in rows or column not in rows[row]:
            raise ReportError(f"{self.file}: no value '{table}/{row}/{column}'")
        return rows[row][column]

    def source(self, table: str, row: str, column: str = "") -> Source:
        """Where a number, or a row, was printed."""
        key = "/".join(filter(None, (table, row, column)))
        return Source(self.file, key, "published", self.data["source"]["link"], url=self.table(table)["url"])

    def lookup(self, path: str) -> float | None:
        """`value` by a path `table/row/column`."""
        parts = path.split("/")
        if len(parts) != 3:
            raise ReportError(f"'{path}' is not of the form table/row/column")
        return self.value(*parts)


def is_published(download: str | None, published: Mapping[str, Published]) -> bool:
    """Whether a data set is the one that a publication reports on; only there can a run contradict it.

    Args:
        download: its name in the catalogue of downloads; None for any other.
    """
    return download is not None and any(download == source.download for source in published.values())


def load_published(folder: Path = FOLDER) -> dict[str, Published]:
    """All published sources, by key: `paper` and `reproduction`."""
    return {
        key: Published(key, yaml.safe_load((folder / f"{key}.yaml").read_text(encoding="utf-8")))
        for key in ("paper", "reproduction")
    }

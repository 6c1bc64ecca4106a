"""Where a number comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["evaluation", "diagnostics", "run", "history", "speed", "sweep", "pooling", "published"]


@dataclass(frozen=True)
class Source:
    """A number's file, and its place in it.

    Attributes:
        file: path below the results folder, or of the data file inside the repository for a published number.
        key: dotted key (results) or `table/row/column` (published).
        kind: what the file is.
        label: what a link to it is called.
        variant, seed, setting: what was trained and how it was evaluated, as far as the file is about one of them.
        url: where a published number was printed.
    """

    file: str
    key: str
    kind: Kind
    label: str = ""
    variant: str = ""
    seed: int | None = None
    setting: str = ""
    url: str = ""

    @property
    def is_published(self) -> bool:
        """Whether it is a published number."""
        return self.kind == "published"

    @staticmethod
    def of_evaluation(row: Mapping[Any, Any], key: str) -> Source:
        """A key of the evaluation file behind a row of `Results.evaluations`."""
        return Source(
            row["source"], key, "evaluation", str(row["seed"]), row["variant"], int(row["seed"]), row["setting"]
        )

    @staticmethod
    def of_diagnostics(row: Mapping[Any, Any], key: str) -> Source:
        """A key of the file behind a row of `Results.diagnostics`."""
        return Source(row["source"], key, "diagnostics", str(row["seed"]), row["variant"], int(row["seed"]))

    @staticmethod
    def of_run(row: Mapping[Any, Any], key: str) -> Source:
        """A key of the run.json behind a row of `Results.runs`."""
        return Source(row["source"], key, "run", str(row["seed"]), row["variant"], int(row["seed"]))

    @staticmethod
    def of_record(row: Mapping[Any, Any]) -> Source:
        """The W&B run of a row of `Results.runs`: in its sidecar, or in the run.json of the first release."""
        key = "wandb_run_id" if row["record_source"] == row["source"] else "run_id"
        return Source(row["record_source"], key, "run", str(row["seed"]), row["variant"], int(row["seed"]))

    @staticmethod
    def of_history(row: Mapping[Any, Any], column: str) -> Source:
        """A column of the curves behind a row of `Results.runs`."""
        return Source(row["history_source"], column, "history", str(row["seed"]), row["variant"], int(row["seed"]))

    @staticmethod
    def of_speed(row: Mapping[Any, Any], key: str) -> Source:
        """A key of the file behind a row of `Results.speeds`."""
        return Source(row["source"], key, "speed", row["device"], seed=row["data"]["seed"])

    @staticmethod
    def of_pooling(file: str, key: str) -> Source:
        """A key of what was measured of RoI poolings."""
        return Source(file, key, "pooling", "measured")

"""The curves of a run: metrics.jsonl, the source of truth while it trains, and history.csv, made of it."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from suite.errors import SuiteError
from suite.files import atomic, write_text

VALIDATION = "val/"  # what the names of validation metrics begin with


class MetricsLog:
    """A metrics.jsonl that is written: one JSON object per line, ordered by step."""

    def __init__(self, path: Path, resume_step: int) -> None:
        """Drops the rows after `resume_step` (and a torn last line): what is trained again is logged again."""
        self.path = path
        rows = [row for row in read_metrics(path) if row["step"] <= resume_step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))

    def append(self, step: int, epoch: float, values: dict[str, float | None]) -> None:
        """Adds a row; values that are None are left out."""
        row = {"step": step, "epoch": round(epoch, 4), **{k: v for k, v in values.items() if v is not None}}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a metrics.jsonl; half a last line, which a kill leaves, is left out; no file, no rows.

    Raises:
        SuiteError: another line is damaged; names file and line.
    """
    rows = []
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines) or line.endswith(b"\n"):
            raise SuiteError(
                f"{path}, line {number}: damaged; restore the file from a backup, or take that line out: "
                "the curve then lacks this step, the weights lack nothing"
            )
    return rows


def _row(line: bytes) -> dict[str, float] | None:
    """The row that a line holds; None if it holds none."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "step" in row else None


def validation_of(row: dict[str, float]) -> dict[str, float]:
    """The validation metrics of a row by their plain names; empty where it has none."""
    return {key.removeprefix(VALIDATION): value for key, value in row.items() if key.startswith(VALIDATION)}


def validations(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """(epoch, metrics) of every validation in a metrics.jsonl."""
    for row in read_metrics(path):
        if found := validation_of(row):
            yield int(row["epoch"]), found


def write_history(path: Path, rows: list[dict[str, float]]) -> None:
    """Curves as a wide CSV: one row per logged step, blank where a row has no value."""
    columns = list(dict.fromkeys(["step", "epoch", *(key for row in rows for key in row)]))
    with atomic(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)

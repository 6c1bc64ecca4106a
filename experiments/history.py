"""A run's metrics.jsonl, the source of truth for its curves."""

import json
from pathlib import Path

from suite.files import atomic

METRICS = "metrics.jsonl"


class MetricsLog:
    """The run's metrics.jsonl, the source of truth for its curves: one JSON object per line, ordered by step."""

    def __init__(self, path: Path, resume_step: int) -> None:
        """Drops the rows after `resume_step` (and a torn last line): what is trained again is logged again."""
        self.path = path
        rows = [row for row in read_metrics(path) if row["step"] <= resume_step]
        with atomic(path) as part:
            part.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def append(self, step: int, epoch: float, values: dict[str, float | None]) -> None:
        """Adds a row; values that are None are left out."""
        row = {"step": step, "epoch": round(epoch, 4), **{k: v for k, v in values.items() if v is not None}}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a metrics.jsonl; a last line torn by a kill is left out; no file, no rows."""
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows

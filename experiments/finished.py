"""What a stage's command hands on when its files are written: `python -m experiments` tracks it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from suite.suite import Suite


@dataclass(frozen=True)
class Finished:
    """A finished stage.

    Attributes:
        suite: whose stage it is.
        path: its folder, or its file for the timed inference.
        is_reachable: whether W&B's server answered so far; if not, the run's upload is left to `make sync`.
    """

    suite: Suite
    path: Path
    is_reachable: bool = True

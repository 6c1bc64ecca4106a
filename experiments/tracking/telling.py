"""How tracking speaks to its user: on stderr, a line at a time, without the key."""

from __future__ import annotations

import os
import sys


def tell(text: str) -> None:
    """Says on stderr, without the key, what W&B did not do."""
    print(
        "Weights & Biases: " + text.replace(os.environ.get("WANDB_API_KEY") or "\0", "***"), file=sys.stderr, flush=True
    )

"""How tracking speaks to its user: on stderr, in one line, without the key."""

from __future__ import annotations

import os
import sys


def tell(text: str) -> None:
    """Says what W&B did not do."""
    print("Weights & Biases: " + without_key(" ".join(text.split())), file=sys.stderr, flush=True)


def without_key(text: str) -> str:
    """A text in which the key is starred out."""
    return text.replace(os.environ.get("WANDB_API_KEY") or "\0", "***")

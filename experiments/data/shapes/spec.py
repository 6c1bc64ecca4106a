"""What identifies a generated set: the version of the generator, and what a suite's `dataset` block asks of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from suite.suite import GeneratedData

VERSION = 1  # of the generated data: raise it with every change that moves a box or changes how an image looks
IDS_PER_SPLIT = 1_000_000


def spec(dataset: GeneratedData) -> dict[str, Any]:
    """The block as plain data; its fingerprint depends on the order of the keys."""
    return {
        "splits": {
            name: {"images": split.images, "difficulty": split.difficulty} for name, split in dataset.splits.items()
        },
        "generator": dataset.generator,
        "image_size": dataset.image_size,
        "seed": dataset.seed,
        "objects": list(dataset.objects),
        "sizes": list(dataset.sizes),
    }


def fingerprint(dataset: GeneratedData) -> str:
    """Sha256 of the generator's version and the block."""
    return digest({"version": VERSION, **spec(dataset)})


def digest(value: Any) -> str:
    """Sha256 of a value's JSON."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()

"""What a suite's manifest of images, `dataset.json`, says of some splits alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from suite.files import digest

LEARNT = "learnt_fingerprint"  # in a run.json: `splits_digest` of what the training looked at


def splits_digest(manifest: Mapping[str, Any], splits: Iterable[str]) -> str | None:
    """What identifies the images and annotations of these splits, and the classes, whatever the other splits are.

    Returns:
        None where the manifest, of an earlier release, does not tell splits apart.
    """
    known = manifest["splits"]
    hashes = {split: known.get(split, {}).get("sha256") for split in sorted(set(splits))}
    if None in hashes.values():
        return None
    return digest([manifest.get("version"), manifest["categories"], hashes])

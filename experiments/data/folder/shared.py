"""Images that two splits share: nothing may be reported on what was trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suite.errors import SuiteError
from suite.files import sha256


def refuse_shared(files: Mapping[str, Sequence[Path]]) -> None:
    """Refuses splits with files of their own of which two have an image in common.

    Args:
        files: the images of each split; all exist.

    Raises:
        SuiteError: two are one file, links to one, or equal byte for byte; names both.
    """
    by_inode: dict[Any, tuple[str, Path]] = {}
    by_size: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for split, paths in files.items():
        for path in paths:
            state = path.stat()
            other = by_inode.setdefault((state.st_dev, state.st_ino), (split, path))
            _require_same_split(other, (split, path), "the same file")
            by_size[state.st_size].append((split, path))
    for found in by_size.values():
        if len({split for split, _ in found}) > 1:
            by_hash: dict[str, tuple[str, Path]] = {}
            for split, path in found:
                _require_same_split(by_hash.setdefault(sha256(path), (split, path)), (split, path), "the same image")


def _require_same_split(one: tuple[str, Path], other: tuple[str, Path], what: str) -> None:
    if one[0] != other[0]:
        raise SuiteError(
            f"{one[1]} of split '{one[0]}' and {other[1]} of split '{other[0]}' are {what}: nothing may be chosen or "
            "reported on images that were trained on. Give each split images of its own, or cut one from the other "
            "(`from:` and `take:`)"
        )

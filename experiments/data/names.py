"""Names of files and classes, as suites, lists and annotations write them, and as they are on disk.

Unicode writes an accent in two ways, NFC and NFD. They look alike and are two names to Linux; files that were on a Mac
often have the second one, and what lists them the first.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path


def composed(name: str) -> str:
    """The name in NFC, in which names are compared."""
    return unicodedata.normalize("NFC", name)


class Names:
    """Names that are there, found in whichever form they are asked for.

    Args:
        names: those that are there.
        form: two names for which it is equal are one.
    """

    def __init__(self, names: Iterable[str], form: Callable[[str], str] = composed) -> None:
        self._there = set(names)
        self._by_form = {form(name): name for name in self._there}
        self._form = form

    def find(self, name: str) -> str | None:
        """The name itself if it is there, else the one of its form; None without any."""
        return name if name in self._there else self._by_form.get(self._form(name))


def path_on_disk(path: Path) -> Path:
    """A path as it is on disk, where the forms of its names differ; itself if there is none like it."""
    if os.path.lexists(path) or path == path.parent:
        return path
    parent = path_on_disk(path.parent)
    if not parent.is_dir() or not os.access(parent, os.R_OK):
        return path
    found = Names(os.listdir(parent)).find(path.name)
    return path if found is None else parent / found

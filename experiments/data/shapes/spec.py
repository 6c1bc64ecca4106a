"""The ``dataset`` block of a suite that asks for the ``shapes`` set: what it may say, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from experiments.data.shapes.scene import DIFFICULTIES
from suite.errors import SuiteError

VERSION = 1  # of the generated data: raise it with every change that moves a box or changes how an image looks
MANIFEST = "dataset.json"
MAX_OBJECTS = 20
IDS_PER_SPLIT = 1_000_000


@dataclass(frozen=True)
class SplitSpec:
    """One split: how many images, and a key of ``shapes_render.DIFFICULTIES``."""

    images: int
    difficulty: str = "normal"


@dataclass(frozen=True)
class DatasetSpec:
    """A suite's ``dataset`` block, checked; see ``render_scene`` for ``objects`` and ``sizes``."""

    splits: dict[str, SplitSpec]
    generator: str = "shapes"
    image_size: int = 96
    seed: int = 0
    objects: tuple[int, int] = (2, 5)
    sizes: tuple[float, float] = (16, 52)

    @property
    def fingerprint(self) -> str:
        """Sha256 of the spec and the generator's version."""
        return digest({"version": VERSION, **asdict(self)})


def _is_int(value: Any, low: int, high: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _check_keys(block: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in block:
        if key not in known:
            close = get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
            raise SuiteError(f"{where}: unknown key {key!r}; {hint}")


def _parse_range(block: Mapping[str, Any], key: str, default: tuple[Any, Any], low: float, high: float) -> Any:
    value = block.get(key, default)
    if isinstance(value, (list, tuple)) and len(value) == 2:
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
        integers = key != "objects" or all(isinstance(v, int) for v in value)
        if numbers and integers and low <= value[0] <= value[1] <= high:
            return tuple(value) if key == "objects" else (float(value[0]), float(value[1]))
    kind = "integers" if key == "objects" else "numbers"
    raise SuiteError(
        f"dataset.{key}: expected two {kind}, the smaller first, from {low:g} to {high:g}, got {value!r}; "
        f"for example {key}: {list(default)}"
    )


def parse_spec(block: Any) -> DatasetSpec:
    """Checks a suite's ``dataset`` block and fills in its defaults.

    Raises:
        SuiteError: names the key, what was expected and a value that works.
    """
    if not isinstance(block, Mapping):
        raise SuiteError(
            f"dataset: expected a block of keys, got {block!r}; for example dataset: {{generator: shapes, …}}"
        )
    _check_keys(block, ["generator", "image_size", "seed", "objects", "sizes", "splits"], "dataset")
    if block.get("generator") != "shapes":
        raise SuiteError(f"dataset.generator: this module makes 'shapes', got {block.get('generator')!r}")
    size, seed = block.get("image_size", 96), block.get("seed", 0)
    if not _is_int(size, 32, 1024):
        raise SuiteError(
            f"dataset.image_size: expected an integer from 32 to 1024, got {size!r}; for example image_size: 96"
        )
    if not _is_int(seed, 0):
        raise SuiteError(f"dataset.seed: expected an integer of 0 or more, got {seed!r}; for example seed: 0")
    splits = block.get("splits")
    if not isinstance(splits, Mapping) or not splits:
        raise SuiteError(
            f"dataset.splits: expected split names, got {splits!r}; for example splits: {{val: {{images: 500}}}}"
        )
    parsed = {}
    for name, entry in splits.items():
        where = f"dataset.splits.{name}"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", str(name)) or f"{name}.json" == MANIFEST:
            raise SuiteError(
                f"{where}: a split is named with letters, digits, '_' and '-', and not 'dataset'; rename it"
            )
        if not isinstance(entry, Mapping):
            raise SuiteError(
                f"{where}: expected a block with 'images', got {entry!r}; for example {name}: {{images: 500}}"
            )
        _check_keys(entry, ["images", "difficulty"], where)
        images: Any = entry.get("images")
        difficulty = entry.get("difficulty", "normal")
        if not _is_int(images, 1, IDS_PER_SPLIT - 1):
            raise SuiteError(
                f"{where}.images: expected an integer from 1 to 999999, got {images!r}; for example images: 500"
            )
        if difficulty not in DIFFICULTIES:
            raise SuiteError(f"{where}.difficulty: expected one of {', '.join(DIFFICULTIES)}, got {difficulty!r}")
        parsed[str(name)] = SplitSpec(images, difficulty)
    return DatasetSpec(
        splits=parsed,
        image_size=size,
        seed=seed,
        objects=_parse_range(block, "objects", (2, 5), 0, MAX_OBJECTS),
        sizes=_parse_range(block, "sizes", (16, 52), 12, size),
    )


def digest(value: Any) -> str:
    """Sha256 of a value's JSON."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()

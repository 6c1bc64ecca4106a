"""What the paper and the published reproduction claim: data in claims.yaml, read and checked here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from reports.errors import ReportError
from reports.results.sides import BASELINE, IOUNET, Compared, Side
from suite.files import digest

FILE = Path(__file__).parent / "claims.yaml"
Kind = Literal["difference", "each", "similar", "ratio", "correlation"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LEAST_TOLERANCE = 0.2  # points of AP: what published effects differ by between paper and reproduction

SAID = ("text", "short", "note", "adam")  # keys that decide nothing
Cells = tuple[tuple[str, str], ...]  # pairs of published cells, table/row/column


@dataclass(frozen=True)
class Claim:
    """One claim, and how it is tested (claims.yaml describes the kinds).

    Attributes:
        expected: sign of the effect; '' for `similar`.
        pairs: the sides that are compared; () for `ratio` and `correlation`.
        rows: rows of the speed table (`ratio`), or confidences (`correlation`), the first and the second.
        margin: how far each effect may fall short (`each`), or differ from zero (`similar`), in points.
        variant, population: the checkpoints and the boxes of a `correlation`.
        published: for each source, the two values behind the effect that it reports, of each pair.
        argued: a source argues it, without a number that it is set beside.
        note: said beside the claim; `adam` the same where a run was trained with Adam or AdamW.
    """

    id: str
    kind: Kind
    text: str
    short: str
    expected: str
    metric: str
    published: Mapping[str, Cells]
    pairs: tuple[tuple[Compared, Compared], ...] = ()
    rows: tuple[str, str] = ("", "")
    margin: float = 0.0
    variant: str = ""
    population: str = ""
    argued: bool = False
    note: str = ""
    adam: str = ""

    @property
    def is_published(self) -> bool:
        """Whether a source reports it: only such claims are of the family that is judged together."""
        return self.argued or bool(self.published)

    @property
    def variants(self) -> list[str]:
        """The variants that it is about, each once."""
        if self.kind == "ratio":  # the speed table's rows are of these two
            return [BASELINE.variant, IOUNET]
        sides = [side.variant for pair in self.pairs for side in pair]
        return list(dict.fromkeys(sides or [self.variant]))

    @property
    def sign(self) -> float:
        """1 where the effect is expected to be positive, −1 where negative."""
        return -1.0 if self.expected == "-" else 1.0


def load_claims(path: Path = FILE) -> list[Claim]:
    """Read the claims.

    Raises:
        ReportError: naming file, claim and key that is missing or wrong.
    """
    return [_claim(entry, path) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["claims"]]


def claims_digest(path: Path = FILE) -> str:
    """Hash of everything in the claims that decides a verdict: all but what is said of them."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))["claims"]
    return digest([{key: value for key, value in entry.items() if key not in SAID} for entry in entries])


def _claim(entry: Mapping[str, Any], path: Path) -> Claim:
    name = f"{path}: claim {entry.get('id', '?')}"
    kind = entry.get("kind")
    if kind not in KINDS:
        raise ReportError(f"{name}: 'kind' must be one of {', '.join(KINDS)}, found {kind!r}")
    expected = entry.get("expected", "")
    if kind != "similar" and expected not in ("+", "-"):
        raise ReportError(f"{name}: 'expected' must be '+' or '-', found {expected!r}")
    try:
        common = {key: entry[key] for key in ("id", "text", "short")}
        common |= {key: entry.get(key, "") for key in ("note", "adam")}
        own = _PARSERS[kind](entry)
        published = {key: _published(kind, entry, cells) for key, cells in entry["published"].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(f"{name}: {error}") from None
    return Claim(kind=kind, expected=expected, published=published, **common, **own)


def _contrast(entry: Mapping[str, Any]) -> dict[str, Any]:
    rights = entry["right"] if isinstance(entry["right"], list) else [entry["right"]]
    pairs = [(Side(**entry["left"], **own), Side(**right, **own)) for own, right in product(_variants(entry), rights)]
    return {"metric": entry["metric"], "pairs": tuple(pairs), "margin": float(entry.get("margin", 0.0))}


def _similar(entry: Mapping[str, Any]) -> dict[str, Any]:
    pairs = tuple((Side(**left), Side(**right)) for left, right in entry["pairs"])
    return {"metric": entry["metric"], "pairs": pairs, "margin": float(entry["margin"])}


def _ratio(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"metric": "time", "rows": (entry["left"], entry["right"])}


def _correlation(entry: Mapping[str, Any]) -> dict[str, Any]:
    names = ("variant", "population")
    return {"metric": "Pearson", "rows": (entry["left"], entry["right"]), **{name: entry[name] for name in names}}


_PARSERS = {
    "difference": _contrast,
    "each": _contrast,
    "similar": _similar,
    "ratio": _ratio,
    "correlation": _correlation,
}


def _variants(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"variant": variant} for variant in entry.get("variants", [])] or [{}]


def _published(kind: str, entry: Mapping[str, Any], cells: Sequence[Any]) -> Cells:
    """The pairs of cells that a source's effects are between, in the order of the claim's own pairs."""
    if kind == "similar":
        return tuple((above, below) for above, below in cells)
    above, below = cells
    belows = below if isinstance(below, list) else [below]
    return tuple((above.format(**own), one.format(**own)) for own, one in product(_variants(entry), belows))

"""Where a report's links lead: to the files of the results folder, or to copies beside the report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reports.results.source import Kind, Source
from reports.tables.table import Cell, Row

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED: tuple[Kind, ...] = (
    "evaluation",
    "diagnostics",
    "run",
    "speed",
    "sweep",
    "pooling",
)  # kinds copied beside an example
MOST_SETTINGS = 2  # settings of a row that are linked one by one


@dataclass
class Links:
    """Turns a target into a link relative to the report's folder.

    Attributes:
        root: the results folder that targets are below.
        out: the folder the report will end up in.
        copied: link to copies below `out`, and remember in `used` what must be copied there.
    """

    root: Path
    out: Path
    copied: bool = False
    used: set[str] = field(default_factory=set)

    def to_source(self, source: Source) -> str | None:
        """The link to a source's file, or None if there is nothing to link to."""
        if source.is_published:
            return source.url
        if not (self.root / source.file).exists() or (self.copied and source.kind not in COPIED):
            return None
        if not self.copied:
            return _relative(self.root / source.file, self.out)
        self.used.add(source.file)
        return source.file

    def to_folder(self, source: Source) -> str | None:
        """The link to the folder of a source's file; beside an example it fills up with the files linked in it."""
        folder = Path(source.file).parent
        if not (self.root / folder).exists():
            return None
        return f"{folder.as_posix() if self.copied else _relative(self.root / folder, self.out)}/"

    def to_target(self, cell: Cell) -> str | None:
        """The link of a cell (`Cell.link`), or None if there is nothing to link to."""
        if cell.link.startswith(("https://", "http://")):
            return cell.link
        if cell.link.startswith("repo:"):
            path = REPOSITORY / cell.link.removeprefix("repo:")
            return _relative(path, self.out) if path.exists() else None
        source = next((source for source in cell.sources if source.file == cell.link), None)
        return None if source is None else self.to_source(source)


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def evidence(row: Row, links: Links) -> str:
    """The files behind a row, as markdown links: publications by name, results by seed.

    The two sides of a difference are shown as a − b, by their folders if it is of several settings; the settings of
    other rows are named; many (a row along λ) are shown as one link per variant and seed to the folder that holds them.
    """
    shown, is_difference = _sources_shown(row)
    publications: dict[str, str] = {}
    for source in shown:
        if source.is_published:
            publications.setdefault(source.label, _link(source.label, source.url))
    parts = [*publications.values(), *_evaluation_links(shown, links, is_difference)]
    for kind in dict.fromkeys(source.kind for source in shown):
        if kind in ("run", "history", "speed", "pooling"):
            own = [_link(source.label, links.to_source(source)) for source in shown if source.kind == kind]
            parts.append(f"{kind} {' '.join(own)}")
    return ", ".join(parts)


def _evaluation_links(shown: Sequence[Source], links: Links, is_difference: bool) -> list[str]:
    """Links to evaluations (diagnostics and results of the search included), those of a setting together."""
    evaluations = [source for source in shown if source.kind in ("evaluation", "diagnostics", "sweep")]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for source in evaluations:
        key = (source.kind, source.variant, source.setting)
        groups.setdefault(key, []).append(_link(source.label, links.to_source(source)))
    texts = [" ".join(own) for own in groups.values()]
    if is_difference and len(groups) > 2:  # of several settings: one link per side and seed
        sides: dict[Path, dict[str, str]] = {}
        for source in evaluations:
            own_links = sides.setdefault(Path(source.file).parents[2], {})
            own_links[source.label] = _link(source.label, links.to_folder(source))
        texts = [" − ".join(" ".join(own_links.values()) for own_links in sides.values())]
    elif is_difference and texts:
        texts = [" − ".join(texts)]
    elif len(groups) > MOST_SETTINGS:
        folders: dict[str, dict[str, str]] = {}
        for source in evaluations:
            own_links = folders.setdefault(source.variant, {})
            own_links[source.label] = _link(source.label, links.to_folder(source))
        texts = [" ".join(own_links.values()) for own_links in folders.values()]
        if len(folders) > 1:
            return [f"{variant} {text}" for variant, text in zip(folders, texts, strict=True)]
    elif len(groups) > 1:
        return [f"{setting or kind} {text}" for (kind, _, setting), text in zip(groups, texts, strict=True)]
    seeds = {source.label for source in evaluations if source.kind != "sweep"}
    named = "seed " if len(seeds) == 1 else ""  # a 0 alone looks like a value
    return [named + text for text in texts]


def _link(text: str, target: str | None) -> str:
    return f"[{text}]({target})" if target else text


def _sources_shown(row: Row) -> tuple[list[Source], bool]:
    """Sources of the row's own values, or of its differences where it has nothing else; and which of the two."""
    measured = [c for c in row.cells.values() if c.sources and not c.sources[0].is_published]
    own = [c for c in measured if c.kind == "value"]
    is_difference = not own and any(c.kind == "difference" for c in measured)
    cells = [c for c in row.cells.values() if c in own or c not in measured or not own]
    linked = {c.link for c in row.cells.values()}
    found = {(s.file, s.url): s for c in cells for s in c.sources if s.file not in linked}
    return list(found.values()), is_difference

"""Where a report's links lead: to the files of the results folder, or to copies beside the report."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from reports.tables.table import Row, Source

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED_NAMES = ("run.json",)  # copied beside an example, as are evaluation files
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

    def __call__(self, target: str) -> str | None:
        """The link, or None if there is nothing to link to.

        Args:
            target: a URL, `repo:` and a path inside the repository, or a path below the results folder; a folder ends
                with a slash.
        """
        if target.startswith(("https://", "http://")):
            return target
        if target.startswith("repo:"):
            path = REPOSITORY / target.removeprefix("repo:")
            return _relative(path, self.out) if path.exists() else None
        if not (self.root / target).exists():
            return None
        if not self.copied:
            return _relative(self.root / target, self.out) + ("/" if target.endswith("/") else "")
        if not (target.startswith(("evaluations/", "speed/", "sweep/")) or Path(target).name in COPIED_NAMES):
            return None
        if not target.endswith("/"):  # a folder fills up with the files linked in it
            self.used.add(target)
        return target


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def evidence(row: Row, links: Links) -> str:
    """The files behind a row, as markdown links: publications by name, results by seed.

    The two sides of a difference are shown as a − b; several settings are named; many (a row along λ) are shown as
    one link per seed to the folder that holds them.
    """
    shown, is_difference = _sources_shown(row)
    publications: dict[str, str] = {}
    groups: dict[tuple[str, str], list[str]] = {}
    folders: dict[str, str] = {}
    for source in shown:
        if source.published:
            name = "paper" if Path(source.file).stem == "paper" else "README"
            publications.setdefault(name, _link(name, source.url))
            continue
        path = Path(source.file)
        seed = next((part.removeprefix("seed") for part in path.parts if part.startswith("seed")), path.name)
        kind = {"run.json": "run", "history.csv": "history"}.get(path.name, "")
        if path.parts[0] == "speed":
            kind, seed = "speed", path.stem
        key = (kind, "" if kind else f"{path.parts[1]}/{path.stem}")
        groups.setdefault(key, []).append(_link(seed, links(source.file)))
        if not kind:
            folders[seed] = _link(seed, links(f"{path.parent.as_posix()}/"))
    evaluations = {name: " ".join(texts) for (kind, name), texts in groups.items() if not kind}
    if is_difference:
        own = [" − ".join(evaluations.values())]
    elif len(evaluations) > MOST_SETTINGS:
        own = [" ".join(folders.values())]
    elif len(evaluations) > 1:
        own = [f"{name.split('/')[1]} {texts}" for name, texts in evaluations.items()]
    else:
        own = list(evaluations.values())
    others = [f"{kind} {' '.join(texts)}" for (kind, _), texts in groups.items() if kind]
    return ", ".join([*publications.values(), *own, *others])


def _link(text: str, target: str | None) -> str:
    return f"[{text}]({target})" if target else text


def _sources_shown(row: Row) -> tuple[list[Source], bool]:
    """Sources of the row's own values, or of its differences where it has nothing else; and which of the two."""
    measured = [c for c in row.cells.values() if c.sources and not c.sources[0].published]
    own = [c for c in measured if c.kind == "value"]
    is_difference = not own and any(c.kind == "difference" for c in measured)
    cells = [c for c in row.cells.values() if c in own or c not in measured or not own]
    linked = {c.link for c in row.cells.values()}
    found = {(s.file, s.url): s for c in cells for s in c.sources if s.file not in linked}
    return list(found.values()), is_difference

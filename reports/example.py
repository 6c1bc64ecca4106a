"""The committed example: a light copy of a report, with what its links lead to beside it, thinned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reports.document.blocks import Report
from reports.document.links import Links
from reports.document.markdown import markdown
from reports.results.files import read_json
from reports.tables.table import cells_of
from reports.writing import write_data, write_figures
from suite.layout import ReportFolder

DPI = 100
IDENTITY = (
    *("suite", "device", "variant", "seed", "split", "setting"),
    *("checkpoint_sha256", "config_hash", "git_commit", "dataset_fingerprint", "wandb_run_id"),
    *("checkpoints", "blocks.*.batch_size"),  # of timed inference
    *("treatment.name", "refiner_sha256", "refiners"),  # of treated boxes
)


def write_example(report: Report, folder: Path, links: Links) -> None:
    """Write the copy: no page and no SVG, and of each linked JSON file what names it and what cells show of it."""
    write_data(report, folder)
    write_figures(report, folder, DPI, svg=False)
    ReportFolder(folder).readme.write_text(markdown(report, links, has_svg=False), encoding="utf-8")
    keys: dict[str, list[str]] = {}
    for *_, cell in cells_of(report.tables):
        for source in cell.sources:
            keys.setdefault(source.file, []).append(source.key)
    for target in sorted(links.used):
        copy_thinned(links.root / target, folder / target, keys[target])


def copy_thinned(source: Path, target: Path, keys: Iterable[str]) -> None:
    """Copy a result file: a JSON file with `IDENTITY` and these dotted keys alone, a line for each top-level key."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix != ".json":
        target.write_bytes(source.read_bytes())
        return
    kept = thinned(read_json(source), [key.split(".") for key in (*IDENTITY, *keys)])
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in kept.items())
    target.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def thinned(value: Any, paths: Iterable[list[str]]) -> Any:
    """The value with nothing but these paths in it: a path that ends keeps all below it; list items keep their places.

    A path that leads nowhere is passed over; `*` in a path stands for every item of a list.
    """
    paths = list(paths)
    if [] in paths:
        return value
    below: dict[str, list[list[str]]] = {}
    for first, *rest in paths:
        below.setdefault(first, []).append(rest)
    if isinstance(value, Mapping):
        return {key: thinned(item, below[key]) for key, item in value.items() if key in below}
    if isinstance(value, list):
        return [thinned(item, below.get(str(index), []) + below.get("*", [])) for index, item in enumerate(value)]
    return None

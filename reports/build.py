"""Build the report.

python -m reports.build --suite experiments/shapes.yaml --results results/shapes --out results/shapes/report
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from reports.document.document import PARTS, Report, assemble, variants_of
from reports.document.links import Links
from reports.document.render import html_page, markdown
from reports.errors import ReportError
from reports.figures.style import save, styled
from reports.provenance import provenance, provenance_text
from reports.results.collect import collect
from reports.results.published import load_published
from reports.suite import load_suite

DPI, EXAMPLE_DPI, RASTER_DPI = 170, 110, 120
OWN_NAMES = {
    *("README.md", "index.html", "provenance.json", "verdicts.json"),
    *("tables", "figures", "evaluations", "runs", "speed", "sweep"),
}


def build(
    suite: Path,
    results: Path,
    out: Path,
    *,
    only: Sequence[str] | None = None,
    seeds: list[int] | None = None,
    example: Path | None = None,
    resamples: int | None = None,
) -> Report:
    """Build the report of a suite's results.

    Args:
        suite: the suite's YAML.
        results: its results folder.
        out: the report's folder; replaced only when the new report is complete.
        only: parts to report (`reports.document.document.PARTS`); everything by default.
        seeds: report these seeds in place of the suite's.
        example: also write a light copy here, with the JSON files its links lead to beside it.
        resamples: image resamples behind the claims' intervals; 0 for none.

    Raises:
        ReportError: naming file and key; `out` and `example` are then as they were.
    """
    for folder in filter(None, (out, example)):
        _check_replaceable(folder)
    for part in only or ():
        if part not in PARTS:
            raise ReportError(f"--only {part}: unknown; choose from {', '.join(PARTS)}")
    loaded = load_suite(suite, seeds)
    variants = variants_of(list(only), list(loaded.variants)) if only else None
    report = assemble(collect(loaded, results, variants), load_published(), only, resamples)
    _replace(out, lambda folder: _write(report, folder, Links(results, out)))
    if example is not None:
        _replace(example, lambda folder: _write_example(report, folder, Links(results, example, copied=True)))
    return report


def _write(report: Report, folder: Path, links: Links) -> None:
    _write_data(report, folder)
    _draw(report, folder / "figures", DPI, svg=True)

    def image(key: str, raster: bool) -> tuple[str, bytes]:
        suffix, media = ("png", "image/png") if raster else ("svg", "image/svg+xml")
        return media, (folder / "figures" / f"{key}.{suffix}").read_bytes()

    (folder / "README.md").write_text(markdown(report, links), encoding="utf-8")
    (folder / "index.html").write_text(html_page(report, links, image), encoding="utf-8")


def _write_example(report: Report, folder: Path, links: Links) -> None:
    _write_data(report, folder)
    _draw(report, folder / "figures", EXAMPLE_DPI, svg=False)
    (folder / "README.md").write_text(markdown(report, links, has_svg=False), encoding="utf-8")
    for target in sorted(links.used):
        copy = folder / target
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(links.root / target, copy)


def _write_data(report: Report, folder: Path) -> None:
    for name in ("tables", "figures"):
        (folder / name).mkdir()
    for table in report.tables:
        table.frame().to_csv(folder / "tables" / f"{table.key}.csv", index=False)
    for figure in report.illustrations:
        if figure.frame is not None:
            figure.frame.round(6).to_csv(folder / "figures" / f"{figure.key}.csv", index=False)
    (folder / "provenance.json").write_text(provenance_text(provenance(report)), encoding="utf-8")
    if report.verdicts:
        judged = json.dumps([verdict.record() for verdict in report.verdicts], indent=1, ensure_ascii=False)
        (folder / "verdicts.json").write_text(judged + "\n", encoding="utf-8")


def _draw(report: Report, folder: Path, dpi: int, svg: bool) -> None:
    for illustration in report.illustrations:
        with styled():
            figure = illustration.draw()
        is_raster = illustration.raster
        save(figure, folder / illustration.key, min(dpi, RASTER_DPI) if is_raster else dpi, svg and not is_raster)
    for path in sorted(folder.glob("*.png")):  # a palette of 256 colours: a quarter of the size, no difference to see
        with Image.open(path) as image:
            image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ReportError(f"{folder}: is a file; a report needs a folder")
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in OWN_NAMES) if folder.exists() else []
    if foreign:
        raise ReportError(f"{folder}: holds '{foreign[0]}', which is no part of a report; choose another folder")


def _replace(folder: Path, write: Callable[[Path], None]) -> None:
    """Write into a new folder beside `folder`, and swap it in once complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (folder.with_name(f".{folder.name}.{kind}-{os.getpid()}") for kind in ("new", "old"))
    fresh.mkdir()
    try:
        write(fresh)
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.build", description="Build the report of a suite's results."
    )
    parser.add_argument("--suite", type=Path, required=True, help="the suite's YAML")
    parser.add_argument("--results", type=Path, required=True, help="its results folder, results/<suite>")
    parser.add_argument(
        "--out", type=Path, required=True, help="the report's folder, replaced when the new one is complete"
    )
    parser.add_argument(
        "--example", type=Path, help="also write a light copy here, with the evaluation files it links to"
    )
    parser.add_argument("--only", nargs="+", metavar="PART", help=f"report some parts only: {', '.join(PARTS)}")
    parser.add_argument("--seeds", nargs="+", type=int, help="report these seeds in place of the suite's")
    parser.add_argument("--resamples", type=int, help="image resamples for the claims' intervals; 0 for none")
    options = parser.parse_args(arguments)
    try:
        report = build(
            options.suite,
            options.results,
            options.out,
            only=options.only,
            seeds=options.seeds,
            example=options.example,
            resamples=options.resamples,
        )
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    tables, figures = len(report.tables), len(report.illustrations)
    plural = {True: "", False: "s"}
    counts = f"{tables} table{plural[tables == 1]}, {figures} figure{plural[figures == 1]}"
    print(f"{options.out / 'README.md'}: {counts}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

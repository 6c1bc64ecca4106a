"""A report's files: tables, figures, traces, and the text as markdown and as a page."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from reports.document.blocks import Report
from reports.document.html import html_page
from reports.document.links import Links
from reports.document.markdown import markdown
from reports.errors import ReportError
from reports.figures.style import save, styled
from reports.provenance import provenance, provenance_text
from suite.layout import ReportFolder

DPI = 170
RASTER_DPI = 120  # at most, for figures made of images


def write_report(report: Report, folder: Path, links: Links) -> None:
    """Write all of a report into a folder that is there."""
    own = ReportFolder(folder)
    write_data(report, folder)
    write_figures(report, folder, DPI, svg=True)

    def image(key: str, raster: bool) -> tuple[str, bytes]:
        suffix, media = ("png", "image/png") if raster else ("svg", "image/svg+xml")
        return media, own.figure(key, suffix).read_bytes()

    own.readme.write_text(markdown(report, links), encoding="utf-8")
    own.page.write_text(html_page(report, links, image), encoding="utf-8")


def write_data(report: Report, folder: Path) -> None:
    """Write tables and the figures' data as CSV, provenance, and the verdicts if there are any."""
    own = ReportFolder(folder)
    own.tables.mkdir()
    own.figures.mkdir()
    for table in report.tables:
        table.frame().to_csv(own.table(table.key), index=False)
    for figure in report.illustrations:
        if figure.frame is not None:
            figure.frame.round(6).to_csv(own.figure(figure.key, "csv"), index=False)
    own.provenance.write_text(provenance_text(provenance(report)), encoding="utf-8")
    if report.context.verdicts:
        records = [verdict.record() for verdict in report.context.verdicts]
        own.verdicts.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_figures(report: Report, folder: Path, dpi: int, svg: bool) -> None:
    """Draw the figures as PNG and, those not made of images, as SVG if asked for."""
    own = ReportFolder(folder)
    for illustration in report.illustrations:
        with styled():
            figure = illustration.draw()
        is_raster = illustration.raster
        save(figure, own.figures / illustration.key, min(dpi, RASTER_DPI) if is_raster else dpi, svg and not is_raster)
    for path in sorted(own.figures.glob("*.png")):  # 256 colours: a quarter of the size, no difference to see
        with Image.open(path) as image:
            image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that holds anything but a report. Raises `ReportError`."""
    if folder.exists() and not folder.is_dir():
        raise ReportError(f"{folder}: is a file; a report needs a folder")
    foreign = ReportFolder(folder).foreign()
    if foreign:
        raise ReportError(f"{folder}: holds '{foreign[0]}', which is no part of a report; choose another folder")


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Write into a new folder beside `folder`, and swap it in once complete; the W&B record of the old one stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (folder.with_name(f".{folder.name}.{kind}-{os.getpid()}") for kind in ("new", "old"))
    fresh.mkdir()
    try:
        write(fresh)
        if ReportFolder(folder).record.exists():
            shutil.copy2(ReportFolder(folder).record, ReportFolder(fresh).record)
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

"""What markdown and HTML share: the columns and texts of a table, and the captions."""

from __future__ import annotations

from pathlib import Path

from reports.document.blocks import FigureBlock
from reports.document.links import Links, evidence
from reports.tables.table import Cell, Row, Table, format_cell
from suite.layout import ReportFolder

FILES = "files"
HERE = ReportFolder(Path())  # links are relative to the report's folder


def columns_of(table: Table) -> list[str]:
    """Headers: group (if there are several), stub, the table's own, and the files behind a row."""
    return ([""] if table.grouped else []) + [table.stub, *table.columns, FILES]


def is_text(table: Table, column: str) -> bool:
    """Whether a column has no numbers."""
    cells = [row.cells[column] for row in table.rows if column in row.cells]
    return all(cell.kind == "text" for cell in cells)


def rows_of(table: Table, links: Links) -> list[tuple[Row, list[str]]]:
    """Each row with its texts, in the order of `columns_of`; the group's name on its first row only."""
    rows = []
    group = None
    for row in table.rows:
        texts = [_cell_text(row.cells.get(column, Cell(None)), links) for column in table.columns]
        first = [row.group if row.group != group else ""] if table.grouped else []
        group = row.group
        label = f"`{row.label}`" if row.is_name else row.label
        rows.append((row, [*first, label, *texts, evidence(row, links)]))
    return rows


def _cell_text(cell: Cell, links: Links) -> str:
    text = format_cell(cell)
    target = links.to_target(cell) if cell.link else None
    return f"[{text}]({target})" if target else text


def figure_caption(block: FigureBlock, has_svg: bool) -> str:
    """Number, title, caption, and links to the figure's other files."""
    figure = block.illustration
    files = {"SVG": "svg"} if has_svg and not figure.raster else {}
    files |= {"data": "csv"} if figure.frame is not None else {}
    also = [f"[{name}]({HERE.figure(figure.key, suffix)})" for name, suffix in files.items()]
    return f"**Figure {block.number}. {figure.title}.** {figure.caption}" + (f" ({', '.join(also)})" if also else "")

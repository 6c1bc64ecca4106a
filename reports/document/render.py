"""A report's blocks as GitHub-flavoured markdown, and as one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from reports.document.document import Block, Bullets, FigureBlock, Heading, Paragraph, Report, TableBlock
from reports.document.links import Links, evidence
from reports.tables.table import Cell, Row, Table, format_cell

STYLE = Path(__file__).with_name("style.css")
FILES = "files"


def _columns(table: Table) -> list[str]:
    return ([""] if table.grouped else []) + [table.stub, *table.columns, FILES]


def _is_text(table: Table, column: str) -> bool:
    cells = [row.cells[column] for row in table.rows if column in row.cells]
    return all(cell.kind == "text" for cell in cells)


def _cell_text(cell: Cell, links: Links) -> str:
    text = format_cell(cell)
    target = links(cell.link) if cell.link else None
    return f"[{text}]({target})" if target else text


def _table_rows(table: Table, links: Links) -> list[tuple[Row, list[str]]]:
    """Each row with its texts, in the order of `_columns`; the group's name on its first row only."""
    rows = []
    group = None
    for row in table.rows:
        texts = [_cell_text(row.cells.get(column, Cell(None)), links) for column in table.columns]
        first = [row.group if row.group != group else ""] if table.grouped else []
        group = row.group
        rows.append((row, [*first, _code(table, row.label), *texts, evidence(row, links)]))
    return rows


def _code(table: Table, label: str) -> str:
    return f"`{label}`" if re.fullmatch(r"[a-z]+[a-z0-9]*_[\w.]+", label) else label


def table_markdown(table: Table, links: Links) -> str:
    """A GitHub-flavoured pipe table; numbers right-aligned, emphasised rows in bold."""
    columns = _columns(table)
    numeric = {c for c in table.columns if not _is_text(table, c)}
    lines = [
        "| " + " | ".join(_escape(c) for c in columns) + " |",
        "|" + "|".join(" ---: " if c in numeric else " :--- " for c in columns) + "|",
    ]
    for row, texts in _table_rows(table, links):
        last = len(texts) - 1
        shown = [
            f"**{text}**"
            if text not in ("", "–") and (row.emphasis or (table.grouped and i == 0)) and i != last
            else text
            for i, text in enumerate(texts)
        ]
        lines.append("| " + " | ".join(_escape(text) for text in shown) + " |")
    return "\n".join(lines)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def markdown(report: Report, links: Links, has_svg: bool = True) -> str:
    """The report as GitHub-flavoured markdown; figures and tables are linked by relative paths.

    Args:
        links: resolves targets for the folder that the text will be in.
        has_svg: whether SVG versions of the figures lie beside the PNGs.
    """
    return "\n\n".join(_block_markdown(block, links, has_svg) for block in report.blocks) + "\n"


def _block_markdown(block: Block, links: Links, has_svg: bool) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}"
        case Paragraph():
            return f"> {block.text}" if block.aside else block.text
        case Bullets():
            return "\n".join(f"- {item}" for item in block.items)
        case TableBlock():
            table = block.table
            note = f"Data: [{table.key}.csv](tables/{table.key}.csv)."
            head = f"**Table {block.number}. {table.title}.** {table.caption}"
            return "\n\n".join([head, table_markdown(table, links), f"<sub>{note}</sub>"])
        case FigureBlock():
            figure = block.illustration
            return f"![{figure.alt}](figures/{figure.key}.png)\n\n{_figure_caption(block, has_svg)}"


def _figure_caption(block: FigureBlock, has_svg: bool) -> str:
    figure = block.illustration
    also = [f"[SVG](figures/{figure.key}.svg)"] if has_svg and not figure.raster else []
    also += [f"[data](figures/{figure.key}.csv)"] if figure.frame is not None else []
    return f"**Figure {block.number}. {figure.title}.** {figure.caption}" + (f" ({', '.join(also)})" if also else "")


def inline_html(text: str) -> str:
    """Inline markdown (code, bold, emphasis, links) as HTML; everything else is escaped."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        f"<code>{html.escape(part[1:-1])}</code>" if part.startswith("`") and len(part) > 2 else _spans(part)
        for part in parts
    )


def _spans(text: str) -> str:
    text = html.escape(text, quote=False)
    text = re.sub(r"\[([^\[\]]*(?:\[[^\[\]]*\])?[^\[\]]*)\]\(([^()\s]+)\)", _anchor, text)
    text = re.sub(r"\*\*(?=\S)(.+?)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\*(?=\S)([^*]+?)\*", r"<em>\1</em>", text)


def _anchor(match: re.Match[str]) -> str:
    return f'<a href="{html.escape(match[2].replace("&amp;", "&"))}">{match[1]}</a>'


def html_page(report: Report, links: Links, image: Callable[[str, bool], tuple[str, bytes]]) -> str:
    """The report as one HTML page with its images inside.

    Args:
        links: resolves targets for the folder that the page will be in.
        image: media type and bytes of a figure by its key; the flag says that it is made of images.
    """
    body = "\n".join(_block_html(block, links, image) for block in report.blocks)
    title = html.escape(report.results.suite.title)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _block_html(block: Block, links: Links, image: Callable[[str, bool], tuple[str, bytes]]) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{inline_html(block.text)}</h{block.level}>"
        case Paragraph():
            text = inline_html(block.text)
            return f"<aside><p>{text}</p></aside>" if block.aside else f"<p>{text}</p>"
        case Bullets():
            return "<ul>\n" + "\n".join(f"<li>{inline_html(item)}</li>" for item in block.items) + "\n</ul>"
        case TableBlock():
            return table_html(block, links)
        case FigureBlock():
            figure = block.illustration
            media, content = image(figure.key, figure.raster)
            data = base64.b64encode(content).decode("ascii")
            alt = html.escape(figure.alt)
            return (
                f'<figure><img src="data:{media};base64,{data}" alt="{alt}">'
                f"<figcaption>{inline_html(_figure_caption(block, has_svg=True))}</figcaption></figure>"
            )


def table_html(block: TableBlock, links: Links) -> str:
    """A table with its caption above, numbers aligned, groups separated by rules."""
    table = block.table
    columns = _columns(table)
    classes: Mapping[str, str] = {
        **{c: "text" if _is_text(table, c) else "number" for c in table.columns},
        table.stub: "stub",
        FILES: "files",
        "": "group",
    }
    head = "".join(f'<th class="{classes[c]}" scope="col">{inline_html(c)}</th>' for c in columns)
    sizes = Counter(row.group for row in table.rows)
    lines = []
    for index, (row, texts) in enumerate(_table_rows(table, links)):
        starts_group = index == 0 or row.group != table.rows[index - 1].group
        names = (["emphasis"] if row.emphasis else []) + (["rule"] if starts_group and index else [])
        cells = []
        for column, text in zip(columns, texts, strict=True):
            if column == "" and not starts_group:
                continue  # the group's cell spans its rows
            span = f' rowspan="{sizes[row.group]}"' if column == "" else ""
            cells.append(f'<td class="{classes[column]}"{span}>{_interval_span(inline_html(text))}</td>')
        lines.append(f'<tr class="{" ".join(names)}">' if names else "<tr>")
        lines[-1] += "".join(cells) + "</tr>"
    caption = f"<strong>Table {block.number}. {inline_html(table.title)}.</strong> {inline_html(table.caption)}"
    rows = "\n".join(lines)
    opening = '<table class="grouped">' if table.grouped else "<table>"
    return (
        f'<div class="table">{opening}\n<caption>{caption}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n"
        f'<p class="data"><a href="tables/{table.key}.csv">{table.key}.csv</a></p>'
    )


def _interval_span(text: str) -> str:
    return re.sub(r" (± [\d.]+)", r' <span class="interval">\1</span>', text)

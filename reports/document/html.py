"""A report's blocks as one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from reports.document.blocks import Block, Bullets, FigureBlock, Heading, Paragraph, Report, TableBlock
from reports.document.layout import FILES, HERE, columns_of, figure_caption, is_text, rows_of
from reports.document.links import Links

STYLE = Path(__file__).with_name("style.css")


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
    title = html.escape(report.context.results.suite.title)
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
                f"<figcaption>{inline_html(figure_caption(block, has_svg=True))}</figcaption></figure>"
            )


def table_html(block: TableBlock, links: Links) -> str:
    """A table, numbers aligned, groups separated by rules; its caption above stays where a wide table is scrolled."""
    table = block.table
    columns = columns_of(table)
    classes: Mapping[str, str] = {
        **{c: "text" if is_text(table, c) else "number" for c in table.columns},
        table.stub: "stub",
        FILES: "files",
        "": "group",
    }
    head = "".join(f'<th class="{classes[c]}" scope="col">{inline_html(c)}</th>' for c in columns)
    sizes = Counter(row.group for row in table.rows)
    lines = []
    for index, (row, texts) in enumerate(rows_of(table, links)):
        starts_group = index == 0 or row.group != table.rows[index - 1].group
        names = (["emphasis"] if row.emphasis else []) + (["rule"] if starts_group and index else [])
        cells = []
        for column, text in zip(columns, texts, strict=True):
            if column == "" and not starts_group:
                continue  # the group's cell spans its rows
            span = f' rowspan="{sizes[row.group]}"' if column == "" else ""
            shown = _interval_span(inline_html(text))
            shown = shown.replace("_", "_<wbr>") if column == "" else shown  # the narrow column may hold long names
            cells.append(f'<td class="{classes[column]}"{span}>{shown}</td>')
        lines.append(f'<tr class="{" ".join(names)}">' if names else "<tr>")
        lines[-1] += "".join(cells) + "</tr>"
    caption = f"<strong>Table {block.number}. {inline_html(table.title)}.</strong> {inline_html(table.caption)}"
    rows = "\n".join(lines)
    named = f"table-{block.number}"
    kind = ' class="grouped"' if table.grouped else ""
    opening = f'<table{kind} aria-labelledby="{named}">'
    return (
        f'<figure class="table"><figcaption id="{named}">{caption}</figcaption>\n<div class="scroll">{opening}\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n"
        f'<p class="data"><a href="{HERE.table(table.key)}">{HERE.table(table.key).name}</a></p></figure>'
    )


def _interval_span(text: str) -> str:
    return re.sub(r" (± [\d.]+)", r' <span class="interval">\1</span>', text)

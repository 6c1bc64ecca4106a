"""A report's blocks as GitHub-flavoured markdown."""

from __future__ import annotations

import re

from reports.document.blocks import Block, Bullets, FigureBlock, Heading, Paragraph, Report, TableBlock
from reports.document.layout import HERE, columns_of, figure_caption, is_text, rows_of
from reports.document.links import Links
from reports.tables.table import Table


def table_markdown(table: Table, links: Links) -> str:
    """A GitHub-flavoured pipe table; numbers right-aligned, emphasised rows in bold."""
    columns = columns_of(table)
    numeric = {c for c in table.columns if not is_text(table, c)}
    lines = [
        "| " + " | ".join(_escape(c) for c in columns) + " |",
        "|" + "|".join(" ---: " if c in numeric else " :--- " for c in columns) + "|",
    ]
    for row, texts in rows_of(table, links):
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
    return without_tags(text).replace("|", "\\|")


def markdown(report: Report, links: Links, has_svg: bool = True) -> str:
    """The report as GitHub-flavoured markdown; figures and tables are linked by relative paths.

    Args:
        links: resolves targets for the folder that the text will be in.
        has_svg: whether SVG versions of the figures lie beside the PNGs.
    """
    return "\n\n".join(_block_markdown(block, links, has_svg) for block in report.blocks) + "\n"


def without_tags(text: str) -> str:
    """Markdown in which no title and no name of a class or variant is HTML; code shows what it holds as it is."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", part) for part in parts)


def _block_markdown(block: Block, links: Links, has_svg: bool) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {without_tags(block.text)}"
        case Paragraph():
            text = without_tags(block.text)
            return f"> {text}" if block.aside else text
        case Bullets():
            return "\n".join(f"- {without_tags(item)}" for item in block.items)
        case TableBlock():
            table = block.table
            note = f"Data: [{HERE.table(table.key).name}]({HERE.table(table.key)})."
            head = f"**Table {block.number}. {table.title}.** {table.caption}"
            return "\n\n".join([without_tags(head), table_markdown(table, links), f"<sub>{note}</sub>"])
        case FigureBlock():
            figure = block.illustration
            caption = without_tags(figure_caption(block, has_svg))
            return f"![{without_tags(figure.alt)}]({HERE.figure(figure.key, 'png')})\n\n{caption}"

"""Titles and names are text in a report's markdown, whatever they look like."""

import pytest

from reports.document.blocks import Bullets, Heading, Paragraph, Report
from reports.document.markdown import markdown, without_tags


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("a <img src=x onerror=y> b", "a &lt;img src=x onerror=y> b"),
        ("<!-- gone -->", "&lt;!-- gone -->"),
        ("p < 0.05 and 3 <4", "p < 0.05 and 3 <4"),
        ("`<b>` and <b>", "`<b>` and &lt;b>"),
        ("**bold** [link](x.md)", "**bold** [link](x.md)"),
    ],
)
def test_tags_are_shown_as_text(text, shown):
    assert without_tags(text) == shown


def test_every_block_of_a_report():
    text = "<script>x</script>"
    blocks = [Heading(text, 1), Paragraph(text), Paragraph(text, aside=True), Bullets([text])]
    written = markdown(Report(None, blocks), links=None)
    assert written.count("&lt;script>x&lt;/script>") == 4 and "<script" not in written

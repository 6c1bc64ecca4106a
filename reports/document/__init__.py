"""The report as a document: sections, text, markdown and HTML."""

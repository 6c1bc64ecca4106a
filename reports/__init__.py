"""From result files to a report: collect, statistics, tables, figures, markdown. Imports no sibling package."""

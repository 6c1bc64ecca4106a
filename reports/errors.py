"""The errors a report can end with: each message names the file and, where there is one, the key.

What the suite does not contain is `suite.errors.NotInSuite`: a table, figure or claim that needs it is left out.
"""


class ReportError(Exception):
    """A report cannot be built from what is there; the message says which file or key, and why."""


class NothingToShow(ReportError):  # noqa: N818 (reads better than NothingToShowError)
    """A figure would be empty; the message says why. It is left out."""


class MissingResult(ReportError):  # noqa: N818 (reads better than MissingResultError)
    """A table or figure needs a file that does not exist."""

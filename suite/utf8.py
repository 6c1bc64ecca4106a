"""Commands read and write UTF-8 whatever the locale: names of files, titles and classes may be of any language."""

import os
import sys


def ensure_utf8() -> None:
    """Starts this process anew in Python's UTF-8 mode, unless it is in it; for the `__main__` of a command."""
    if sys.getfilesystemencoding() != "utf-8":
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONUTF8": "1"})

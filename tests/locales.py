"""Environments of commands in locales that are not UTF-8."""

import os
import subprocess

import pytest


def in_locale(name: str) -> dict[str, str]:
    """This process's environment in the locale `C`, or in any of ISO 8859; skips the test where there is none."""
    locale = "C" if name == "C" else _iso_locale()
    if locale is None:
        pytest.skip("no locale of ISO 8859 is installed: localedef -i de_DE -f ISO-8859-1 de_DE.ISO-8859-1")
    return {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def _iso_locale() -> str | None:
    names = subprocess.run(["locale", "-a"], capture_output=True, check=True).stdout.decode("ascii", "replace").split()
    for name in names:
        charmap = subprocess.run(["locale", "charmap"], env={**os.environ, "LC_ALL": name}, capture_output=True)
        if charmap.stdout.startswith(b"ISO-8859"):
            return name
    return None

"""Reading one result file: every error names the file and, where there is one, the key or column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from reports.errors import MissingResult, ReportError
from suite import files
from suite.errors import SuiteError

SHORT = 12  # characters shown of a hash


def read_json(path: Path) -> Any:
    """Parse a JSON file, gzipped or not.

    Raises:
        MissingResult: no such file.
        ReportError: not JSON, or a truncated archive.
    """
    try:
        return files.read_json(path)
    except FileNotFoundError:
        raise MissingResult(f"{path}: no such file") from None
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error})") from None
    except SuiteError as error:
        raise ReportError(f"{error}; move it away and run the suite again") from None


def read_table(path: Path, columns: Iterable[str], remedy: str, **options: Any) -> pd.DataFrame:
    """Parse a CSV file.

    Args:
        columns: those it must have.
        remedy: what to do when it is missing.
        options: of `pandas.read_csv`.

    Raises:
        MissingResult: no such file.
        ReportError: not CSV, or a column is missing.
    """
    try:
        frame = pd.read_csv(path, **options)
    except FileNotFoundError:
        raise MissingResult(f"{path}: no such file; {remedy}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: damaged, cannot be read ({error})") from None
    for column in columns:
        if column not in frame:
            raise ReportError(f"{path}: column '{column}' is missing")
    return frame


def need(data: Any, key: str, path: Path) -> Any:
    """The value at a dotted key.

    Raises:
        ReportError: naming file and key when it is missing.
    """
    for part in key.split("."):
        if not isinstance(data, Mapping) or part not in data:
            raise ReportError(f"{path}: key '{key}' is missing")
        data = data[part]
    return data


def need_all(data: Any, keys: Iterable[str], path: Path) -> None:
    """Check that dotted keys are there. Raises `ReportError`."""
    for key in keys:
        need(data, key, path)


def check_place(data: Any, path: Path, expected: Mapping[str, Any]) -> None:
    """Check that a file says what its place among the results says. Raises `ReportError`."""
    for key, value in expected.items():
        found = need(data, key, path)
        if found != value:
            raise ReportError(f"{path}: belongs to another place: key '{key}' is {found!r}, expected {value!r}")


def check_dataset(data: Any, path: Path, key: str, fingerprint: str | None) -> None:
    """Check that a file was made with the images there are; without a fingerprint only that it names some.

    Raises:
        ReportError: naming file and key.
    """
    found = need(data, key, path)
    if fingerprint is not None and found != fingerprint:
        raise ReportError(
            f"{path}: made with another dataset: key '{key}' is {str(found)[:SHORT]}…, "
            f"data/dataset.json says {fingerprint[:SHORT]}…; train and evaluate again"
        )


def metric(data: Any, name: str, path: Path) -> float:
    """A metric in [0, 1]; NaN where it is undefined. Raises `ReportError`."""
    value = need(data, f"metrics.{name}", path)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ReportError(f"{path}: key 'metrics.{name}' must be in [0, 1] or null, found {value!r}")
    return float(value)

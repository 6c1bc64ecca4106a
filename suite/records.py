"""The W&B record: the file beside a stage's results that says which Weights & Biases run they were logged as.

It is written before the run is, so that a stage that is killed while it is logged is logged as the same run again.
`identity` are values of the stage's result file that tell these results from others; the record is of these only.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from suite.errors import SuiteError
from suite.files import read_json, write_json

FIRST_RELEASE = "wandb_run_id"  # key of a result file, in place of a record


@dataclass(frozen=True)
class Record:
    """Contents of a W&B record.

    Attributes:
        identity: of the results, as plain data.
        run_id: of their run, 8 hex digits.
        is_logged: whether the run is written, and whole.
    """

    identity: Mapping[str, Any]
    run_id: str
    is_logged: bool = False


def run_id(record: Path, result: Mapping[str, Any]) -> str | None:
    """The id of the run that a result is logged as; None if it is not, or not yet.

    Args:
        record: the W&B record beside the result.
        result: the contents of the result file; those of the first release name their run themselves.

    Raises:
        SuiteError: the record is damaged.
    """
    known = read_record(record)
    if known is not None and known.is_logged and _describes(known.identity, result):
        return known.run_id
    return result.get(FIRST_RELEASE)


def read_record(record: Path) -> Record | None:
    """The contents of a record; None if there is none. Raises `SuiteError` for a damaged one."""
    try:
        contents = read_json(record)
    except FileNotFoundError:
        return None
    except SuiteError as error:
        raise SuiteError(f"{error}; delete it and track again") from None
    if not isinstance(contents, dict) or not isinstance(contents.get("identity"), dict) or "run_id" not in contents:
        raise SuiteError(f"{record}: key 'identity' or 'run_id' is missing; delete it and track again")
    return Record(contents["identity"], contents["run_id"], contents.get("is_logged", False))


def claim(record: Path, identity: Mapping[str, Any]) -> Record:
    """The record of results with this identity, written if it is new.

    A training claims its run before all of its identity is known. So an unlogged run stays the same when the identity
    only grows; one that is logged is of an earlier training, whose identity says more.

    Raises:
        SuiteError: the record that is there is damaged.
    """
    identity = json.loads(json.dumps(identity))
    known = read_record(record)
    if known is not None and known.identity == identity:
        return known
    is_grown = known is not None and not known.is_logged and known.identity.items() <= identity.items()
    claimed = Record(identity, known.run_id if known is not None and is_grown else secrets.token_hex(4))
    write_json(record, asdict(claimed))
    return claimed


def mark_as_logged(record: Path) -> None:
    """Says in a claimed record that its run is whole."""
    write_json(record, {**read_json(record), "is_logged": True})


def _describes(identity: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Whether nothing of the identity speaks against it; a result's file need not have every key."""
    return all(result[key] == value for key, value in identity.items() if key in result)

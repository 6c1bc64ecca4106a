"""W&B records: the sidecars that say which Weights & Biases run a stage of the workflow was logged as."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.errors import SuiteError


def run_id(record: Path, result: Mapping[str, Any]) -> str | None:
    """The W&B run that a result was logged as; None if it was not logged.

    Args:
        record: the sidecar of the result's folder, which need not exist (`suite.layout`).
        result: contents of the result file. Those of the first release name the run themselves.

    Raises:
        SuiteError: the sidecar cannot be read.
    """
    try:
        data = json.loads(record.read_bytes())
    except FileNotFoundError:
        return result.get("wandb_run_id")
    except ValueError as error:
        raise SuiteError(
            f"{record}: damaged, cannot be read ({error}); delete it and track the results again"
        ) from None
    if not isinstance(data, Mapping) or not {"run_id", "is_logged"} <= set(data):
        raise SuiteError(f"{record}: key 'run_id' or 'is_logged' is missing; delete it and track again")
    return data["run_id"] if data["is_logged"] else result.get("wandb_run_id")

import json

import pytest

from suite.errors import SuiteError
from suite.records import run_id

FIRST_RELEASE = {"wandb_run_id": "of the first release"}


def record(folder, **changes):
    path = folder / "wandb_run.json"
    path.write_text(json.dumps({"identity": "runs/a/seed0", "run_id": "f00", "is_logged": True, **changes}))
    return path


def test_the_sidecar_names_the_run(tmp_path):
    assert run_id(record(tmp_path), {}) == "f00"
    assert run_id(record(tmp_path), FIRST_RELEASE) == "f00"


def test_a_run_that_was_begun_and_not_logged_is_none(tmp_path):
    path = record(tmp_path, is_logged=False)
    assert run_id(path, {}) is None
    assert run_id(path, FIRST_RELEASE) == "of the first release"


def test_without_a_sidecar_the_result_is_asked(tmp_path):
    assert run_id(tmp_path / "none.json", FIRST_RELEASE) == "of the first release"
    assert run_id(tmp_path / "none.json", {"wandb_run_id": None}) is None
    assert run_id(tmp_path / "none.json", {}) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"run_id": "f', "wandb_run.json: damaged"),
        ("[]", "wandb_run.json: key 'run_id' or 'is_logged' is missing"),
        ('{"run_id": "f00"}', "wandb_run.json: key 'run_id' or 'is_logged' is missing"),
    ],
)
def test_a_damaged_sidecar_is_named(tmp_path, text, message):
    path = tmp_path / "wandb_run.json"
    path.write_text(text)
    with pytest.raises(SuiteError, match=message):
        run_id(path, {})

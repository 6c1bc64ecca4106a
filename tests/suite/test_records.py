"""The sidecar that says which W&B run a result is logged as."""

import json
import re

import pytest

from suite import records
from suite.errors import SuiteError
from suite.files import write_json

IDENTITY = {"config_hash": "c0ffee", "inputs": {"dataset_fingerprint": "f" * 64}}


@pytest.fixture
def record(tmp_path):
    return tmp_path / "wandb_run.json"


def test_the_claim_is_on_disk_and_says_that_nothing_is_logged(record):
    claimed = records.claim(record, IDENTITY)
    assert re.fullmatch("[0-9a-f]{8}", claimed.run_id)
    assert json.loads(record.read_text()) == {"identity": IDENTITY, "run_id": claimed.run_id, "is_logged": False}
    assert list(record.parent.iterdir()) == [record]


def test_the_same_results_keep_their_id_before_and_after_they_are_logged(record):
    first = records.claim(record, IDENTITY)
    assert records.claim(record, IDENTITY) == first
    records.mark_as_logged(record)
    again = records.claim(record, IDENTITY)
    assert (again.run_id, again.is_logged) == (first.run_id, True)


def test_other_results_get_another_id_and_are_not_logged(record):
    first = records.claim(record, IDENTITY)
    records.mark_as_logged(record)
    other = records.claim(record, {**IDENTITY, "config_hash": "other"})
    assert other.run_id != first.run_id
    assert not other.is_logged


def test_an_identity_that_grows_keeps_the_id_until_it_is_logged(record):
    started = records.claim(record, IDENTITY)
    whole = records.claim(record, {**IDENTITY, "checkpoint": "5eed"})
    assert whole.run_id == started.run_id
    assert records.read_record(record).identity == {**IDENTITY, "checkpoint": "5eed"}
    records.mark_as_logged(record)
    assert records.claim(record, IDENTITY).run_id != started.run_id, "trained again: another run"


def test_an_identity_is_compared_as_json_writes_it(record):
    first = records.claim(record, {"curve": {1: 0.5}, "sizes": (1, 2)})
    assert records.claim(record, {"curve": {1: 0.5}, "sizes": (1, 2)}) == first


def test_readers_get_the_id_of_a_logged_run_only(record):
    result = {**IDENTITY, "seed": 3}
    assert records.run_id(record, result) is None
    claimed = records.claim(record, IDENTITY)
    assert records.run_id(record, result) is None
    records.mark_as_logged(record)
    assert records.run_id(record, result) == claimed.run_id


def test_a_record_says_nothing_of_other_results_but_keys_may_be_missing(record):
    claimed = records.claim(record, IDENTITY)
    records.mark_as_logged(record)
    assert records.run_id(record, {**IDENTITY, "config_hash": "other"}) is None
    assert records.run_id(record, {"config_hash": "c0ffee", "AP": 0.5}) == claimed.run_id


def test_results_of_the_first_release_name_their_run_themselves(record):
    assert records.run_id(record, {"wandb_run_id": "abcd1234"}) == "abcd1234"
    assert records.run_id(record, {"wandb_run_id": None}) is None


def test_the_record_of_a_first_release_training_that_was_killed_keeps_its_id(record):
    write_json(record, {"identity": IDENTITY, "run_id": "abcd1234"})
    assert records.run_id(record, IDENTITY) is None
    assert records.claim(record, {**IDENTITY, "checkpoint": "5eed"}).run_id == "abcd1234"


def test_where_both_name_a_run_it_is_the_records_once_that_is_logged(record):
    result = {**IDENTITY, "wandb_run_id": "abcd1234"}
    claimed = records.claim(record, IDENTITY)
    assert records.run_id(record, result) == "abcd1234"
    records.mark_as_logged(record)
    assert records.run_id(record, result) == claimed.run_id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "damaged"),
        ('{"run_id": "f', "damaged"),
        ("[]", "key 'identity' or 'run_id' is missing"),
        ('{"run_id": "f00"}', "key 'identity' or 'run_id' is missing"),
        ('{"identity": 3, "run_id": "f00"}', "key 'identity' or 'run_id' is missing"),
    ],
)
def test_a_damaged_record_is_named(record, text, message):
    record.write_text(text)
    with pytest.raises(SuiteError, match=rf"wandb_run\.json: {message}.*; delete it and track"):
        records.run_id(record, {})

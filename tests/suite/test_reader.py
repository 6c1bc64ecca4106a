"""The strict reader: what YAML would swallow is an error that names file and key."""

import dataclasses
import datetime

import pytest

from suite import blocks
from suite.errors import SuiteError
from suite.reader import checked, read_schema, read_yaml, require_plain
from suite.suite import Suite


def write(folder, text, encoding="utf-8"):
    path = folder / "s.yaml"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("suite: [", "s.yaml is not valid YAML"),
        ("suite: a\ntitle: b\nsuite: c\n", "s.yaml: key 'suite' is there twice, in lines 1 and 3"),
        ("sweep:\n  trials: 1\n  trials: 2\n", "key 'trials' is there twice, in lines 2 and 3"),
        ("title: 2026-01-01\n", "s.yaml: title: 2026-01-01 is a date to YAML: put it in quotes"),
        ("scale: {rois: .nan}\n", "s.yaml: scale.rois: nan is no finite number"),
        ("inference: {step_sizes: {rank: [1, .inf]}}\n", "inference.step_sizes.rank.1: inf is no finite number"),
        ("variants: {1: {}}\n", "s.yaml: variants: key 1 is no text: put it in quotes"),
        ("yes: 1\n", "s.yaml: top level: key True is no text"),
        ("title: !!binary aGk=\n", "s.yaml: title: b'hi' is neither text, number, list nor block"),
        ("title: !!python/name:os.system\n", "s.yaml is not valid YAML"),
    ],
)
def test_what_yaml_would_swallow(tmp_path, text, message):
    with pytest.raises(SuiteError, match=message):
        read_yaml(write(tmp_path, text))


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    with pytest.raises(SuiteError, match=r"s\.yaml is not UTF-8 .*convert it"):
        read_yaml(write(tmp_path, "title: Größe\n", "latin-1"))


def test_a_merge_may_override(tmp_path):
    text = "a: &base {x: 1, y: 2}\nb: {<<: *base, y: 3}\n"
    assert read_yaml(write(tmp_path, text)) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


def test_a_date_that_another_reader_made_is_named():
    with pytest.raises(SuiteError, match="suite: seeds.0: 2026-01-01 is a date to YAML"):
        require_plain({"seeds": [datetime.date(2026, 1, 1)]}, "suite")


def test_defaults_go_into_a_copy():
    data = {"suite": "a", "title": "b", "dataset": {"generator": "shapes", "splits": {"x": {"images": 1}}}}
    data |= {"seeds": [0], "variants": {"v": {"config": "c", "family": "iounet"}}}
    found = checked(data, "s.yaml")
    assert found["dataset"]["image_size"] == 96 and "image_size" not in data["dataset"]
    assert found["dataset"]["splits"]["x"] == {"images": 1, "difficulty": "normal"}


def test_every_key_is_described():
    def undescribed(schema, where):
        for key, own in schema.get("properties", {}).items():
            if "description" not in own:
                yield f"{where}.{key}"
            yield from undescribed(own, f"{where}.{key}")
        for part in ("items", "additionalProperties", "if", "then", "else"):
            if isinstance(schema.get(part), dict):
                yield from undescribed(schema[part], where)

    top = dict(read_schema())
    then = top.pop("then")  # other defaults of keys that are described below
    assert then["properties"].keys() <= top["properties"].keys()
    top.pop("if")
    assert list(undescribed(top, "")) == []


@pytest.mark.parametrize(
    ("key", "kind", "other_names"),
    [
        ("training", blocks.Training, {}),
        ("scale", blocks.Scale, {}),
        ("validation", blocks.Validation, {}),
        ("resources", blocks.Resources, {}),
        ("inference", blocks.Inference, {}),
        ("speed", blocks.Speed, {}),
        ("sweep", blocks.SweepSettings, {}),
    ],
)
def test_the_types_have_the_keys_of_the_schema(key, kind, other_names):
    names = {field.name for field in dataclasses.fields(kind)}
    assert names == set(read_schema()["properties"][key]["properties"])


def _keys_of(entry, definitions):
    """The keys of all of an entry's alternatives."""
    yield from entry.get("properties", ())
    for part in (entry.get("then"), entry.get("else"), definitions.get(entry.get("$ref", "").rpartition("/")[2])):
        yield from _keys_of(part, definitions) if part else ()


def test_the_suite_itself_and_its_data_have_the_keys_of_the_schema():
    schema = read_schema()
    own = {field.name for field in dataclasses.fields(Suite)} - {"raw", "roles"}
    assert {"suite" if name == "name" else name for name in own} == set(schema["properties"])
    dataset = schema["properties"]["dataset"]
    for branch, kind, split in (
        ("then", blocks.GeneratedData, blocks.GeneratedSplit),
        ("else", blocks.FolderData, blocks.FolderSplit),
    ):
        assert {field.name for field in dataclasses.fields(kind)} == set(dataset[branch]["properties"])
        keys = set(_keys_of(dataset[branch]["properties"]["splits"]["additionalProperties"], schema["$defs"]))
        assert {"from" if f.name == "origin" else f.name for f in dataclasses.fields(split)} == keys

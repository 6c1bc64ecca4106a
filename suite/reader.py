"""The one strict reader of suites: YAML in, plain checked data out; every error names the file and the key."""

from __future__ import annotations

import datetime
import functools
import json
import math
from collections.abc import Hashable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from suite.errors import SuiteError
from suite.roles import ROLES
from suite.settings import GUIDES

SCHEMA = Path(__file__).with_name("schema.yaml")
SHOWN_AS = "suite/schema.yaml"
MOST_ENTRIES = 100_000


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that is there twice is an error, not an overwriting."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:  # before `<<` is merged: what it brings may be overridden
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                if key.value in seen:
                    raise SuiteError(f"key '{key.value}' is there twice, in lines {seen[key.value]} and {line}")
                seen[key.value] = line
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """The contents of a YAML file, as plain data.

    Raises:
        SuiteError: no file that can be read, not UTF-8, not YAML, a duplicate key, aliases (`*name`) that make it
            endless or huge, or what `require_plain` refuses.
        FileNotFoundError: no such file.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
        _require_small(data)
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path} is not UTF-8 ({error}): convert it") from None
    except yaml.YAMLError as error:
        raise SuiteError(f"{path} is not valid YAML: {error}") from None
    except RecursionError:
        raise SuiteError(f"{path} is nested too deeply") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SuiteError(f"{path} cannot be read: {error.strerror}") from None
    except SuiteError as error:
        raise SuiteError(f"{path}: {error}") from None
    require_plain(data, str(path))
    return data


def _require_small(data: Any) -> None:
    """Refuses aliases that make a small file endless or huge once each stands for what it names."""
    sizes: dict[int, int] = {}
    unfinished: set[int] = set()

    def size(value: Any) -> int:
        if not isinstance(value, dict | list):
            return 1
        key = id(value)
        if key in unfinished:
            raise SuiteError("a block refers to itself by an alias (*name)")
        if key not in sizes:
            unfinished.add(key)
            sizes[key] = 1 + sum(map(size, value.values() if isinstance(value, dict) else value))
            unfinished.remove(key)
        return sizes[key]

    if size(data) > MOST_ENTRIES:
        raise SuiteError(f"too large: more than {MOST_ENTRIES} entries once its aliases (*name) are replaced")


def require_plain(value: Any, source: str, where: str = "") -> None:
    """Refuses what YAML can say and JSON cannot: dates, NaN, infinities, keys that are no strings.

    Raises:
        SuiteError: names the key.
    """
    place = f"{source}: {where or 'top level'}"
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise SuiteError(f"{place}: key {key!r} is no text: put it in quotes")
            require_plain(item, source, f"{where}.{key}" if where else key)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            require_plain(item, source, f"{where}.{index}")
    elif isinstance(value, datetime.date):
        raise SuiteError(f"{place}: {value} is a date to YAML: put it in quotes if it is a text")
    elif isinstance(value, float) and not math.isfinite(value):
        raise SuiteError(f"{place}: {value} is no finite number")
    elif value is not None and not isinstance(value, str | int | float):
        raise SuiteError(f"{place}: {value!r} is neither text, number, list nor block of keys")


def checked(data: Any, source: str) -> dict[str, Any]:
    """A copy of a suite's data with the schema's defaults filled in.

    Args:
        data: of one YAML file, or of several laid over each other.
        source: what messages call it.

    Raises:
        SuiteError: it does not fit the schema; a line per error, each naming the key.
    """
    require_plain(data, source)
    data = json.loads(json.dumps(dict(data) if isinstance(data, Mapping) else data))
    schema = read_schema()
    errors = sorted(_DefaultsValidator(schema).iter_errors(data), key=lambda e: list(map(str, e.absolute_path)))
    if errors:
        lines = [f"  - {'.'.join(map(str, e.absolute_path)) or 'top level'}: {_message(e)}" for e in errors]
        raise SuiteError(f"{source} does not fit {SHOWN_AS}:\n" + "\n".join(lines))
    return data


def laid_over(data: Mapping[str, Any]) -> dict[str, Any]:
    """A suite that several files were merged into, without what a later one sets to null: the sweep, or a variant.

    A file that is laid over another can set keys only; in a suite of one file, null is a mistake.
    """
    kept = {key: value for key, value in data.items() if key != "sweep" or value is not None}
    if isinstance(variants := kept.get("variants"), Mapping):
        kept["variants"] = {name: entry for name, entry in variants.items() if entry is not None}
    return kept


@functools.cache
def read_schema() -> dict[str, Any]:
    """The schema: keys, types, limits, defaults and descriptions. Not to be changed: it is read once."""
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    schema["$defs"]["guide"]["enum"] = list(GUIDES)
    schema["properties"]["variants"]["additionalProperties"]["properties"]["role"]["enum"] = list(ROLES)
    return schema


def _message(error: ValidationError) -> str:
    """What is wrong, and what would be right."""
    schema = error.schema
    if not isinstance(schema, Mapping):
        return error.message
    hints = []
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = list(schema.get("properties", {}))
        for key in error.instance:
            if key not in known and (close := get_close_matches(key, known, 1)):
                hints.append(f"did you mean '{close[0]}'?")
        hints = hints or [f"known keys: {', '.join(known)}"]
    else:
        low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
        if low is not None and high is not None:
            hints.append(f"expected {low} to {high}")
        if error.validator in ("pattern", "not") and "description" in schema:
            hints.append(schema["description"])
        elif example := _example(error):
            hints.append(f"for example {example}")
    return "; ".join([error.message, *hints])


def _example(error: ValidationError) -> str | None:
    """`key: value` that works in place of what is wrong; None if the schema has neither an example nor a default.

    For an item of a list it is that of the whole list.
    """
    instance_path, schema_path = list(error.absolute_path), list(error.absolute_schema_path)
    schema: Any = error.schema
    if instance_path and isinstance(instance_path[-1], int):
        instance_path.pop()
        schema = read_schema()
        for step in schema_path[: len(schema_path) - 1 - schema_path[::-1].index("items")]:
            schema = schema[step]
    if not instance_path or not ("examples" in schema or "default" in schema):
        return None
    value = schema["examples"][0] if "examples" in schema else schema["default"]
    text = yaml.safe_dump({instance_path[-1]: value}, default_flow_style=True, sort_keys=False, width=10**6)
    return text.strip()[1:-1]


def _set_defaults(validator: Any, properties: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, dict):
        for key, subschema in properties.items():
            if "default" in subschema:
                instance.setdefault(key, json.loads(json.dumps(subschema["default"])))
    yield from Draft202012Validator.VALIDATORS["properties"](validator, properties, instance, schema)


def _is_integer(_: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)  # not 1.0, of which names of files would be made


_DefaultsValidator = validators.extend(
    Draft202012Validator,
    {"properties": _set_defaults},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)

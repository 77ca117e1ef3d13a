"""The schema of values: it knows, describes and checks every key, and the README lists them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from chart_values import with_orders, with_two_builds
from manifests import CHART, REPOSITORY, Chart, Object, Values

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

MISTYPED: dict[str, tuple[Values, list[str]]] = {
    "at the top": ({"queue": {}}, ["queue"]),
    "of a queue": (with_orders(replica=1), ["/queues/orders", "replica"]),
    "of a build": (
        with_orders(builds={"blue": {"buildId": "1", "imgae": {}}}),
        ["/queues/orders/builds/blue", "imgae"],
    ),
    "of a setting": (
        with_orders(settings={"drainTimeout": 60}),
        ["/queues/orders/settings", "drainTimeout"],
    ),
    "of queueDefaults": ({"queueDefaults": {"replica": 1}}, ["/queueDefaults", "replica"]),
    "of the connection": ({"temporal": {"adress": "x"}}, ["/temporal", "adress"]),
    "secret among the settings": (
        with_orders(settings={"tracingOtlpHeaders": "x"}),
        ["/queues/orders/settings", "tracingOtlpHeaders"],
    ),
    "word as a build ID": (
        with_orders(builds={"blue": {"buildId": True}}),
        ["/queues/orders/builds/blue/buildId", "string"],
    ),
    "autoscaler without workers": (
        with_orders(autoscaling={"enabled": True, "minReplicas": 0}),
        ["/queues/orders/autoscaling/minReplicas", "minimum"],
    ),
    "out of range": (
        with_orders(settings={"concurrencyActivities": 0}),
        ["/queues/orders/settings/concurrencyActivities", "minimum"],
    ),
    "text as a number": (with_orders(replicas="three"), ["/queues/orders/replicas"]),
    "unknown mode": (
        with_orders(rollout={"mode": "progressive"}),
        ["/queues/orders/rollout/mode", "all-at-once"],
    ),
    "percentage above 100": (
        with_two_builds(routing={"current": "blue", "ramping": "green", "percentage": 101}),
        ["/queues/orders/routing/percentage", "100"],
    ),
    "key that is no DNS label": (
        {"temporal": {"address": "t:1"}, "queues": {"Big_One": {"builds": {}}}},
        ["Big_One"],
    ),
}
"""Values that the schema refuses, and words that the message has to hold."""


@pytest.mark.parametrize("case", MISTYPED)
def test_mistyped_values_are_refused_by_path(chart: Chart, case: str) -> None:
    """A key that does not exist or a value of the wrong kind is refused with the place where it is."""
    values, words = MISTYPED[case]
    message = chart.refuse(values)

    assert [word for word in words if word not in message] == []


def test_every_value_is_in_the_schema_with_description_and_default() -> None:
    """Each key of values.yaml is described in the schema, which states the same default."""
    missing = list(_undescribed(DEFAULTS, SCHEMA, ()))

    assert not missing


def test_schema_admits_no_unknown_key() -> None:
    """Every object of the schema is closed, or a map with values of one kind."""
    open_objects = [path for path, schema in _walk(SCHEMA, "") if _is_open(schema)]

    assert not open_objects


def test_generated_parts_are_fresh() -> None:
    """Schema of the settings, table in the README and Kustomize's rules are what `make docs` writes."""
    script = REPOSITORY / "scripts" / "gen_chart.py"
    result = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stdout + result.stderr


def test_every_value_has_a_row_in_the_readme() -> None:
    """Whoever reads the README finds every key that can be set, or the map that it is in."""
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `([A-Za-z0-9.]+)` \|", readme, re.MULTILINE))
    missing = {
        ".".join(path)
        for path in _paths(DEFAULTS, ())
        if not any(".".join(path[:depth]) in rows for depth in range(1, len(path) + 1))
    }

    assert not missing


def _paths(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _paths(each, (*path, key))
    else:
        yield path


def _undescribed(values: Any, schema: Any, path: tuple[str, ...]) -> Iterator[str]:
    for key, value in values.items():
        here = ".".join((*path, key))
        found = _property(schema, key)
        if found is None:
            yield f"{here}: not in the schema"
            continue
        if not _first(found, "description"):
            yield f"{here}: no description"
        default = _first(found, "default", missing="no default")
        if default == value:
            continue
        if isinstance(value, dict) and _has_properties(found):
            yield from _undescribed(value, found, (*path, key))
        else:
            yield f"{here}: {default!r}, values.yaml {value!r}"


def _property(schema: Any, key: str) -> Any:
    for each in _flatten(schema):
        if key in each.get("properties", {}):
            return each["properties"][key]
    return None


def _has_properties(schema: Any) -> bool:
    return any(each.get("properties") for each in _flatten(schema))


def _first(schema: Any, keyword: str, missing: Any = None) -> Any:
    return next((each[keyword] for each in _flatten(schema) if keyword in each), missing)


def _flatten(schema: Any) -> Iterator[Object]:
    yield schema
    if "$ref" in schema:
        yield from _flatten(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    for each in schema.get("allOf", []):
        yield from _flatten(each)


def _walk(schema: Any, path: str) -> Iterator[tuple[str, Object]]:
    if isinstance(schema, dict):
        yield path, schema
        for key, each in schema.items():
            yield from _walk(each, f"{path}/{key}")


def _is_open(schema: Object) -> bool:
    return "properties" in schema and schema.get("additionalProperties") is not False

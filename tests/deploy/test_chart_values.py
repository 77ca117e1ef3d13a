"""Values: what is written once holds everywhere, what is wrong is refused with words that help."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from manifests import CHART, REPOSITORY, SMALL, Chart, Object, Values, worker_of

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))


def _queue(**queue: Any) -> Values:
    return {
        "temporal": {"address": "temporal:7233"},
        "queues": {"orders": {"builds": {"blue": {"buildId": "1.4.0"}}, **queue}},
    }


def _two_builds(**queue: Any) -> Values:
    builds = {"blue": {"buildId": "1"}, "green": {"buildId": "2"}}
    return _queue(**{"builds": builds, "routing": {"current": "blue"}, **queue})


REFUSED: dict[str, tuple[Values, list[str]]] = {
    "no address": (
        {"queues": {"orders": {"builds": {"blue": {"buildId": "1"}}}}},
        ["temporal.address", "host:port", "devServer"],
    ),
    "grace period too short": (
        _queue(terminationGracePeriodSeconds=20, settings={"drainTimeoutSeconds": 60}),
        ["queue 'orders'", "build 'blue'", "20", "60", "75"],
    ),
    "no build": (_queue(builds={}), ["queue 'orders'", "no builds"]),
    "nothing said of a queue": (
        {"temporal": {"address": "t:1"}, "queues": {"orders": {}}},
        ["queue 'orders'", "no builds"],
    ),
    "no current build of two": (
        _two_builds(routing={}),
        ["queue 'orders'", "routing.current", "blue, green"],
    ),
    "current is no build": (
        _two_builds(routing={"current": "red"}),
        ["queue 'orders'", "'red'", "blue, green"],
    ),
    "ramping is no build": (
        _two_builds(routing={"current": "blue", "ramping": "red", "percentage": 5}),
        ["queue 'orders'", "routing.ramping", "'red'"],
    ),
    "ramping is current": (
        _two_builds(routing={"current": "blue", "ramping": "blue", "percentage": 5}),
        ["queue 'orders'", "'blue'", "current already"],
    ),
    "percentage of nothing": (
        _two_builds(routing={"current": "blue", "percentage": 10}),
        ["queue 'orders'", "10", "routing.ramping"],
    ),
    "one build ID twice": (
        _two_builds(builds={"blue": {"buildId": "1"}, "green": {"buildId": "1"}}),
        ["queue 'orders'", "'green'", "'blue'", "buildId '1'"],
    ),
    "two unversioned builds": (
        _two_builds(
            builds={
                "blue": {"buildId": "1", "versioned": False},
                "green": {"buildId": "2", "versioned": False},
            }
        ),
        ["queue 'orders'", "blue, green", "versioned: false"],
    ),
    "one Worker Deployment twice": (
        {
            "temporal": {"address": "t:1"},
            "queues": {
                "a": {"builds": {"blue": {"buildId": "1"}}, "deploymentName": "same"},
                "b": {"builds": {"blue": {"buildId": "1"}}, "deploymentName": "same"},
            },
        },
        ["queue 'b'", "'same'", "'a'"],
    ),
    "build ID of a queue": (
        {**_queue(), "queues": {"orders": {"buildId": "1"}}},
        ["orders", "buildId", "builds"],
    ),
    "fewer at most than at least": (
        _queue(autoscaling={"enabled": True, "minReplicas": 5, "maxReplicas": 2}),
        ["queue 'orders'", "minReplicas is 5", "2"],
    ),
    "autoscaling by nothing": (
        _queue(autoscaling={"enabled": True, "cpu": 0}),
        ["queue 'orders'", "nothing is measured"],
    ),
    "percentage of no request": (
        {
            **_queue(autoscaling={"enabled": True}),
            "queueDefaults": {"resources": {"requests": {"cpu": None}}},
        },
        ["queue 'orders'", "resources.requests.cpu"],
    ),
    "KEDA without a task queue": (
        _queue(autoscaling={"enabled": True, "engine": "keda"}),
        ["queue 'orders'", "taskQueue"],
    ),
    "variable of a setting": (
        _queue(env={"FLEET_DRAIN_TIMEOUT_SECONDS": 99}),
        ["queue 'orders'", "FLEET_DRAIN_TIMEOUT_SECONDS", "settings.drainTimeoutSeconds"],
    ),
    "secret variable of a setting": (
        _queue(secretEnv={"FLEET_HEALTH_PORT": "99"}),
        ["queue 'orders'", "FLEET_HEALTH_PORT", "settings.healthPort"],
    ),
    "any free health port": (
        _queue(settings={"healthPort": 0}),
        ["queue 'orders'", "settings.healthPort"],
    ),
    "no repository": (_queue(image={"repository": ""}), ["queue 'orders'", "image.repository"]),
    "queue of the chart's own objects": (
        {"temporal": {"address": "t:1"}, "queues": {"hooks": {"builds": {"b": {"buildId": "1"}}}}},
        ["queue 'hooks'", "another key"],
    ),
    "two ways of scraping": (
        {
            **_queue(),
            "monitoring": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}},
        },
        ["podMonitor", "serviceMonitor", "twice"],
    ),
    "forced build without a queue": (
        {**_queue(), "hooks": {"guard": {"forceRemoveBuilds": ["1.4.0"]}}},
        ["forceRemoveBuilds", "1.4.0"],
    ),
}
"""Values that no worker could run with, and words that the message has to hold."""

MISTYPED: dict[str, tuple[Values, list[str]]] = {
    "at the top": ({"queue": {}}, ["queue"]),
    "of a queue": (_queue(replica=1), ["/queues/orders", "replica"]),
    "of a build": (
        _queue(builds={"blue": {"buildId": "1", "imgae": {}}}),
        ["/queues/orders/builds/blue", "imgae"],
    ),
    "of a setting": (
        _queue(settings={"drainTimeout": 60}),
        ["/queues/orders/settings", "drainTimeout"],
    ),
    "of queueDefaults": ({"queueDefaults": {"replica": 1}}, ["/queueDefaults", "replica"]),
    "of the connection": ({"temporal": {"adress": "x"}}, ["/temporal", "adress"]),
    "secret among the settings": (
        _queue(settings={"tracingOtlpHeaders": "x"}),
        ["/queues/orders/settings", "tracingOtlpHeaders"],
    ),
    "number as a build ID": (
        _queue(builds={"blue": {"buildId": 1.10}}),
        ["/queues/orders/builds/blue/buildId", "string"],
    ),
    "out of range": (
        _queue(settings={"concurrencyActivities": 0}),
        ["/queues/orders/settings/concurrencyActivities", "minimum"],
    ),
    "text as a number": (_queue(replicas="three"), ["/queues/orders/replicas"]),
    "unknown mode": (
        _queue(rollout={"mode": "progressive"}),
        ["/queues/orders/rollout/mode", "all-at-once"],
    ),
    "percentage above 100": (
        _two_builds(routing={"current": "blue", "ramping": "green", "percentage": 101}),
        ["/queues/orders/routing/percentage", "100"],
    ),
    "key that is no DNS label": (
        {"temporal": {"address": "t:1"}, "queues": {"Big_One": {"builds": {}}}},
        ["Big_One"],
    ),
}
"""Values that the schema refuses, and words that the message has to hold."""


@pytest.mark.parametrize("case", REFUSED)
def test_contradictions_are_refused_by_name(chart: Chart, case: str) -> None:
    """What contradicts itself is refused before anything is applied, by queue, value and cure."""
    values, words = REFUSED[case]
    message = chart.refuse(values)

    assert "temporal-fleet: the values have " in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("case", MISTYPED)
def test_mistyped_values_are_refused_by_path(chart: Chart, case: str) -> None:
    """A key that does not exist or a value of the wrong kind is refused with the place where it is."""
    values, words = MISTYPED[case]
    message = chart.refuse(values)

    assert [word for word in words if word not in message] == []


def test_all_problems_are_told_at_once(chart: Chart) -> None:
    """Two mistakes take one attempt to find."""
    values = _two_builds(
        routing={"current": "red"}, terminationGracePeriodSeconds=1, settings={"healthPort": 0}
    )
    message = chart.refuse(values)

    assert "routing.current is 'red'" in message
    assert "terminationGracePeriodSeconds is 1" in message
    assert message.count("settings.healthPort is 0") == 2


def test_first_queue_does_not_leak_into_the_second(chart: Chart) -> None:
    """What one queue or build says holds for it alone: the others get the defaults."""
    first: dict[str, Any] = {
        "env": {"ONLY": "first"},
        "settings": {"logLevel": "DEBUG"},
        "resources": {"limits": {"memory": "2Gi"}},
        "podLabels": {"only": "first"},
        "replicas": 7,
        "builds": {
            "blue": {"buildId": "1", "env": {"BUILD": "blue"}, "nodeSelector": {"disk": "ssd"}},
            "green": {"buildId": "2"},
        },
        "routing": {"current": "blue"},
    }
    second = {"builds": {"blue": {"buildId": "1"}}}
    base = {"temporal": {"address": "temporal:7233"}}
    both = chart.render({**base, "queues": {"first": first, "second": second}})
    alone = chart.render({**base, "queues": {"second": second}})

    expected = alone.named("Deployment", "fleet-second-blue")
    assert both.named("Deployment", "fleet-second-blue") == expected
    green = both.named("Deployment", "fleet-first-green")
    assert worker_of(green)["env"] == [{"name": "ONLY", "value": "first"}]
    assert "nodeSelector" not in green["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("defaults", "queue", "path", "expected"),
    [
        ({"replicas": 5}, {"replicas": 0}, ("replicas",), 0),
        (
            {"podDisruptionBudget": {"enabled": True}},
            {"podDisruptionBudget": {"enabled": False}},
            ("budget",),
            None,
        ),
        (
            {"nodeSelector": {"disk": "ssd"}},
            {"nodeSelector": {}},
            ("template", "spec", "nodeSelector"),
            None,
        ),
        (
            {"tolerations": [{"operator": "Exists"}]},
            {"tolerations": []},
            ("template", "spec", "tolerations"),
            None,
        ),
        ({"env": {"REGION": "eu"}}, {"env": {"REGION": None}}, ("env",), None),
        ({}, {"minReadySeconds": 0}, ("minReadySeconds",), 0),
        (
            {"topologySpreadConstraints": None},
            {"topologySpreadConstraints": []},
            ("template", "spec", "topologySpreadConstraints"),
            None,
        ),
    ],
    ids=["0", "false", "empty map", "empty list", "null", "0 of 0", "empty list over null"],
)
def test_empty_values_override(
    chart: Chart, defaults: Values, queue: Values, path: tuple[str, ...], expected: Any
) -> None:
    """0, false, nothing and null count as much as any other value."""
    rendered = chart.render({**_queue(**queue), "queueDefaults": defaults})
    deployment = rendered.only("Deployment")

    found: Any = {
        **deployment["spec"],
        "budget": next(iter(rendered.of_kind("PodDisruptionBudget")), None),
        "env": worker_of(deployment).get("env"),
    }
    for key in path:
        found = found.get(key)
    assert found == expected


def test_null_removes_queue_and_build(chart: Chart) -> None:
    """A second values file takes a queue or a build of the first away with null."""
    values = {
        "temporal": {"address": "temporal:7233"},
        "queues": {
            "payments": None,
            "orders": {"builds": {"blue": {"buildId": "1"}, "green": None}},
        },
    }

    assert [each["metadata"]["name"] for each in chart.render(values).of_kind("Deployment")] == [
        "fleet-orders-blue"
    ]


def test_builds_override_their_queue(chart: Chart) -> None:
    """A build may differ from its queue in everything, and shares what it does not say."""
    values = _queue(
        image={"repository": "shop/orders", "registry": "registry.example:5000"},
        env={"A": "queue", "B": "queue"},
        builds={
            "blue": {"buildId": "1", "env": {"B": "build"}, "image": {"tag": "other"}},
            "green": {"buildId": "2", "image": {"digest": f"sha256:{'0' * 64}"}},
        },
        routing={"current": "blue"},
    )
    rendered = chart.render(values)
    blue, green = (
        worker_of(rendered.named("Deployment", f"fleet-orders-{build}"))
        for build in ("blue", "green")
    )

    assert blue["image"] == "registry.example:5000/shop/orders:other"
    assert green["image"] == f"registry.example:5000/shop/orders@sha256:{'0' * 64}"
    assert blue["env"] == [{"name": "A", "value": "queue"}, {"name": "B", "value": "build"}]


def test_no_queue_renders_no_worker(chart: Chart) -> None:
    """The chart can be installed with no values at all; it runs nothing and says so."""
    rendered = chart.render({})

    assert not list(rendered.pods())
    assert "nothing runs" in chart.notes({})


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


def test_notes_say_what_runs_and_what_to_do(chart: Chart, two_queues: Values) -> None:
    """After an installation people read each build with replicas and routing, and what to do next."""
    notes = chart.notes(two_queues)

    for words in (
        *("fleet-orders-blue", "1.4.0-abc", "3 to 8 workers (hpa)", "ramping, 12.5 %"),
        *("gets no new work", "polls as unversioned", "helm test fleet -n fleet"),
        *("fleet rollout status", "keda.sh/v1alpha1", "monitoring.coreos.com/v1"),
    ):
        assert words in notes, words
    assert "<no value>" not in notes
    assert "WARNING" not in chart.notes(SMALL)


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

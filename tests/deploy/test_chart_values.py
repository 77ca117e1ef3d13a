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
from manifests import CHART, OPTIONAL_APIS, REPOSITORY, SMALL, Chart, Object, Values, worker_of

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


def _queues(**queues: Any) -> Values:
    return {"temporal": {"address": "temporal:7233"}, "queues": queues}


def _blue(**queue: Any) -> dict[str, Any]:
    return {"builds": {"blue": {"buildId": "1"}}, **queue}


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
    "repository that is null": (
        {**_queue(), "queueDefaults": {"image": {"repository": None}}},
        ["queue 'orders', build 'blue': image.repository is empty"],
    ),
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
    "one task queue twice": (
        _queues(one=_blue(taskQueue="shared"), two=_blue(taskQueue="shared")),
        ["queue 'two'", "task queue 'shared'", "queue 'one'", "builds of one queue"],
    ),
    "one workload twice": (
        _queues(one=_blue(workload="orders"), orders=_blue()),
        ["queue 'orders'", "workload 'orders'", "queue 'one'", "a taskQueue of its own"],
    ),
    "task queue of one build": (
        _queues(
            one=_blue(taskQueue="a"),
            two={"builds": {"blue": {"buildId": "1", "taskQueue": "a"}}, "taskQueue": "b"},
        ),
        ["queue 'two'", "task queue 'a'", "queue 'one'"],
    ),
    "build without a build ID": (
        _queue(builds={"blue": {}}),
        ["queue 'orders', build 'blue': buildId is missing", "blue: null"],
    ),
    "two builds without a build ID": (
        _two_builds(builds={"blue": {}, "green": {"versioned": False}}),
        ["2 problems", "build 'blue': buildId is missing", "build 'green': buildId is missing"],
    ),
    "build key with a capital": (
        _queue(builds={"Blue": {"buildId": "1"}}),
        ["a problem:", "queue 'orders', build 'Blue': its key", "at most 20 of a-z, 0-9 and -"],
    ),
    "build key that ends in a dash": (
        _queue(builds={"blue-": {"buildId": "1"}}),
        ["a problem:", "queue 'orders', build 'blue-': its key"],
    ),
    "build key that is too long": (
        _queue(builds={"b" * 21: {"buildId": "1"}}),
        ["a problem:", f"queue 'orders', build '{'b' * 21}': its key"],
    ),
    "queue key that is too long": (
        _queues(**{"q" * 41: _blue()}),
        ["a problem:", f"queue '{'q' * 41}': its key", "at most 40 of a-z, 0-9 and -"],
    ),
    "fraction as a build ID": (
        _queue(builds={"blue": {"buildId": 1.10}}),
        ["a problem:", "build 'blue': buildId is the number 1.1;", '"1.10"', "--set-string"],
    ),
    "large number as a build ID": (
        _queue(builds={"blue": {"buildId": 20261126}}),
        ["queue 'orders', build 'blue': buildId is the number 20261126;", "quotes"],
    ),
    "zero as a build ID": (
        _queue(builds={"blue": {"buildId": 0}}),
        ["a problem:", "queue 'orders', build 'blue': buildId is the number 0;"],
    ),
    "address without a port": (
        {**_queue(), "temporal": {"address": "temporal-frontend"}},
        ["temporal.address is 'temporal-frontend'", "temporal-frontend.temporal.svc:7233"],
    ),
    "address with a scheme": (
        {**_queue(), "temporal": {"address": "https://host:7233"}},
        ["temporal.address is 'https://host:7233'", "host:port", "without https://"],
    ),
    "API key among the variables": (
        _queue(env={"TEMPORAL_API_KEY": "hush"}),
        ["queue 'orders', build 'blue': env.TEMPORAL_API_KEY", "temporal.apiKey.secretName"],
    ),
    "API key among the secret variables": (
        _queue(secretEnv={"TEMPORAL_API_KEY_FILE": "/tmp/key"}),
        ["secretEnv.TEMPORAL_API_KEY_FILE", "temporal.apiKey.secretName"],
    ),
    "API key of the connection": (
        {**_queue(), "temporal": {"address": "t:1", "env": {"TEMPORAL_API_KEY": "hush"}}},
        ["temporal.env.TEMPORAL_API_KEY", "temporal.apiKey.secretName"],
    ),
    "encryption among the variables": (
        _queue(env={"TEMPORAL_TLS_SERVER_NAME": "name"}),
        ["queue 'orders', build 'blue': env.TEMPORAL_TLS_SERVER_NAME", "temporal.tls"],
    ),
    "encryption of the connection": (
        {**_queue(), "temporal": {"address": "t:1", "env": {"TEMPORAL_TLS": True}}},
        ["temporal.env.TEMPORAL_TLS:", "keys of temporal.tls"],
    ),
    "key of payloads without a Secret": (
        {**_queue(), "temporal": {"address": "t:1", "codec": {"encryptionKeyId": "2026-11"}}},
        ["temporal.codec.encryptionKeyId is '2026-11'", "temporal.codec.secretName", "not be enc"],
    ),
    "setting that a variable contradicts": (
        _queue(settings={"logLevel": "DEBUG"}, env={"FLEET_LOG_LEVEL": "INFO"}),
        ["queue 'orders', build 'blue': env.FLEET_LOG_LEVEL", "settings.logLevel"],
    ),
    "setting that a secret variable contradicts": (
        {
            **_queue(secretEnv={"FLEET_TRACING_OTLP_ENDPOINT": "http://user:hush@otlp"}),
            "queueDefaults": {"settings": {"tracingOtlpEndpoint": "http://otlp"}},
        },
        ["secretEnv.FLEET_TRACING_OTLP_ENDPOINT", "settings.tracingOtlpEndpoint"],
    ),
    "Job that ends before what it waits for": (
        {**_queue(), "hooks": {"routing": {"pollerTimeoutSeconds": 290}}},
        ["hooks.routing: pollerTimeoutSeconds is 290", "activeDeadlineSeconds to 340"],
    ),
    "current build without workers": (
        _queue(replicas=0),
        ["queue 'orders', build 'blue': replicas is 0", "current", "1 or more"],
    ),
    "ramping build without workers": (
        _two_builds(
            builds={"blue": {"buildId": "1"}, "green": {"buildId": "2", "replicas": 0}},
            routing={"current": "blue", "ramping": "green"},
        ),
        ["a problem:", "queue 'orders', build 'green': replicas is 0", "ramping"],
    ),
    "repository with a tag": (
        _queue(image={"repository": "registry.example:5000/fleet-orders:1.0"}),
        ["queue 'orders', build 'blue': image.repository", "put 1.0 into image.tag"],
    ),
    "repository with a tag that is a template": (
        _queue(image={"repository": "fleet-{{ .workload }}:{{ .buildId }}"}),
        ["image.repository is 'fleet-orders:1.4.0'", "put 1.4.0 into image.tag"],
    ),
    "repository with a digest": (
        _queue(image={"repository": "fleet-orders@sha256:0123"}),
        ["a problem:", "image.repository", "put sha256:0123 into image.digest"],
    ),
    "registry with a scheme": (
        _queue(image={"registry": "https://registry.example"}),
        ["queue 'orders', build 'blue': image.registry is 'https://registry.example'", "leave out"],
    ),
    "image of the Jobs with a tag": (
        {**_queue(), "hooks": {"image": {"repository": "fleet-tools:2"}}},
        ["hooks.image.repository is 'fleet-tools:2'", "put 2 into image.tag"],
    ),
    "image of the dev server with a scheme": (
        {
            **_queue(),
            "temporal": {"devServer": {"enabled": True, "image": {"registry": "oci://r"}}},
        },
        ["temporal.devServer.image.registry is 'oci://r'", "leave out oci://"],
    ),
    "sidecar whose image is a misspelt template": (
        _queue(sidecars=[{"name": "proxy", "image": "{{ .imgae }}"}]),
        ["queue 'orders', build 'blue': sidecars", "container 'proxy' is ''", "{{ .image }}"],
    ),
    "init container without an image": (
        _queue(initContainers=[{"name": "migrate"}]),
        ["queue 'orders', build 'blue': initContainers", "container 'migrate' is ''"],
    ),
    "build ID as the current build": (
        _two_builds(routing={"current": "2"}),
        ["queue 'orders'", "routing.current is '2'", "the build ID of build 'green'", "its key"],
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
    "word as a build ID": (
        _queue(builds={"blue": {"buildId": True}}),
        ["/queues/orders/builds/blue/buildId", "string"],
    ),
    "autoscaler without workers": (
        _queue(autoscaling={"enabled": True, "minReplicas": 0}),
        ["/queues/orders/autoscaling/minReplicas", "minimum"],
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


def test_refusals_are_errors_of_the_values(chart: Chart) -> None:
    """Helm names the file that checks the values as the place of an error, not a manifest of the chart."""
    message = chart.refuse(_queue(replicas=0))

    assert "execution error at (temporal-fleet/templates/validate/values.yaml:" in message


def test_check_of_the_values_renders_nothing(chart: Chart) -> None:
    """The file that checks the values leaves no trace in manifests, and single files can be shown."""
    everything = chart.run("template", "fleet", SMALL)
    one = chart.run("template", "fleet", SMALL, "--show-only=templates/deployment.yaml")

    assert "validate" not in everything.stdout
    assert one.returncode == 0, one.stderr
    assert one.stdout.count("# Source: ") == 1


@pytest.mark.parametrize(
    "queues",
    [
        {"one": _blue(taskQueue="orders"), "two": _blue(workload="orders")},
        {
            "one": _blue(taskQueue="shared"),
            "two": {
                "taskQueue": "shared",
                "builds": {"plain": {"buildId": "1", "versioned": False}},
            },
        },
        {"one": _blue(workload="w", taskQueue="a"), "two": _blue(workload="w", taskQueue="b")},
    ],
    ids=["task queue as another workload", "unversioned builds alone", "one workload, two queues"],
)
def test_task_queues_that_cannot_clash_are_taken(chart: Chart, queues: Values) -> None:
    """Two queues are refused only when Temporal would surely route one task queue for both."""
    assert len(chart.render(_queues(**queues)).of_kind("Deployment")) == 2


def test_idle_build_may_have_no_workers(chart: Chart) -> None:
    """A build that gets no new work may be kept with 0 replicas."""
    builds = {"blue": {"buildId": "1"}, "old": {"buildId": "0", "replicas": 0}}
    rendered = chart.render(_two_builds(builds=builds))

    assert rendered.named("Deployment", "fleet-orders-old")["spec"]["replicas"] == 0


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
        ({"revisionHistoryLimit": 5}, {"revisionHistoryLimit": 0}, ("revisionHistoryLimit",), 0),
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


def test_null_removes_the_registry(chart: Chart) -> None:
    """A registry that is null is the one of the node's configuration, as an empty one is."""
    rendered = chart.render({**_queue(), "queueDefaults": {"image": {"registry": None}}})

    assert worker_of(rendered.only("Deployment"))["image"] == "fleet-orders:1.4.0"


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


def test_names_that_yaml_takes_for_booleans_stay_names(chart: Chart) -> None:
    """Variables called N, Y or on, and a queue called on, have these names wherever they are written."""
    names = ["N", "Y", "on"]
    values = {
        "temporal": {"address": "temporal:7233", "env": dict.fromkeys(names, "connection")},
        "queues": {
            "on": _blue(
                env={
                    "N": "plain",
                    "y": {"valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                },
                secretEnv={"Y": "hush", "off": "hush"},
            )
        },
    }
    rendered = chart.render(values)
    deployment = rendered.named("Deployment", "fleet-on-blue")

    assert [each["name"] for each in worker_of(deployment)["env"]] == ["N", "y"]
    assert set(rendered.named("ConfigMap", "fleet-on-blue")["data"]) >= set(names)
    assert set(rendered.named("Secret", "fleet-on-blue")["data"]) == {"Y", "off"}
    for job in rendered.of_kind("Job"):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert {each["name"] for each in container["env"]} >= set(names)
    labels = deployment["spec"]["selector"]["matchLabels"]
    assert labels["app.kubernetes.io/component"] == "on"


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


def test_notes_warn_of_what_the_cluster_lacks(chart: Chart, two_queues: Values) -> None:
    """What is left out without an operator is told with its cure, and not where the operator is there."""
    keda, prometheus = "has no keda.sh/v1alpha1", "has no monitoring.coreos.com/v1"
    bare, with_operators = chart.notes(two_queues), chart.notes(two_queues, apis=OPTIONAL_APIS)

    assert (
        f"queue 'payments', build 'plain': autoscaling.engine is keda, but this cluster {keda}"
        in bare
    )
    for kind in ("podMonitor", "prometheusRule"):
        assert f"monitoring.{kind} is left out: this cluster {prometheus}" in bare
    assert "monitoring.serviceMonitor" not in bare
    assert "(keda)" not in bare
    assert "3 to 8 workers (keda)" in with_operators
    assert "this cluster has no" not in with_operators


def test_notes_name_a_shared_task_queue_once(chart: Chart) -> None:
    """The command that asks who polls names each task queue once, also when two queues share it."""
    plain = {"plain": {"buildId": "1", "versioned": False}}
    values = _queues(one=_blue(taskQueue="shared"), two={"taskQueue": "shared", "builds": plain})

    assert "-- fleet queue 'shared'\n" in chart.notes(values)


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

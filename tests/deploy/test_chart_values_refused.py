"""Values that contradict themselves: refused before anything is applied, in words that help."""

from __future__ import annotations

import pytest
from chart_values import only_blue, with_orders, with_queues, with_two_builds
from manifests import SMALL, Chart, Values

REFUSED: dict[str, tuple[Values, list[str]]] = {
    "no address": (
        {"queues": {"orders": {"builds": {"blue": {"buildId": "1"}}}}},
        ["temporal.address", "host:port", "devServer"],
    ),
    "grace period too short": (
        with_orders(terminationGracePeriodSeconds=20, settings={"drainTimeoutSeconds": 60}),
        ["queue 'orders'", "build 'blue'", "20", "60", "75"],
    ),
    "no build": (with_orders(builds={}), ["queue 'orders'", "no builds"]),
    "nothing said of a queue": (
        {"temporal": {"address": "t:1"}, "queues": {"orders": {}}},
        ["queue 'orders'", "no builds"],
    ),
    "no current build of two": (
        with_two_builds(routing={}),
        ["queue 'orders'", "routing.current", "blue, green"],
    ),
    "current is no build": (
        with_two_builds(routing={"current": "red"}),
        ["queue 'orders'", "'red'", "blue, green"],
    ),
    "ramping is no build": (
        with_two_builds(routing={"current": "blue", "ramping": "red", "percentage": 5}),
        ["queue 'orders'", "routing.ramping", "'red'"],
    ),
    "ramping is current": (
        with_two_builds(routing={"current": "blue", "ramping": "blue", "percentage": 5}),
        ["queue 'orders'", "'blue'", "current already"],
    ),
    "percentage of nothing": (
        with_two_builds(routing={"current": "blue", "percentage": 10}),
        ["queue 'orders'", "10", "routing.ramping"],
    ),
    "one build ID twice": (
        with_two_builds(builds={"blue": {"buildId": "1"}, "green": {"buildId": "1"}}),
        ["queue 'orders'", "'green'", "'blue'", "buildId '1'"],
    ),
    "two unversioned builds": (
        with_two_builds(
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
        {**with_orders(), "queues": {"orders": {"buildId": "1"}}},
        ["orders", "buildId", "builds"],
    ),
    "fewer at most than at least": (
        with_orders(autoscaling={"enabled": True, "minReplicas": 5, "maxReplicas": 2}),
        ["queue 'orders'", "minReplicas is 5", "2"],
    ),
    "autoscaling by nothing": (
        with_orders(autoscaling={"enabled": True, "cpu": 0}),
        ["queue 'orders'", "nothing is measured"],
    ),
    "percentage of no request": (
        {
            **with_orders(autoscaling={"enabled": True}),
            "queueDefaults": {"resources": {"requests": {"cpu": None}}},
        },
        ["queue 'orders'", "resources.requests.cpu"],
    ),
    "KEDA without a task queue": (
        with_orders(autoscaling={"enabled": True, "engine": "keda"}),
        ["queue 'orders'", "taskQueue"],
    ),
    "KEDA without what it encrypts with": (
        {
            **with_orders(taskQueue="a", autoscaling={"enabled": True, "engine": "keda"}),
            "temporal": {"address": "t:1", "tls": {"ca": {"secretName": "authority"}}},
        },
        ["queue 'orders'", "keda", "encrypts only with", "engine: hpa"],
    ),
    "KEDA with a key in clear text": (
        {
            **with_orders(taskQueue="a", autoscaling={"enabled": True, "engine": "keda"}),
            "temporal": {
                "address": "t:1",
                "apiKey": {"secretName": "key"},
                "tls": {"enabled": False},
            },
        },
        ["queue 'orders'", "keda", "always encrypts", "engine: hpa"],
    ),
    "variable of a setting": (
        with_orders(env={"FLEET_DRAIN_TIMEOUT_SECONDS": 99}),
        ["queue 'orders'", "FLEET_DRAIN_TIMEOUT_SECONDS", "settings.drainTimeoutSeconds"],
    ),
    "secret variable of a setting": (
        with_orders(secretEnv={"FLEET_HEALTH_PORT": "99"}),
        ["queue 'orders'", "FLEET_HEALTH_PORT", "settings.healthPort"],
    ),
    "any free health port": (
        with_orders(settings={"healthPort": 0}),
        ["queue 'orders'", "settings.healthPort"],
    ),
    "no repository": (
        with_orders(image={"repository": ""}),
        ["queue 'orders'", "image.repository"],
    ),
    "repository that is null": (
        {**with_orders(), "queueDefaults": {"image": {"repository": None}}},
        ["queue 'orders', build 'blue': image.repository is empty"],
    ),
    "queue of the chart's own objects": (
        {"temporal": {"address": "t:1"}, "queues": {"hooks": {"builds": {"b": {"buildId": "1"}}}}},
        ["queue 'hooks'", "another key"],
    ),
    "two ways of scraping": (
        {
            **with_orders(),
            "monitoring": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}},
        },
        ["podMonitor", "serviceMonitor", "twice"],
    ),
    "one task queue twice": (
        with_queues(one=only_blue(taskQueue="shared"), two=only_blue(taskQueue="shared")),
        ["queue 'two'", "task queue 'shared'", "queue 'one'", "builds of one queue"],
    ),
    "one workload twice": (
        with_queues(one=only_blue(workload="orders"), orders=only_blue()),
        ["queue 'orders'", "workload 'orders'", "queue 'one'", "a taskQueue of its own"],
    ),
    "task queue of one build": (
        with_queues(
            one=only_blue(taskQueue="a"),
            two={"builds": {"blue": {"buildId": "1", "taskQueue": "a"}}, "taskQueue": "b"},
        ),
        ["queue 'two'", "task queue 'a'", "queue 'one'"],
    ),
    "build without a build ID": (
        with_orders(builds={"blue": {}}),
        ["queue 'orders', build 'blue': buildId is missing", "blue: null"],
    ),
    "two builds without a build ID": (
        with_two_builds(builds={"blue": {}, "green": {"versioned": False}}),
        ["2 problems", "build 'blue': buildId is missing", "build 'green': buildId is missing"],
    ),
    "build key with a capital": (
        with_orders(builds={"Blue": {"buildId": "1"}}),
        ["a problem:", "queue 'orders', build 'Blue': its key", "at most 20 of a-z, 0-9 and -"],
    ),
    "build key that ends in a dash": (
        with_orders(builds={"blue-": {"buildId": "1"}}),
        ["a problem:", "queue 'orders', build 'blue-': its key"],
    ),
    "build key that is too long": (
        with_orders(builds={"b" * 21: {"buildId": "1"}}),
        ["a problem:", f"queue 'orders', build '{'b' * 21}': its key"],
    ),
    "queue key that is too long": (
        with_queues(**{"q" * 41: only_blue()}),
        ["a problem:", f"queue '{'q' * 41}': its key", "at most 40 of a-z, 0-9 and -"],
    ),
    "fraction as a build ID": (
        with_orders(builds={"blue": {"buildId": 1.10}}),
        ["a problem:", "build 'blue': buildId is the number 1.1;", '"1.10"', "--set-string"],
    ),
    "large number as a build ID": (
        with_orders(builds={"blue": {"buildId": 20261126}}),
        ["queue 'orders', build 'blue': buildId is the number 20261126;", "quotes"],
    ),
    "zero as a build ID": (
        with_orders(builds={"blue": {"buildId": 0}}),
        ["a problem:", "queue 'orders', build 'blue': buildId is the number 0;"],
    ),
    "address without a port": (
        {**with_orders(), "temporal": {"address": "temporal-frontend"}},
        ["temporal.address is 'temporal-frontend'", "temporal-frontend.temporal.svc:7233"],
    ),
    "address with a scheme": (
        {**with_orders(), "temporal": {"address": "https://host:7233"}},
        ["temporal.address is 'https://host:7233'", "host:port", "without https://"],
    ),
    "API key among the variables": (
        with_orders(env={"TEMPORAL_API_KEY": "hush"}),
        ["queue 'orders', build 'blue': env.TEMPORAL_API_KEY", "temporal.apiKey.secretName"],
    ),
    "API key among the secret variables": (
        with_orders(secretEnv={"TEMPORAL_API_KEY_FILE": "/tmp/key"}),
        ["secretEnv.TEMPORAL_API_KEY_FILE", "temporal.apiKey.secretName"],
    ),
    "API key of the connection": (
        {**with_orders(), "temporal": {"address": "t:1", "env": {"TEMPORAL_API_KEY": "hush"}}},
        ["temporal.env.TEMPORAL_API_KEY", "temporal.apiKey.secretName"],
    ),
    "encryption among the variables": (
        with_orders(env={"TEMPORAL_TLS_SERVER_NAME": "name"}),
        ["queue 'orders', build 'blue': env.TEMPORAL_TLS_SERVER_NAME", "temporal.tls"],
    ),
    "encryption of the connection": (
        {**with_orders(), "temporal": {"address": "t:1", "env": {"TEMPORAL_TLS": True}}},
        ["temporal.env.TEMPORAL_TLS:", "keys of temporal.tls"],
    ),
    "key of payloads without a Secret": (
        {**with_orders(), "temporal": {"address": "t:1", "codec": {"encryptionKeyId": "2026-11"}}},
        ["temporal.codec.encryptionKeyId is '2026-11'", "temporal.codec.secretName", "not be enc"],
    ),
    "setting that a variable contradicts": (
        with_orders(settings={"logLevel": "DEBUG"}, env={"FLEET_LOG_LEVEL": "INFO"}),
        ["queue 'orders', build 'blue': env.FLEET_LOG_LEVEL", "settings.logLevel"],
    ),
    "setting that a secret variable contradicts": (
        {
            **with_orders(secretEnv={"FLEET_TRACING_OTLP_ENDPOINT": "http://user:hush@otlp"}),
            "queueDefaults": {"settings": {"tracingOtlpEndpoint": "http://otlp"}},
        },
        ["secretEnv.FLEET_TRACING_OTLP_ENDPOINT", "settings.tracingOtlpEndpoint"],
    ),
    "Job that ends before what it waits for": (
        {**with_orders(), "hooks": {"routing": {"pollerTimeoutSeconds": 290}}},
        ["hooks.routing: pollerTimeoutSeconds is 290", "activeDeadlineSeconds to 340"],
    ),
    "current build without workers": (
        with_orders(replicas=0),
        ["queue 'orders', build 'blue': replicas is 0", "current", "1 or more"],
    ),
    "ramping build without workers": (
        with_two_builds(
            builds={"blue": {"buildId": "1"}, "green": {"buildId": "2", "replicas": 0}},
            routing={"current": "blue", "ramping": "green"},
        ),
        ["a problem:", "queue 'orders', build 'green': replicas is 0", "ramping"],
    ),
    "repository with a tag": (
        with_orders(image={"repository": "registry.example:5000/fleet-orders:1.0"}),
        ["queue 'orders', build 'blue': image.repository", "put 1.0 into image.tag"],
    ),
    "repository with a tag that is a template": (
        with_orders(image={"repository": "fleet-{{ .workload }}:{{ .buildId }}"}),
        ["image.repository is 'fleet-orders:1.4.0'", "put 1.4.0 into image.tag"],
    ),
    "repository with a digest": (
        with_orders(image={"repository": "fleet-orders@sha256:0123"}),
        ["a problem:", "image.repository", "put sha256:0123 into image.digest"],
    ),
    "registry with a scheme": (
        with_orders(image={"registry": "https://registry.example"}),
        ["queue 'orders', build 'blue': image.registry is 'https://registry.example'", "leave out"],
    ),
    "image of the Jobs with a tag": (
        {**with_orders(), "hooks": {"image": {"repository": "fleet-tools:2"}}},
        ["hooks.image.repository is 'fleet-tools:2'", "put 2 into image.tag"],
    ),
    "image of the dev server with a scheme": (
        {
            **with_orders(),
            "temporal": {"devServer": {"enabled": True, "image": {"registry": "oci://r"}}},
        },
        ["temporal.devServer.image.registry is 'oci://r'", "leave out oci://"],
    ),
    "sidecar whose image is a misspelt template": (
        with_orders(sidecars=[{"name": "proxy", "image": "{{ .imgae }}"}]),
        ["queue 'orders', build 'blue': sidecars", "container 'proxy' is ''", "{{ .image }}"],
    ),
    "init container without an image": (
        with_orders(initContainers=[{"name": "migrate"}]),
        ["queue 'orders', build 'blue': initContainers", "container 'migrate' is ''"],
    ),
    "build ID as the current build": (
        with_two_builds(routing={"current": "2"}),
        ["queue 'orders'", "routing.current is '2'", "the build ID of build 'green'", "its key"],
    ),
    "forced build without a queue": (
        {**with_orders(), "hooks": {"guard": {"forceRemoveBuilds": ["1.4.0"]}}},
        ["forceRemoveBuilds", "1.4.0"],
    ),
}
"""Values that no worker could run with, and words that the message has to hold."""


@pytest.mark.parametrize("case", REFUSED)
def test_contradictions_are_refused_by_name(chart: Chart, case: str) -> None:
    """What contradicts itself is refused before anything is applied, by queue, value and cure."""
    values, words = REFUSED[case]
    message = chart.refuse(values)

    assert "temporal-fleet: the values have " in message
    assert [word for word in words if word not in message] == []


def test_all_problems_are_told_at_once(chart: Chart) -> None:
    """Two mistakes take one attempt to find."""
    values = with_two_builds(
        routing={"current": "red"}, terminationGracePeriodSeconds=1, settings={"healthPort": 0}
    )
    message = chart.refuse(values)

    assert "routing.current is 'red'" in message
    assert "terminationGracePeriodSeconds is 1" in message
    assert message.count("settings.healthPort is 0") == 2


def test_refusals_are_errors_of_the_values(chart: Chart) -> None:
    """Helm names the file that checks the values as the place of an error, not a manifest of the chart."""
    message = chart.refuse(with_orders(replicas=0))

    assert "execution error at (temporal-fleet/templates/validate/values.yaml:" in message


def test_check_of_the_values_renders_nothing(chart: Chart) -> None:
    """The file that checks the values leaves no trace in manifests, and single files can be shown."""
    everything = chart.run("template", "fleet", SMALL)
    one = chart.run("template", "fleet", SMALL, "--show-only=templates/deployment.yaml")

    assert "validate" not in everything.stdout
    assert one.returncode == 0, one.stderr
    assert one.stdout.count("# Source: ") == 1

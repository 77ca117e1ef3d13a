"""Texts that YAML takes for something else, or that Kubernetes does not take, wherever they are passed on."""

from __future__ import annotations

from typing import Any

import pytest
from chart_values import only_blue, with_orders
from manifests import Chart, Objects, Values, worker_of

WORDS = {
    "octal": "007",
    "fraction": "1.10",
    "boolean": "true",
    "exponent": "1e3",
    "date": "2026-11-29",
    "comment": "# c",
    "large": "12345678901234567890",
    "accent": "é",
}
"""By what YAML would make of them without quotes."""

AS_NAMES: Values = {
    "temporal": {
        "address": "temporal:7233",
        "namespace": "1e3",
        "apiKey": {"secretName": "007", "key": "1.10"},
        "tls": {
            "ca": {"secretName": "1e3", "key": "true"},
            "client": {"secretName": "12", "certKey": "1e4", "keyKey": "1e5"},
        },
        "codec": {"secretName": "08", "encryptionKeyId": "1e6"},
        "devServer": {"enabled": True},
    },
    "fullnameOverride": "2026",
    "hooks": {"serviceAccount": {"name": "1e7"}, "priorityClassName": "1e8"},
    "networkPolicy": {"enabled": True},
    "monitoring": {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
    "queues": {
        "11": {
            "taskQueue": "1e3",
            "priorityClassName": "1e9",
            "runtimeClassName": "10",
            "secretFiles": [{"secretName": "0x1"}],
            "secretEnv": {"A": "007"},
            "autoscaling": {"enabled": True, "engine": "keda"},
            "builds": {"29": {"buildId": "007"}, "30": {"buildId": "1.10"}},
            "routing": {"current": "29"},
        }
    },
}
"""Everything that is a name, by words that YAML takes for numbers, dates and booleans."""

NAMES = frozenset(
    {
        *("name", "namespace", "secretName", "key", "image", "serviceAccountName"),
        *("priorityClassName", "runtimeClassName", "audience", "path", "value"),
    }
)


def _not_text(value: Any, at: str = "") -> list[str]:
    """Return the paths of names that are something else than a text."""
    if isinstance(value, list):
        return [path for i, each in enumerate(value) for path in _not_text(each, f"{at}[{i}]")]
    if not isinstance(value, dict):
        return []
    found = [path for key, each in value.items() for path in _not_text(each, f"{at}.{key}")]
    return found + [
        f"{at}.{key}: {each!r}"
        for key, each in value.items()
        if key in NAMES and not isinstance(each, str | dict) and ".policies[" not in at
    ]


def test_names_stay_texts_in_every_object(chart: Chart) -> None:
    """A release, a Secret or a build whose name looks like a number or a date has that name."""
    apis = ("monitoring.coreos.com/v1", "keda.sh/v1alpha1")
    rendered = chart.render(AS_NAMES, release="1", apis=apis)

    assert [path for each in rendered.all for path in _not_text(each, each["kind"])] == []
    assert rendered.named("Deployment", "2026-11-29")


@pytest.mark.parametrize("word", WORDS)
def test_variables_and_annotations_stay_texts(chart: Chart, word: str) -> None:
    """What is given as a text arrives as this text."""
    text = WORDS[word]
    values = with_orders(
        env={"A": text},
        settings={"tracingOtlpEndpoint": text},
        podAnnotations={"a": text},
        annotations={"a": text},
        serviceAccount={"annotations": {"a": text}},
    )
    rendered: Objects = chart.render(values)
    deployment = rendered.only("Deployment")

    assert worker_of(deployment)["env"] == [{"name": "A", "value": text}]
    assert deployment["metadata"]["annotations"]["a"] == text
    assert deployment["spec"]["template"]["metadata"]["annotations"]["a"] == text
    data = rendered.named("ConfigMap", "fleet-orders-blue")["data"]
    assert data["FLEET_TRACING_OTLP_ENDPOINT"] == text
    account = rendered.named("ServiceAccount", "fleet-orders")
    assert account["metadata"]["annotations"]["a"] == text


@pytest.mark.parametrize("map_name", ["env", "secretEnv"])
def test_number_that_yaml_changes_is_refused(chart: Chart, map_name: str) -> None:
    """A number whose last digits would change is refused with the cure; one that fits is taken."""
    message = chart.refuse(with_orders(**{map_name: {"ID": 1234567890123456789}}))

    assert f"queue 'orders', build 'blue': {map_name}.ID: this number has more digits" in message
    assert "write it in quotes" in message
    rendered = chart.render(with_orders(env={"ID": 9007199254740991}))
    assert rendered.variables("fleet-orders-blue")["ID"] == "9007199254740991"


LABELS: dict[str, tuple[Values, str]] = {
    "above ASCII": (
        with_orders(podLabels={"team": "é"}),
        "queue 'orders', build 'blue': podLabels.team is \"é\", which cannot be",
    ),
    "control character": (
        with_orders(podLabels={"team": "a\x07"}),
        'podLabels.team is "a\\a", which cannot be',
    ),
    "too long": (with_orders(podLabels={"team": "a" * 64}), "podLabels.team is "),
    "name with a space": (
        with_orders(podLabels={"my team": "a"}),
        'podLabels: "my team" is not the name of a label',
    ),
    "common label": (
        {**with_orders(), "commonLabels": {"team": "a b"}},
        'commonLabels.team is "a b", which cannot be',
    ),
    "node": (
        with_orders(nodeSelector={"disk": "s s d"}),
        "build 'blue': nodeSelector.disk is \"s s d\"",
    ),
    "node of the Jobs": (
        {**with_orders(), "hooks": {"nodeSelector": {"disk": "é"}}},
        'hooks.nodeSelector.disk is "é"',
    ),
}


@pytest.mark.parametrize("case", LABELS)
def test_label_that_kubernetes_refuses_is_refused_before(chart: Chart, case: str) -> None:
    """What cannot be a label is named with its place before anything is applied."""
    values, words = LABELS[case]

    assert words in chart.refuse(values)


@pytest.mark.parametrize(
    ("queue", "words"),
    [
        ({"taskQueue": "orders\n"}, 'taskQueue is "orders\\n", which has a control character'),
        ({"deploymentName": "orders\x07"}, 'deploymentName is "orders\\a", which has a control'),
        ({"builds": {"blue": {"buildId": "1\x07"}}}, 'buildId is "1\\a"; it becomes a label'),
        ({"builds": {"blue": {"buildId": "1é"}}}, 'buildId is "1é"; it becomes a label'),
    ],
    ids=["task queue", "Worker Deployment", "build ID", "build ID above ASCII"],
)
def test_name_with_an_odd_character_is_refused_and_shown(
    chart: Chart, queue: Values, words: str
) -> None:
    """A character that nobody sees is shown in the message, and refused where it cannot be meant."""
    assert f"queue 'orders', build 'blue': {words}" in chart.refuse(with_orders(**queue))


def test_task_queue_above_ascii_is_taken(chart: Chart) -> None:
    """Temporal takes any text as the name of a task queue, and the workers get it as it is."""
    rendered = chart.render(with_orders(taskQueue="Aufträge"))

    assert rendered.variables("fleet-orders-blue")["FLEET_WORKER_TASK_QUEUE"] == "Aufträge"


def test_labels_that_kubernetes_takes_are_taken(chart: Chart) -> None:
    """A domain in the name, an empty value and 63 characters are fine."""
    labels = {"example.com/team": "A.b_c-1", "empty": "", "long": "a" * 63}
    values = {**with_orders(podLabels=labels), "commonLabels": labels}

    template = chart.render(values).only("Deployment")["spec"]["template"]
    assert template["metadata"]["labels"].items() >= labels.items()


def test_token_for_the_api_is_mounted_where_it_is_asked_for(chart: Chart) -> None:
    """Only the workers of a queue that asks for it have a token for the API of Kubernetes."""
    values = with_orders(serviceAccount={"automountToken": True})
    values = {**values, "queues": {**values["queues"], "payments": only_blue()}}
    with_token = {
        name: pod["spec"]["automountServiceAccountToken"]
        for name, pod in chart.render(values).pods()
    }

    assert [name for name, mounted in with_token.items() if mounted] == [
        "Deployment fleet-orders-blue"
    ]


def test_token_for_a_service_is_a_file_of_its_own(chart: Chart) -> None:
    """A token for an audience is mounted for the worker, and none for the API of Kubernetes beside it."""
    tokens = [
        {"audience": "vault", "path": "vault"},
        {"audience": "1e3", "path": "other", "expirationSeconds": 600},
    ]
    pod = chart.render(with_orders(serviceAccount={"tokens": tokens})).only("Deployment")["spec"]
    spec = pod["template"]["spec"]
    (volume,) = (each for each in spec["volumes"] if each["name"] == "tokens")
    (mount,) = (each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "tokens")

    assert mount["mountPath"] == "/etc/fleet/tokens"
    assert [each["serviceAccountToken"] for each in volume["projected"]["sources"]] == [
        {"audience": "vault", "path": "vault", "expirationSeconds": 3600},
        {"audience": "1e3", "path": "other", "expirationSeconds": 600},
    ]
    assert spec["automountServiceAccountToken"] is False

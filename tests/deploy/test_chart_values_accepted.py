"""Values that are taken: what is written once holds everywhere, and the notes tell what came of it."""

from __future__ import annotations

from typing import Any

import pytest
from chart_values import only_blue, with_orders, with_queues, with_two_builds
from manifests import OPTIONAL_APIS, SMALL, Chart, Values, worker_of


@pytest.mark.parametrize(
    "queues",
    [
        {"one": only_blue(taskQueue="orders"), "two": only_blue(workload="orders")},
        {
            "one": only_blue(taskQueue="shared"),
            "two": {
                "taskQueue": "shared",
                "builds": {"plain": {"buildId": "1", "versioned": False}},
            },
        },
        {
            "one": only_blue(workload="w", taskQueue="a"),
            "two": only_blue(workload="w", taskQueue="b"),
        },
    ],
    ids=["task queue as another workload", "unversioned builds alone", "one workload, two queues"],
)
def test_task_queues_that_cannot_clash_are_taken(chart: Chart, queues: Values) -> None:
    """Two queues are refused only when Temporal would surely route one task queue for both."""
    assert len(chart.render(with_queues(**queues)).of_kind("Deployment")) == 2


def test_idle_build_may_have_no_workers(chart: Chart) -> None:
    """A build that gets no new work may be kept with 0 replicas."""
    builds = {"blue": {"buildId": "1"}, "old": {"buildId": "0", "replicas": 0}}
    rendered = chart.render(with_two_builds(builds=builds))

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
    rendered = chart.render({**with_orders(**queue), "queueDefaults": defaults})
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
    rendered = chart.render({**with_orders(), "queueDefaults": {"image": {"registry": None}}})

    assert worker_of(rendered.only("Deployment"))["image"] == "fleet-orders:1.4.0"


def test_builds_override_their_queue(chart: Chart) -> None:
    """A build may differ from its queue in everything, and shares what it does not say."""
    values = with_orders(
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
            "on": only_blue(
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
    values = with_queues(
        one=only_blue(taskQueue="shared"), two={"taskQueue": "shared", "builds": plain}
    )

    assert "-- fleet queue 'shared'\n" in chart.notes(values)

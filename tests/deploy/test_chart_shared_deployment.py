"""Two kinds of workers of one task queue share a Worker Deployment: they are routed together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chart_values import only_blue, with_queues
from manifests import Chart, Values, worker_of

from temporal_fleet.rollout.routing_file import parse_routing

SHARED = {"deploymentName": "publish", "taskQueue": "publish"}


def _split(**activities: Any) -> Values:
    return with_queues(
        **{
            "publish-workflows": only_blue(**SHARED),
            "publish-activities": only_blue(**{**SHARED, **activities}),
        }
    )


def test_shared_deployment_has_one_routing(chart: Chart) -> None:
    """What the routing Job applies names the Worker Deployment once, so neither key undoes the other."""
    data = chart.render(_split()).named("ConfigMap", "fleet-routing")["data"]

    for text in data.values():
        (desired,) = parse_routing(text, "the ConfigMap").values()
        assert (desired.deployment, desired.task_queue) == ("publish", "publish")
        assert dict(desired.builds) == {"blue": "1"}


def test_shared_deployment_is_written_down_with_the_workload_of_each_key(chart: Chart) -> None:
    """The guard learns from it what workers a build loses when one of the keys is removed."""
    data = chart.render(_split(workload="render")).named("ConfigMap", "fleet-routing")["data"]
    (desired,) = parse_routing(data["routing.json"], "the ConfigMap").values()

    assert desired.workers == {
        "1": {"publish-activities": "render", "publish-workflows": "publish-workflows"}
    }


def test_shared_deployment_has_workers_of_each_kind(chart: Chart) -> None:
    """Both kinds poll with one Worker Deployment and build ID, each with its workload and resources."""
    limits = {"limits": {"memory": "8Gi"}}
    rendered = chart.render(_split(resources=limits))
    found = {}
    for kind in ("publish-workflows", "publish-activities"):
        name = f"fleet-{kind}-blue"
        container = worker_of(rendered.named("Deployment", name))
        variables = rendered.variables(name)
        found[kind] = (container["args"][-1], container["resources"]["limits"]["memory"])
        assert variables["FLEET_DEPLOYMENT_NAME"] == "publish"
        assert variables["FLEET_DEPLOYMENT_BUILD_ID"] == "1"
        assert variables["FLEET_WORKER_TASK_QUEUE"] == "publish"

    assert found == {
        "publish-workflows": ("publish-workflows", "512Mi"),
        "publish-activities": ("publish-activities", "8Gi"),
    }


def test_routing_file_of_other_queues_stays(chart: Chart) -> None:
    """Queues that share nothing each keep a routing of their own beside a shared one."""
    values = {**_split(), "queues": {**_split()["queues"], "orders": only_blue()}}
    data = chart.render(values).named("ConfigMap", "fleet-routing")["data"]

    assert sorted(json.loads(data["routing.json"])["queues"]) == ["orders", "publish-activities"]


@pytest.mark.parametrize(
    ("activities", "words"),
    [
        (
            {"builds": {"blue": {"buildId": "2"}}},
            ["queue 'publish-workflows': builds is ", "queue 'publish-activities'", "make both"],
        ),
        ({"builds": {"green": {"buildId": "1"}}}, ["queue 'publish-workflows': builds is "]),
        ({"rollout": {"mode": "manual"}}, ["queue 'publish-workflows': rollout is ", '"manual"']),
        (
            {"rollout": {"allowMissingTaskQueues": True}},
            ["queue 'publish-workflows': rollout is ", '"allowMissingTaskQueues":true'],
        ),
        (
            {
                "builds": {"blue": {"buildId": "1"}, "green": {"buildId": "2"}},
                "routing": {"current": "green"},
            },
            ["queue 'publish-workflows': builds is ", "queue 'publish-workflows': routing is "],
        ),
        ({"taskQueue": "other"}, ["deploymentName 'publish' is also", "the same taskQueue"]),
        (
            {"deploymentName": "other"},
            ["it polls task queue 'publish'", "give both the same deploymentName"],
        ),
    ],
    ids=["build ID", "key", "mode", "allowed", "routing", "task queue", "Worker Deployment"],
)
def test_shared_deployment_that_cannot_be_routed_is_refused(
    chart: Chart, activities: Values, words: list[str]
) -> None:
    """Kinds of workers that Temporal could not route together are refused with what differs."""
    message = chart.refuse(_split(**activities))

    assert [word for word in words if word not in message] == []

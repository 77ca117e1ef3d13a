"""The routing that the chart writes down, and the Jobs and the test that read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from manifests import OPTIONAL_APIS, SMALL, Chart, Objects, Values, name_of, worker_of

from temporal_fleet.rollout.routing_file import parse_routing, read_routing
from temporal_fleet.versioning import UNVERSIONED, Risk, RolloutMode

EVENTS = {
    "fleet-guard-upgrade": ("pre-upgrade,pre-rollback", -10),
    "fleet-guard-uninstall": ("pre-delete", -10),
    "fleet-routing": ("post-install,post-upgrade", 10),
    "fleet-routing-rollback": ("post-rollback", 10),
}


def _arguments(objects: Objects, job: str) -> list[str]:
    (container,) = objects.named("Job", job)["spec"]["template"]["spec"]["containers"]
    arguments: list[str] = container["args"]
    return arguments


def _routing(objects: Objects, name: str = "fleet-routing") -> str:
    text: str = objects.named("ConfigMap", name)["data"]["routing.json"]
    return text


def test_routing_is_what_the_runtime_reads(fleet: Objects, tmp_path: Path) -> None:
    """`fleet rollout` reads from the ConfigMap exactly what the values say."""
    file = tmp_path / "routing.json"
    file.write_text(_routing(fleet), encoding="utf-8")
    desired = read_routing(file)
    orders, payments = desired["orders"], desired["payments"]

    assert orders.deployment == "orders"
    assert orders.builds == {"blue": "1.4.0-abc", "green": "1.5.0-def", "old": "1.3.0-xyz"}
    assert (orders.routing.current, orders.routing.ramping) == ("1.4.0-abc", "1.5.0-def")
    assert orders.routing.percentage == 12.5
    assert orders.mode is RolloutMode.ALL_AT_ONCE
    assert payments.builds == {"blue": "7", "plain": UNVERSIONED}
    assert payments.routing.current == UNVERSIONED
    assert payments.routing.ramping is None


def test_routing_is_read_from_the_config_map_too(fleet: Objects, tmp_path: Path) -> None:
    """What `kubectl get configmap -o json` prints is read like the file itself."""
    file = tmp_path / "configmap.json"
    file.write_text(json.dumps(fleet.named("ConfigMap", "fleet-routing")), encoding="utf-8")

    assert set(read_routing(file)) == {"orders", "payments"}


def test_a_single_build_is_current(chart: Chart) -> None:
    """With one build nobody has to say which one is current."""
    written = json.loads(_routing(chart.render()))

    assert written["apiVersion"] == "temporal-fleet/v1"
    assert written["release"] == "fleet"
    assert written["queues"]["orders"]["routing"]["current"] == "blue"


def test_routing_names_the_server_and_the_workloads(fleet: Objects) -> None:
    """The routing says which server and namespace it is for, and which workload each queue runs."""
    for name in ("fleet-routing", "fleet-guard-upgrade"):
        written = json.loads(_routing(fleet, name))

        assert written["temporal"] == {"address": "temporal.example:7233", "namespace": "shop"}
        workloads = {key: queue["workload"] for key, queue in written["queues"].items()}
        assert workloads == {"orders": "orders", "payments": "payments"}


def test_workload_and_task_queue_of_the_routing(chart: Chart) -> None:
    """A queue's workload is always in the routing, its task queue only when the values name one."""
    builds = {"blue": {"buildId": "1"}}
    queues = {
        "eu": {"workload": "orders", "taskQueue": "orders-eu", "builds": builds},
        "payments": {"builds": builds},
    }
    written = json.loads(_routing(chart.render({**SMALL, "queues": queues})))["queues"]

    assert (written["eu"]["workload"], written["eu"]["taskQueue"]) == ("orders", "orders-eu")
    assert written["payments"]["workload"] == "payments"
    assert "taskQueue" not in written["payments"]


def test_routing_without_a_server_names_none(chart: Chart) -> None:
    """A release without task queues needs no address, and its routing names no server then."""
    assert "temporal" not in json.loads(_routing(chart.render({})))


def test_guard_knows_what_is_installed_and_what_comes(fleet: Objects) -> None:
    """The guard reads the installed routing, which may be absent, and the next one."""
    arguments = _arguments(fleet, "fleet-guard-upgrade")
    spec = fleet.named("Job", "fleet-guard-upgrade")["spec"]["template"]["spec"]
    sources = {volume["name"]: volume.get("configMap") for volume in spec["volumes"]}

    assert arguments == [
        *("rollout", "guard", "--installed", "/etc/fleet/installed/routing.json"),
        *("--next", "/etc/fleet/next/routing.json"),
    ]
    assert sources["installed"] == {"name": "fleet-routing", "optional": True}
    assert sources["next"] == {"name": "fleet-guard-upgrade"}
    assert _routing(fleet, "fleet-guard-upgrade") == _routing(fleet)
    assert _arguments(fleet, "fleet-guard-uninstall") == arguments[:4]


def test_forced_builds_reach_both_guards(chart: Chart) -> None:
    """Builds that may go in spite of their work are given by name, to both guards."""
    forced = ["orders/1.3.0", "orders/1.2.0"]
    rendered = chart.render({**SMALL, "hooks": {"guard": {"forceRemoveBuilds": forced}}})

    for job in ("fleet-guard-upgrade", "fleet-guard-uninstall"):
        assert _arguments(rendered, job)[-4:] == ["--force", forced[0], "--force", forced[1]]


def test_routing_is_applied_after_the_workers(fleet: Objects) -> None:
    """The Job gives a build time to be polled; only a rollback may take traffic back from a build."""
    arguments = _arguments(fleet, "fleet-routing")

    assert arguments == [
        *("rollout", "apply", "--routing", "/etc/fleet/routing/routing.json"),
        *("--yes", "--hook", "--poller-timeout", "240"),
    ]
    assert _arguments(fleet, "fleet-routing-rollback") == [*arguments, "--allow-ramp-down"]


def test_job_outlives_what_it_waits_for(fleet: Objects) -> None:
    """The Job's deadline leaves it time to say what is missing; helm's 5 minutes come last."""
    job = fleet.named("Job", "fleet-routing")
    timeout = int(_arguments(fleet, "fleet-routing")[-1])

    assert timeout < job["spec"]["activeDeadlineSeconds"] < 300


@pytest.mark.parametrize("job", EVENTS)
def test_hooks_run_at_their_events(fleet: Objects, job: str) -> None:
    """Each Job runs at its events, replaces the one before, and stays for its log when it failed."""
    annotations = fleet.named("Job", job)["metadata"]["annotations"]
    events, weight = EVENTS[job]

    assert annotations["helm.sh/hook"] == events
    assert annotations["helm.sh/hook-weight"] == str(weight)
    assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    # Helm 4 prints the log, so that a refusal is read where it happens.
    assert annotations["helm.sh/hook-output-log-policy"] == "hook-succeeded,hook-failed"


def test_what_the_guard_needs_comes_before_it(fleet: Objects) -> None:
    """Objects that the guard of an upgrade uses are hooks of the same events with a smaller weight."""
    for kind in ("ConfigMap", "ServiceAccount", "NetworkPolicy"):
        annotations = fleet.named(kind, "fleet-guard-upgrade")["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == EVENTS["fleet-guard-upgrade"][0]
        assert int(annotations["helm.sh/hook-weight"]) < -10


def test_installed_routing_is_no_hook(fleet: Objects) -> None:
    """The installed routing belongs to the release, so it is still the former one before an upgrade."""
    assert "annotations" not in fleet.named("ConfigMap", "fleet-routing")["metadata"]


def test_refusals_are_not_repeated(fleet: Objects) -> None:
    """A Job whose command refuses, is misused or cannot connect fails at once; a lost pod is replaced."""
    for job in fleet.of_kind("Job"):
        (rule,) = job["spec"]["podFailurePolicy"]["rules"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert rule["action"] == "FailJob"
        assert rule["onExitCodes"]["containerName"] == container["name"]
        assert rule["onExitCodes"]["values"] == [1, 2, 3]
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_helm_test_waits_for_pollers(fleet: Objects) -> None:
    """`helm test` asks Temporal whether every build is polled, from the same routing."""
    pod = fleet.only("Pod")
    (container,) = pod["spec"]["containers"]

    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert container["args"] == [
        *("rollout", "wait", "--routing", "/etc/fleet/routing/polled.json"),
        *("--for", "pollers", "--timeout", "120"),
    ]


def test_helm_test_expects_no_pollers_of_a_build_that_may_have_none(chart: Chart) -> None:
    """A build whose minimum is 0 is part of the routing, but `helm test` does not wait for its workers."""
    scaling = {"enabled": True, "engine": "keda", "drainingMinReplicas": 0}
    builds = {"blue": {"buildId": "1"}, "green": {"buildId": "2"}}
    queue = {"taskQueue": "all", "autoscaling": scaling, "builds": builds}
    values = {**SMALL, "queues": {"orders": {**queue, "routing": {"current": "green"}}}}
    data = chart.render(values, apis=OPTIONAL_APIS).named("ConfigMap", "fleet-routing")["data"]
    written = {name: json.loads(text)["queues"]["orders"]["builds"] for name, text in data.items()}

    assert {name: sorted(found) for name, found in written.items()} == {
        "routing.json": ["blue", "green"],
        "polled.json": ["green"],
    }


def test_hooks_run_the_image_of_the_current_build(fleet: Objects) -> None:
    """Without an image of their own, Jobs and test run that of the first queue's current build."""
    blue = worker_of(fleet.named("Deployment", "fleet-orders-blue"))["image"]

    for name, pod in fleet.pods():
        if not name.startswith("Deployment"):
            assert [each["image"] for each in pod["spec"]["containers"]] == [blue], name


def test_hooks_can_run_another_image(chart: Chart) -> None:
    """An image given for the hooks is used by all of them, whatever the builds run."""
    image = {"registry": "registry.example", "repository": "tools", "tag": "3"}
    rendered = chart.render({**SMALL, "hooks": {"image": image}})

    for name, pod in rendered.pods():
        if not name.startswith("Deployment"):
            assert pod["spec"]["containers"][0]["image"] == "registry.example/tools:3", name


@pytest.mark.parametrize(
    ("hooks", "jobs"),
    [
        ({"enabled": False}, set()),
        ({"guard": {"enabled": False}}, {"fleet-routing", "fleet-routing-rollback"}),
    ],
    ids=["all off", "guard off"],
)
def test_hooks_can_be_switched_off(chart: Chart, hooks: Values, jobs: set[str]) -> None:
    """Without hooks, or without guards, the rest of the release stays complete."""
    rendered = chart.render({**SMALL, "hooks": hooks})

    assert {name_of(each) for each in rendered.of_kind("Job")} == jobs
    assert rendered.named("ConfigMap", "fleet-routing")


def test_what_a_rollout_may_do_is_written_down(chart: Chart) -> None:
    """Who changes the routing, and what is allowed, is for `fleet rollout` to read."""
    allowed = {"allowMissingTaskQueues": True, "allowSharedTaskQueues": True}
    rollout = {"mode": "manual", "allowRampDown": True, **allowed}
    queue: dict[str, Any] = {**SMALL["queues"]["orders"], "rollout": rollout}
    written = json.loads(_routing(chart.render({**SMALL, "queues": {"orders": queue}})))

    assert written["queues"]["orders"]["rollout"] == rollout


@pytest.mark.parametrize(
    ("rollout", "accepted"),
    [
        ({}, set()),
        ({"allowMissingTaskQueues": True}, {Risk.MISSING_TASK_QUEUES}),
        ({"allowSharedTaskQueues": True}, {Risk.SHARED_TASK_QUEUES}),
    ],
    ids=["nothing", "missing", "shared"],
)
def test_risks_to_task_queues_are_accepted_only_when_asked(
    chart: Chart, rollout: Values, accepted: set[Risk]
) -> None:
    """New work goes where a task queue is missing or shared only if the values allow just that."""
    values = {**SMALL, "queueDefaults": {**SMALL.get("queueDefaults", {}), "rollout": rollout}}

    (desired,) = parse_routing(_routing(chart.render(values)), "the ConfigMap").values()

    assert desired.accepted == accepted


def test_idle_builds_scale_lower(fleet: Objects) -> None:
    """A build that gets new work never goes below its floor; one that drains may go lower."""
    floors = {
        name_of(each): each["spec"].get("minReplicas", each["spec"].get("minReplicaCount"))
        for each in fleet.of_kind("HorizontalPodAutoscaler", "ScaledObject")
    }

    assert floors == {
        "fleet-orders-blue": 3,
        "fleet-orders-green": 3,
        "fleet-payments-blue": 1,
        "fleet-payments-plain": 3,
    }


def test_keda_asks_for_the_backlog_of_one_build(fleet: Objects) -> None:
    """A ScaledObject names the Worker Deployment and build ID whose backlog counts."""
    metadata = {
        name_of(each): [
            trigger["metadata"]
            for trigger in each["spec"]["triggers"]
            if trigger["type"] == "temporal"
        ]
        for each in fleet.of_kind("ScaledObject")
    }

    (blue,) = metadata["fleet-payments-blue"]
    assert blue["endpoint"] == "temporal.example:7233"
    assert blue["namespace"] == "shop"
    assert blue["taskQueue"] == "payments"
    assert blue["workerDeploymentName"] == "payments"
    assert blue["workerDeploymentBuildId"] == "7"


def test_everything_optional_is_absent_by_default(chart: Chart) -> None:
    """The smallest values give workers, routing and hooks, and nothing that a cluster may lack."""
    kinds = {each["kind"] for each in chart.render(apis=OPTIONAL_APIS).all}

    assert kinds == {
        *("Deployment", "ConfigMap", "ServiceAccount", "PodDisruptionBudget", "Job", "Pod"),
    }

"""What must hold between the objects of a release, and what no schema can say."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from manifests import OPTIONAL_APIS, Chart, Object, Objects, Values, name_of, worker_of

SELECTORS = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "temporal-fleet/build",
}


def test_every_build_of_every_queue_has_a_deployment(fleet: Objects) -> None:
    """Each build of each task queue becomes one Deployment, named by release, queue and build."""
    names = {name_of(each) for each in fleet.of_kind("Deployment")}

    assert names == {
        "fleet-orders-blue",
        "fleet-orders-green",
        "fleet-orders-old",
        "fleet-payments-blue",
        "fleet-payments-plain",
    }


def test_autoscalers_target_an_existing_deployment(fleet: Objects) -> None:
    """Every HPA and ScaledObject scales a Deployment that is rendered, and each Deployment has at most one."""
    deployments = {name_of(each) for each in fleet.of_kind("Deployment")}
    targets = [
        each["spec"]["scaleTargetRef"]["name"]
        for each in fleet.of_kind("HorizontalPodAutoscaler", "ScaledObject")
    ]

    assert len(targets) == 4
    assert len(set(targets)) == len(targets)
    assert set(targets) <= deployments


def test_replicas_are_absent_under_an_autoscaler_only(fleet: Objects) -> None:
    """A Deployment says `replicas` exactly when no autoscaler decides: an upgrade resets none."""
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]
        for each in fleet.of_kind("HorizontalPodAutoscaler", "ScaledObject")
    }

    for deployment in fleet.of_kind("Deployment"):
        assert ("replicas" in deployment["spec"]) != (name_of(deployment) in scaled)


def test_selectors_match_the_pods_of_exactly_one_deployment(fleet: Objects) -> None:
    """No two Deployments share pods: neither builds of one queue nor queues with the same build key."""
    for deployment in fleet.of_kind("Deployment"):
        selected = _matching(fleet, deployment["spec"]["selector"])

        assert selected == {f"Deployment {name_of(deployment)}"}


def test_budgets_and_policies_cover_the_pods_of_one_build(fleet: Objects) -> None:
    """A PodDisruptionBudget and a worker's NetworkPolicy belong to one build, of the same name."""
    covered = 0
    for each in fleet.of_kind("PodDisruptionBudget", "NetworkPolicy"):
        if (
            "helm.sh/hook" in each["metadata"].get("annotations", {})
            or name_of(each) == "fleet-hooks"
        ):
            continue
        selector = each["spec"].get("selector") or each["spec"]["podSelector"]
        assert _matching(fleet, selector) == {f"Deployment {name_of(each)}"}
        covered += 1

    assert covered >= 9


def test_hooks_have_a_network_policy(fleet: Objects) -> None:
    """With network policies on, the pods of Jobs and of `helm test` may reach Temporal as well."""
    jobs = {name for name, _ in fleet.pods() if not name.startswith("Deployment")}

    policy = fleet.named("NetworkPolicy", "fleet-hooks")
    assert _matching(fleet, policy["spec"]["podSelector"]) == jobs


def test_selectors_hold_nothing_that_changes(fleet: Objects) -> None:
    """Selectors are immutable, so they hold the four constant labels and no version or user's label."""
    for deployment in fleet.of_kind("Deployment"):
        assert set(deployment["spec"]["selector"]["matchLabels"]) == SELECTORS


def test_services_select_workers_and_name_their_port(chart: Chart, two_queues: Values) -> None:
    """The Services behind a ServiceMonitor select the workers of one task queue, on a port they have."""
    values = {
        **two_queues,
        "monitoring": {"serviceMonitor": {"enabled": True}},
    }
    rendered = chart.render(values, apis=OPTIONAL_APIS)

    services = rendered.of_kind("Service")
    assert len(services) == 2
    for service in services:
        pods = _matching(rendered, {"matchLabels": service["spec"]["selector"]})
        queue = name_of(service).removeprefix("fleet-").partition("-")[0]
        assert pods
        assert all(pod.startswith(f"Deployment fleet-{queue}-") for pod in pods)
        assert [port["targetPort"] for port in service["spec"]["ports"]] == ["health"]
        # Headless, and with the workers that drain or wait for the server: these are scraped too.
        assert service["spec"]["clusterIP"] == "None"
        assert service["spec"]["publishNotReadyAddresses"] is True
    monitor = rendered.only("ServiceMonitor")
    for service in services:
        assert _selects(monitor["spec"]["selector"], service["metadata"]["labels"])
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert {each["port"] for each in monitor["spec"]["endpoints"]} <= ports


def test_pod_monitor_finds_all_workers_and_nothing_else(fleet: Objects) -> None:
    """Prometheus scrapes every worker, and no Job."""
    monitor = fleet.only("PodMonitor")

    scraped = _matching(fleet, monitor["spec"]["selector"])
    assert scraped == {f"Deployment {name_of(each)}" for each in fleet.of_kind("Deployment")}
    assert [each["port"] for each in monitor["spec"]["podMetricsEndpoints"]] == ["health"]


def test_spread_counts_only_workers_of_the_same_build(fleet: Objects) -> None:
    """Workers of another build do not count when a build is spread over nodes and zones."""
    for deployment in fleet.of_kind("Deployment"):
        constraints = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert {each["topologyKey"] for each in constraints} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }
        for constraint in constraints:
            selected = _matching(fleet, constraint["labelSelector"])
            assert selected == {f"Deployment {name_of(deployment)}"}


def test_references_lead_to_something(fleet: Objects) -> None:
    """ConfigMaps and service accounts that pods name are rendered, unless optional or given by the user."""
    for name, pod in fleet.pods():
        spec = pod["spec"]
        fleet.named("ServiceAccount", spec["serviceAccountName"])
        for volume in spec["volumes"]:
            reference = volume.get("configMap", {})
            if reference and not reference.get("optional"):
                fleet.named("ConfigMap", reference["name"])
        for container in spec["containers"]:
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts == {volume["name"] for volume in spec["volumes"]}, name
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    fleet.named("ConfigMap", source["configMapRef"]["name"])


def test_probes_ask_a_port_that_the_worker_has(fleet: Objects) -> None:
    """All three probes ask their own page on the port `health`."""
    pages = {"startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for deployment in fleet.of_kind("Deployment"):
        worker = worker_of(deployment)
        ports = {port["name"] for port in worker["ports"]}
        for probe, page in pages.items():
            asked = worker[probe]["httpGet"]
            assert asked["path"] == page
            assert asked["port"] in ports


def test_labels_name_deployment_and_build_id(fleet: Objects) -> None:
    """Pods carry the Worker Deployment and the build ID that their configuration says."""
    for deployment in fleet.of_kind("Deployment"):
        variables = fleet.variables(name_of(deployment))
        for labels in (
            deployment["metadata"]["labels"],
            deployment["spec"]["template"]["metadata"]["labels"],
        ):
            assert labels["temporal.io/deployment-name"] == variables["FLEET_DEPLOYMENT_NAME"]
            assert labels["temporal.io/build-id"] == variables["FLEET_DEPLOYMENT_BUILD_ID"]
        assert worker_of(deployment)["image"].endswith(":" + variables["FLEET_DEPLOYMENT_BUILD_ID"])


def test_nothing_is_null(fleet: Objects, chart: Chart) -> None:
    """No object has a field that is null or an empty text: GitOps tools would report a difference forever."""
    for objects in (fleet, chart.render()):
        for each in objects.all:
            empty = [path for path, value in _leaves(each) if value in (None, "")]
            assert not empty, f"{each['kind']} {name_of(each)}"


def test_rendering_twice_gives_the_same(chart: Chart, two_queues: Values) -> None:
    """A rendering depends on nothing but the values, as GitOps needs it."""
    arguments = [f"--api-versions={api}" for api in OPTIONAL_APIS]
    first = chart.run("template", "fleet", two_queues, *arguments)
    second = chart.run("template", "fleet", two_queues, *arguments, "--skip-tests=false")

    assert first.stdout == second.stdout


def test_objects_are_named_once(fleet: Objects) -> None:
    """No two objects of a kind share a name."""
    named = [(each["kind"], name_of(each)) for each in fleet.all]

    assert len(named) == len(set(named))


def test_every_object_says_its_namespace_and_release(fleet: Objects) -> None:
    """Objects carry namespace and the common labels, so that people can select a release's objects."""
    for each in fleet.all:
        labels = each["metadata"]["labels"]
        assert each["metadata"]["namespace"] == "fleet"
        assert labels["app.kubernetes.io/instance"] == "fleet"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_common_labels_reach_objects_and_pods_and_no_selector(chart: Chart) -> None:
    """A user's labels are on every object and pod; they cannot replace ours nor get into selectors."""
    rendered = chart.render(
        {
            "commonLabels": {"team": "shop", "app.kubernetes.io/name": "mine"},
            "temporal": {"address": "temporal:7233"},
            "queues": {
                "orders": {"builds": {"blue": {"buildId": "1"}}, "podLabels": {"tier": "a"}}
            },
        }
    )

    for each in rendered.all:
        assert each["metadata"]["labels"]["team"] == "shop"
        assert each["metadata"]["labels"]["app.kubernetes.io/name"] == "temporal-fleet"
    deployment = rendered.only("Deployment")
    assert deployment["spec"]["template"]["metadata"]["labels"]["tier"] == "a"
    assert set(deployment["spec"]["selector"]["matchLabels"]) == SELECTORS


@pytest.mark.parametrize(
    ("change", "restarted"),
    [
        ({"settings": {"logLevel": "DEBUG"}}, {"blue", "green", "old"}),
        ({"secretEnv": {"ORDERS_DATABASE_URL": "changed"}}, {"blue", "green", "old"}),
        ({"builds": {"green": {"settings": {"logLevel": "DEBUG"}}}}, {"green"}),
        ({"routing": {"percentage": 50}}, set()),
    ],
    ids=["setting of a queue", "secret of a queue", "setting of a build", "routing"],
)
def test_only_what_changed_restarts(
    chart: Chart, two_queues: Values, change: Values, restarted: set[str]
) -> None:
    """A change restarts the workers it concerns, and no worker of another build or task queue."""
    changed = copy.deepcopy(dict(two_queues))
    _merge(changed["queues"]["orders"], change)
    before = _templates(chart.render(two_queues, apis=OPTIONAL_APIS))
    after = _templates(chart.render(changed, apis=OPTIONAL_APIS))

    different = {name for name, template in after.items() if template != before[name]}
    assert different == {f"fleet-orders-{build}" for build in restarted}


def test_removing_a_build_restarts_no_other(chart: Chart, two_queues: Values) -> None:
    """Retiring a build leaves the other builds' pods as they are."""
    fewer = copy.deepcopy(dict(two_queues))
    del fewer["queues"]["orders"]["builds"]["old"]
    before = _templates(chart.render(two_queues, apis=OPTIONAL_APIS))
    after = _templates(chart.render(fewer, apis=OPTIONAL_APIS))

    assert after == {name: before[name] for name in before if name != "fleet-orders-old"}


def test_a_chart_upgrade_changes_no_pod(fleet: Objects) -> None:
    """Pods carry no label of the chart's version: an upgrade of the chart alone restarts nobody."""
    for _, pod in fleet.pods():
        labels = pod["metadata"]["labels"]
        if pod.get("kind") != "Pod":
            assert "helm.sh/chart" not in labels
            assert "app.kubernetes.io/version" not in labels


def _templates(objects: Objects) -> dict[str, Object]:
    return {name_of(each): each["spec"]["template"] for each in objects.of_kind("Deployment")}


def _matching(objects: Objects, selector: Object) -> set[str]:
    return {
        name
        for name, pod in objects.pods()
        if _selects(selector, pod["metadata"].get("labels", {}))
    }


def _selects(selector: Object, labels: Object) -> bool:
    wanted = selector.get("matchLabels", {})
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "Exists"
        if expression["key"] not in labels:
            return False
    return all(labels.get(key) == value for key, value in wanted.items())


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, f"{path}.{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _leaves(each, f"{path}[{index}]")
    else:
        yield path, value


def _merge(base: Any, over: Values) -> None:
    for key, value in over.items():
        if isinstance(value, dict):
            _merge(base.setdefault(key, {}), value)
        else:
            base[key] = value

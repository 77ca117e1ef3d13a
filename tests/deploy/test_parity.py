"""The chart and Kustomize describe the same fleet: what differs is names, and what helm alone writes."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from manifests import OPTIONAL_APIS, Chart, Kustomize, Object, Objects, name_of, worker_of

ONLY_HELM = {"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"}
ADDRESS = "temporal-frontend.temporal.svc:7233"
BUILDS = {"blue": {"buildId": "0.1.0"}, "green": {"buildId": "0.2.0"}}
SCALED = {"autoscaling": {"enabled": True}}

VALUES: dict[str, dict[str, Any]] = {
    "dev": {
        "temporal": {"address": ADDRESS},
        "queues": {
            "orders": {
                "builds": {"blue": BUILDS["blue"]},
                "settings": {"logLevel": "DEBUG"},
                "replicas": 1,
            }
        },
    },
    "production": {
        "temporal": {
            "address": ADDRESS,
            "namespace": "production",
            "apiKey": {"secretName": "temporal-api-key"},
        },
        "networkPolicy": {"enabled": True},
        "monitoring": {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
        "queues": {"orders": {"builds": {"blue": BUILDS["blue"]}, **SCALED}},
    },
    "blue-green": {
        "temporal": {"address": ADDRESS},
        "queues": {
            "orders": {
                "builds": BUILDS,
                "routing": {"current": "blue", "ramping": "green", "percentage": 10},
                **SCALED,
            }
        },
    },
}
"""For each overlay the values that ask the chart for the same."""
PAIRS = [
    ("dev", "blue", "orders"),
    ("production", "blue", "orders"),
    ("blue-green", "blue", "orders-blue"),
    ("blue-green", "green", "orders-green"),
]
"""An overlay, a build, and the name that Kustomize gives its objects."""

Pair = tuple[Objects, str, Objects, str]


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]} {pair[1]}")
def pair(request: pytest.FixtureRequest, chart: Chart, kustomize: Kustomize) -> Pair:
    """What helm renders and its name of a build, what Kustomize builds and its name of it."""
    overlay, build, name = request.param
    rendered = chart.render(VALUES[overlay], apis=OPTIONAL_APIS)
    return rendered, f"fleet-orders-{build}", kustomize.overlay(overlay), name


def test_pods_are_the_same(pair: Pair) -> None:
    """Ports, probes, security contexts, grace period, resources, volumes and image do not differ."""
    helm, helm_name, kustomize, kustomize_name = pair

    assert _pod(kustomize, kustomize_name) == _pod(helm, helm_name)


def test_variables_are_the_same(pair: Pair) -> None:
    """A worker gets the same variables with the same values from both."""
    helm, helm_name, kustomize, kustomize_name = pair

    assert _variables(kustomize, kustomize_name) == helm.variables(helm_name)


def test_labels_and_selectors_are_the_same(pair: Pair) -> None:
    """Objects and pods carry the same labels, so that one dashboard and one policy serve both."""
    helm, helm_name, kustomize, kustomize_name = pair
    theirs = helm.named("Deployment", helm_name)
    ours = kustomize.named("Deployment", kustomize_name)

    assert ours["spec"]["selector"] == theirs["spec"]["selector"]
    assert _labels(ours) == _labels(theirs)
    assert _labels(ours["spec"]["template"]) == _labels(theirs["spec"]["template"])


def test_deployments_roll_out_alike(pair: Pair) -> None:
    """Strategy, history, deadline and number of workers are the same."""
    helm, helm_name, kustomize, kustomize_name = pair
    specs = [
        {**objects.named("Deployment", name)["spec"], "template": None, "selector": None}
        for objects, name in ((helm, helm_name), (kustomize, kustomize_name))
    ]
    # The default, which Kustomize leaves to Kubernetes.
    assert specs[0].pop("minReadySeconds") == 0

    assert specs[0] == specs[1]


@pytest.mark.parametrize(
    ("overlay", "kind"),
    [
        ("production", "HorizontalPodAutoscaler"),
        ("production", "PodDisruptionBudget"),
        ("production", "NetworkPolicy"),
        ("production", "PodMonitor"),
        ("production", "PrometheusRule"),
        ("blue-green", "HorizontalPodAutoscaler"),
        ("blue-green", "PodDisruptionBudget"),
    ],
)
def test_what_surrounds_the_workers_is_the_same(
    overlay: str, kind: str, chart: Chart, kustomize: Kustomize
) -> None:
    """Autoscaler, budget, policy, scraping and alerts of a component are those of the chart."""
    helm = chart.render(VALUES[overlay], apis=OPTIONAL_APIS)
    theirs = {name_of(each): each for each in helm.of_kind(kind) if "hooks" not in name_of(each)}
    theirs = {name: each for name, each in theirs.items() if "guard" not in name}
    ours = {name_of(each): each for each in kustomize.overlay(overlay).of_kind(kind)}
    names = {each: _name_in_helm(each) for each in ours}

    assert sorted(names.values()) == sorted(theirs)
    for name, each in ours.items():
        their_spec = copy.deepcopy(theirs[names[name]]["spec"])
        if "scaleTargetRef" in their_spec:
            assert _name_in_helm(each["spec"]["scaleTargetRef"]["name"]) == names[name]
            their_spec["scaleTargetRef"] = each["spec"]["scaleTargetRef"]
        assert each["spec"] == their_spec
        assert _labels(each) == _labels(theirs[names[name]])


def test_routing_is_the_same(chart: Chart, kustomize: Kustomize) -> None:
    """Both write the same routing into a ConfigMap of the same name, where the guard looks for it."""
    texts = [
        objects.named("ConfigMap", "fleet-routing")["data"]["routing.json"]
        for objects in (chart.render(VALUES["blue-green"]), kustomize.overlay("blue-green"))
    ]

    theirs, ours = (json.loads(text) for text in texts)
    # Both may be left out; where Kustomize says them, it says the same.
    ours.setdefault("temporal", theirs["temporal"])
    ours["queues"]["orders"].setdefault("workload", theirs["queues"]["orders"]["workload"])

    assert theirs == ours


def test_routing_jobs_are_the_same(chart: Chart, kustomize: Kustomize) -> None:
    """The Job of Kustomize differs from the hook of helm only in which ConfigMap it mounts."""
    specs = []
    for objects in (chart.render(VALUES["blue-green"]), kustomize.overlay("blue-green")):
        spec = copy.deepcopy(objects.named("Job", "fleet-routing")["spec"])
        (volume,) = [v for v in spec["template"]["spec"]["volumes"] if v["name"] == "routing"]
        assert objects.named("ConfigMap", volume["configMap"].pop("name"))["data"]["routing.json"]
        specs.append(spec)

    assert specs[0] == specs[1]


def _pod(objects: Objects, name: str) -> Object:
    deployment = copy.deepcopy(objects.named("Deployment", name))
    spec: Object = deployment["spec"]["template"]["spec"]
    objects.named("ServiceAccount", spec.pop("serviceAccountName"))
    (worker,) = spec["containers"]
    assert len(worker.pop("envFrom")) == 1
    # Patches put their entries first; the order means nothing.
    for unordered in (spec["volumes"], worker["volumeMounts"]):
        unordered.sort(key=lambda each: str(each["name"]))
    return spec


def _variables(objects: Objects, name: str) -> dict[str, str]:
    worker = worker_of(objects.named("Deployment", name))
    assert "env" not in worker
    return objects.variables(name)


def _labels(thing: Object) -> dict[str, str]:
    labels: dict[str, str] = thing["metadata"]["labels"]
    return {key: value for key, value in labels.items() if key not in ONLY_HELM}


def _name_in_helm(name: str) -> str:
    if name == "orders":
        return "fleet-orders-blue"
    return name if name.startswith("fleet") else f"fleet-{name}"

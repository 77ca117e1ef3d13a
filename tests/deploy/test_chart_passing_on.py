"""Values that the chart passes on: each arrives in the object it is for, whole, and in no other place."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from manifests import CHART, OPTIONAL_APIS, SMALL, Chart, Object, Objects, Values, name_of

CONTAINER = {"name": "beside", "image": "{{ .image }}", "args": ["{{ .buildId }}"]}
EVALUATED = {"name": "beside", "image": "fleet-orders:1.4.0", "args": ["1.4.0"]}
PEER = {"podSelector": {"matchLabels": {"app": "peer"}}}
OTHER_PEER = {"ipBlock": {"cidr": "10.1.0.0/16"}}

Path = tuple[str | int, ...]
POD: Path = ("spec", "template", "spec")
FIRST: Path = ("spec", "containers", 0)
WORKER: Path = (*POD, "containers", 0)

OF_DEPLOYMENT: dict[str, tuple[Any, Path]] = {
    "annotations": ({"reloader": "auto"}, ("metadata", "annotations")),
    "minReadySeconds": (7, ("spec", "minReadySeconds")),
    "progressDeadlineSeconds": (77, ("spec", "progressDeadlineSeconds")),
    "revisionHistoryLimit": (9, ("spec", "revisionHistoryLimit")),
    "strategy": ({"type": "Recreate"}, ("spec", "strategy")),
    "podAnnotations": ({"scrape": "true"}, ("spec", "template", "metadata", "annotations")),
    "podLabels": ({"tier": "gold"}, ("spec", "template", "metadata", "labels")),
    "nodeSelector": ({"disk": "ssd"}, (*POD, "nodeSelector")),
    "affinity": ({"podAntiAffinity": {"some": ["rule"]}}, (*POD, "affinity")),
    "tolerations": ([{"key": "workers", "operator": "Exists"}], (*POD, "tolerations")),
    "priorityClassName": ("urgent", (*POD, "priorityClassName")),
    "runtimeClassName": ("gvisor", (*POD, "runtimeClassName")),
    "podSecurityContext": ({"runAsUser": 7}, (*POD, "securityContext")),
    "terminationGracePeriodSeconds": (99, (*POD, "terminationGracePeriodSeconds")),
    "volumes": ([{"name": "cache", "emptyDir": {}}], (*POD, "volumes")),
    "initContainers": ([CONTAINER], (*POD, "initContainers")),
    "sidecars": ([CONTAINER], (*POD, "containers")),
    "securityContext": ({"runAsUser": 8}, (*WORKER, "securityContext")),
    "volumeMounts": ([{"name": "cache", "mountPath": "/cache"}], (*WORKER, "volumeMounts")),
    "envFrom": ([{"secretRef": {"name": "database"}}], (*WORKER, "envFrom")),
}
"""Values of a queue, and where in its Deployments they are found."""

OF_HOOKS: dict[str, tuple[Any, Path]] = {
    "nodeSelector": ({"disk": "ssd"}, ("spec", "nodeSelector")),
    "tolerations": ([{"key": "batch", "operator": "Exists"}], ("spec", "tolerations")),
    "priorityClassName": ("low", ("spec", "priorityClassName")),
    "podSecurityContext": ({"runAsUser": 7}, ("spec", "securityContext")),
    "podAnnotations": ({"inject": "false"}, ("metadata", "annotations")),
    "envFrom": ([{"secretRef": {"name": "hooks"}}], (*FIRST, "envFrom")),
    "resources": ({"limits": {"cpu": "2"}}, (*FIRST, "resources")),
    "securityContext": ({"runAsUser": 8}, (*FIRST, "securityContext")),
}
"""Values of `hooks`, and where in the pods of Jobs and of `helm test` they are found."""


def _values(**queue: Any) -> Values:
    return {**SMALL, "queues": {"orders": {**SMALL["queues"]["orders"], **queue}}}


def _at(thing: Object, path: Path) -> Any:
    found: Any = thing
    for key in path:
        found = found[key]
    return found


def _evaluated(value: Any) -> Any:
    return [EVALUATED] if value == [CONTAINER] else value


def _assert_holds(found: Any, value: Any) -> None:
    """A list may follow, and a map may be among, what the chart says itself."""
    if isinstance(value, list):
        assert found[-len(value) :] == value
    elif isinstance(value, dict):
        for key, each in value.items():
            _assert_holds(found[key], each)
    else:
        assert found == value


@pytest.mark.parametrize("key", OF_DEPLOYMENT)
def test_value_of_a_queue_reaches_its_workers(chart: Chart, key: str) -> None:
    """What is said of a queue is in the Deployments of its builds, with the chart's own beside it."""
    value, path = OF_DEPLOYMENT[key]
    deployment = chart.render(_values(**{key: value})).only("Deployment")

    _assert_holds(_at(deployment, path), _evaluated(value))


@pytest.mark.parametrize("key", OF_HOOKS)
def test_value_of_hooks_reaches_jobs_and_test(chart: Chart, key: str) -> None:
    """What is said of hooks is in the pod of every Job and of `helm test`, and in no worker."""
    value, path = OF_HOOKS[key]
    rendered = chart.render({**SMALL, "hooks": {key: value}})
    pods = {name: pod for name, pod in rendered.pods() if not name.startswith("Deployment")}

    assert len(pods) == 5
    for pod in pods.values():
        _assert_holds(_at(pod, path), value)
    assert rendered.only("Deployment") == chart.render().only("Deployment")


def test_variables_of_hooks_reach_jobs_and_test(chart: Chart) -> None:
    """Variables given for the hooks are in all of them, beside those of the connection."""
    rendered = chart.render({**SMALL, "hooks": {"env": {"LEVEL": "high"}}})

    for name, pod in rendered.pods():
        variables = {each["name"]: each["value"] for each in _at(pod, FIRST).get("env", [])}
        if name.startswith("Deployment"):
            assert "LEVEL" not in variables
        else:
            assert variables["LEVEL"] == "high", name
            assert variables["TEMPORAL_ADDRESS"] == "temporal:7233", name


def test_annotations_of_hooks_leave_the_test_a_test(chart: Chart) -> None:
    """Annotations of the pods do not replace those by which Helm knows what the pod is."""
    annotations = {"helm.sh/hook": "post-install", "inject": "false"}
    pod = chart.render({**SMALL, "hooks": {"podAnnotations": annotations}}).only("Pod")

    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_pull_secrets_reach_every_pod(chart: Chart) -> None:
    """Workers, Jobs, the test and the dev server pull their images with the given Secrets."""
    secrets = [{"name": "registry"}]
    server = {"devServer": {"enabled": True}}
    rendered = chart.render({**SMALL, "temporal": server, "imagePullSecrets": secrets})
    pods = dict(rendered.pods())

    assert "Deployment fleet-dev-server" in pods
    assert {
        name for name, pod in pods.items() if pod["spec"].get("imagePullSecrets") != secrets
    } == set()


def test_annotations_of_service_accounts_arrive(chart: Chart) -> None:
    """The accounts of a queue and of the Jobs carry the role of a cloud, each its own."""
    of_queue, of_hooks = {"role": "orders"}, {"role": "hooks"}
    rendered = chart.render(
        {
            **_values(serviceAccount={"annotations": of_queue}),
            "hooks": {"serviceAccount": {"annotations": of_hooks}},
        }
    )

    for name, given in {"fleet-orders": of_queue, "fleet-hooks": of_hooks}.items():
        assert rendered.named("ServiceAccount", name)["metadata"]["annotations"] == given


@pytest.mark.parametrize("place", ["podLabels of a queue", "commonLabels"])
def test_labels_of_users_replace_none_of_the_chart(chart: Chart, place: str) -> None:
    """Labels that select pods or name the build stay the chart's own, whatever the values say."""
    own = chart.render().only("Deployment")
    labels = dict.fromkeys(own["spec"]["template"]["metadata"]["labels"], "mine")
    values = (
        _values(podLabels=labels) if place != "commonLabels" else {**SMALL, "commonLabels": labels}
    )
    deployment = chart.render(values).only("Deployment")

    assert "temporal-fleet/build" in labels
    assert deployment["spec"]["selector"] == own["spec"]["selector"]
    assert deployment["spec"]["template"]["metadata"] == own["spec"]["template"]["metadata"]


@pytest.mark.parametrize(
    ("queue", "budgets"),
    [
        ({"replicas": 1}, set()),
        ({"replicas": 2}, {"fleet-orders-blue"}),
        ({"replicas": 2, "podDisruptionBudget": {"enabled": False}}, set()),
        ({"replicas": 9, "autoscaling": {"enabled": True, "minReplicas": 1}}, set()),
        ({"replicas": 1, "autoscaling": {"enabled": True}}, {"fleet-orders-blue"}),
    ],
    ids=["1 worker", "2 workers", "off", "at least 1 worker", "at least 2 workers"],
)
def test_budget_is_for_builds_that_keep_two_workers(
    chart: Chart, queue: Values, budgets: set[str]
) -> None:
    """A build that may have a single worker gets no budget, which would block the drain of its node."""
    rendered = chart.render(_values(**queue))

    assert {name_of(each) for each in rendered.of_kind("PodDisruptionBudget")} == budgets


@pytest.mark.parametrize("amount", [2, "25%"])
def test_budget_holds_the_given_amount(chart: Chart, amount: int | str) -> None:
    """A number stays a number and a percentage a text."""
    rendered = chart.render(_values(podDisruptionBudget={"maxUnavailable": amount}))

    assert rendered.only("PodDisruptionBudget")["spec"]["maxUnavailable"] == amount


@pytest.fixture
def limited(chart: Chart) -> Objects:
    """A release whose network policies name a peer for everything."""
    rule = {"to": [OTHER_PEER], "ports": [{"port": 5432, "protocol": "TCP"}]}
    return chart.render(
        {
            **_values(
                settings={"tracingOtlpEndpoint": "https://collector"},
                networkPolicy={"egress": [rule], "ingressFrom": [OTHER_PEER]},
            ),
            "networkPolicy": {
                "enabled": True,
                "dnsTo": [{"podSelector": {"matchLabels": {"app": "dns"}}}],
                "temporalTo": [{"podSelector": {"matchLabels": {"app": "temporal"}}}],
                "otlpTo": [{"podSelector": {"matchLabels": {"app": "otlp"}}}],
                "ingressFrom": [PEER],
            },
        }
    )


def _peers(policy: Object, direction: str) -> dict[int | str, Any]:
    to_or_from = {"egress": "to", "ingress": "from"}[direction]
    return {
        port["port"]: rule.get(to_or_from)
        for rule in policy["spec"][direction]
        for port in rule["ports"]
    }


def test_policy_of_workers_names_the_given_peers(limited: Objects) -> None:
    """Names, Temporal, traces and a queue's own rules are each limited to what was given for them."""
    policy = limited.named("NetworkPolicy", "fleet-orders-blue")
    named = {
        app: [{"podSelector": {"matchLabels": {"app": app}}}] for app in ("dns", "temporal", "otlp")
    }

    assert _peers(policy, "egress") == {
        53: named["dns"],
        7233: named["temporal"],
        443: named["otlp"],
        5432: [OTHER_PEER],
    }
    assert _peers(policy, "ingress") == {"health": [PEER, OTHER_PEER]}


def test_policy_of_hooks_names_the_given_peers(limited: Objects) -> None:
    """Jobs reach names and Temporal where the workers do, and nothing of what a queue adds."""
    for name in ("fleet-hooks", "fleet-guard-upgrade"):
        assert _peers(limited.named("NetworkPolicy", name), "egress") == {
            53: [{"podSelector": {"matchLabels": {"app": "dns"}}}],
            7233: [{"podSelector": {"matchLabels": {"app": "temporal"}}}],
        }


def test_policies_without_peers_admit_any(chart: Chart) -> None:
    """Where no peers are given, a rule limits the port and says nothing of peers."""
    rendered = chart.render({**SMALL, "networkPolicy": {"enabled": True}})
    policy = rendered.named("NetworkPolicy", "fleet-orders-blue")

    for rule in (*policy["spec"]["egress"], *policy["spec"]["ingress"]):
        assert set(rule) == {"ports"}


def test_dev_server_is_reached_and_reaches_nobody(chart: Chart) -> None:
    """Workers and Jobs reach the dev server's pod and no other server; it opens no connection itself."""
    values = {
        **SMALL,
        "temporal": {"devServer": {"enabled": True}},
        "networkPolicy": {"enabled": True},
    }
    rendered = chart.render(values)
    server = rendered.named("Deployment", "fleet-dev-server")
    selector = server["spec"]["selector"]
    policy = rendered.named("NetworkPolicy", "fleet-dev-server")["spec"]

    assert policy["podSelector"] == selector
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    for name in ("fleet-orders-blue", "fleet-hooks", "fleet-guard-upgrade"):
        reached = _peers(rendered.named("NetworkPolicy", name), "egress")
        assert reached[7233] == [{"podSelector": selector}]


def test_dev_server_runs_once_with_the_given_arguments(chart: Chart) -> None:
    """There is never a second server, not even during an update; arguments come after the chart's own."""
    extra = ["--search-attribute=OrderState=Keyword", "--log-level=debug"]
    server = {"enabled": True, "extraArgs": extra, "resources": {"limits": {"memory": "3Gi"}}}
    rendered = chart.render({**SMALL, "temporal": {"namespace": "shop", "devServer": server}})
    spec = rendered.named("Deployment", "fleet-dev-server")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    release = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert "--namespace=shop" in container["args"]
    assert container["args"][-2:] == extra
    assert container["resources"]["limits"]["memory"] == "3Gi"
    assert container["image"] == f"fleet-dev-server:{release}"


def test_metrics_of_an_autoscaler_name_their_build(chart: Chart) -> None:
    """An HPA measures what was given, with its templates evaluated, beside CPU and memory."""
    metric = {
        "type": "External",
        "external": {"metric": {"name": "{{ .deploymentName }}-{{ .buildId }}"}},
    }
    scaling = {"enabled": True, "cpu": 60, "memory": 70, "metrics": [metric]}
    hpa = chart.render(_values(autoscaling=scaling)).only("HorizontalPodAutoscaler")
    cpu, memory, own = hpa["spec"]["metrics"]

    assert [
        (
            each["containerResource"]["name"],
            each["containerResource"]["target"]["averageUtilization"],
        )
        for each in (cpu, memory)
    ] == [("cpu", 60), ("memory", 70)]
    assert own == {"type": "External", "external": {"metric": {"name": "orders-1.4.0"}}}


def test_metrics_of_an_autoscaler_may_be_the_only_ones(chart: Chart) -> None:
    """CPU and memory that are 0 do not count."""
    metric = {"type": "External", "external": {"metric": {"name": "backlog"}}}
    scaling = {"enabled": True, "cpu": 0, "metrics": [metric]}
    hpa = chart.render(_values(autoscaling=scaling)).only("HorizontalPodAutoscaler")

    assert hpa["spec"]["metrics"] == [metric]


@pytest.fixture
def by_keda(chart: Chart) -> Object:
    """A ScaledObject with everything that can be given for it."""
    keda = {
        "targetBacklog": 3,
        "activationBacklog": 2,
        "taskTypes": ["workflow", "activity"],
        "pollingIntervalSeconds": 11,
        "cooldownPeriodSeconds": 12,
        "cpu": 60,
        "memory": 70,
        "fallback": {"failureThreshold": 3, "replicas": 6},
        "triggers": [{"type": "cron", "metadata": {"timezone": "{{ .name }}"}}],
        "annotations": {"autoscaling.keda.sh/paused": "true"},
    }
    values = {
        **_values(taskQueue="all", autoscaling={"enabled": True, "engine": "keda", "keda": keda}),
        "temporal": {"address": "temporal:7233", "tls": {"enabled": False, "serverName": "inside"}},
    }
    return chart.render(values, apis=OPTIONAL_APIS).only("ScaledObject")


def test_scaled_object_says_what_was_given(by_keda: Object) -> None:
    """Intervals, fallback and annotations are those of the values."""
    spec = by_keda["spec"]

    assert by_keda["metadata"]["annotations"] == {"autoscaling.keda.sh/paused": "true"}
    assert spec["pollingInterval"] == 11
    assert "cooldownPeriod" not in spec  # KEDA warns of it unless the minimum is 0
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": 6}
    assert set(spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]) == {
        "scaleUp",
        "scaleDown",
    }


def test_triggers_of_keda_are_backlog_resources_and_given_ones(by_keda: Object) -> None:
    """The backlog comes first, then CPU and memory, then given triggers with their templates evaluated."""
    backlog, cpu, memory, own = by_keda["spec"]["triggers"]

    assert backlog["useCachedMetrics"]
    assert backlog["metadata"] == {
        "endpoint": "temporal:7233",
        "namespace": "default",
        "taskQueue": "all",
        "targetQueueSize": "3",
        "activationTargetQueueSize": "2",
        "queueTypes": "workflow,activity",
        "workerDeploymentName": "orders",
        "workerDeploymentBuildId": "1.4.0",
        "tlsServerName": "inside",
    }
    assert [(each["type"], each["metadata"]["value"]) for each in (cpu, memory)] == [
        ("cpu", "60"),
        ("memory", "70"),
    ]
    assert own == {"type": "cron", "metadata": {"timezone": "fleet-orders-blue"}}


@pytest.mark.parametrize(("counted", "said"), [(True, "true"), (False, None)])
def test_build_that_may_have_no_workers_keeps_one_while_workflows_run(
    chart: Chart, counted: bool, said: str | None
) -> None:
    """Where the minimum is 0, running workflows count as the backlog does, unless the values say otherwise."""
    keda = {"runningWorkflows": counted, "cooldownPeriodSeconds": 12}
    scaling = {"enabled": True, "engine": "keda", "drainingMinReplicas": 0, "keda": keda}
    builds = {"blue": {"buildId": "1"}, "green": {"buildId": "2"}}
    values = _values(
        taskQueue="all", autoscaling=scaling, builds=builds, routing={"current": "green"}
    )
    rendered = chart.render(values, apis=OPTIONAL_APIS)
    specs = {name_of(each): each["spec"] for each in rendered.of_kind("ScaledObject")}
    metadata = {name: spec["triggers"][0]["metadata"] for name, spec in specs.items()}

    assert specs["fleet-orders-blue"]["cooldownPeriod"] == 12
    assert metadata["fleet-orders-blue"].get("includeRunningWorkflowCount") == said
    assert "includeRunningWorkflowCount" not in metadata["fleet-orders-green"]


def test_hpa_lets_keda_take_over(chart: Chart) -> None:
    """The webhook of KEDA lets a ScaledObject in while the autoscaler that it replaces is still there."""
    hpa = chart.render(_values(autoscaling={"enabled": True})).only("HorizontalPodAutoscaler")

    assert hpa["metadata"]["annotations"] == {"validations.keda.sh/hpa-ownership": "false"}

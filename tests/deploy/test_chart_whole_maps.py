"""Maps that only make sense as a whole: what is given takes the place of the chart's own, at every level."""

from __future__ import annotations

from typing import Any

import pytest
from chart_values import with_orders
from manifests import Chart, Object, Objects, Values, worker_of

OPENSHIFT = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
"""Without a user and group, which OpenShift chooses for each namespace."""

LEVELS = ("queueDefaults", "queue", "build")

GIVEN: dict[str, Any] = {
    "podSecurityContext": OPENSHIFT,
    "securityContext": {"runAsUser": 8},
    "strategy": {"type": "Recreate"},
    "nodeSelector": {"disk": "ssd"},
    "affinity": {"podAntiAffinity": {"some": ["rule"]}},
}


def _values(level: str, **given: Any) -> Values:
    if level == "queueDefaults":
        return {**with_orders(), "queueDefaults": given}
    if level == "queue":
        return with_orders(**given)
    return with_orders(builds={"blue": {"buildId": "1.4.0", **given}})


def _found(rendered: Objects, key: str) -> Any:
    deployment = rendered.only("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    places: dict[str, tuple[Object, str]] = {
        "podSecurityContext": (pod, "securityContext"),
        "securityContext": (worker_of(deployment), "securityContext"),
        "strategy": (deployment["spec"], "strategy"),
        "nodeSelector": (pod, "nodeSelector"),
        "affinity": (pod, "affinity"),
    }
    where, name = places[key]
    return where.get(name)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("key", GIVEN)
def test_given_map_is_used_as_it_is(chart: Chart, key: str, level: str) -> None:
    """Nothing of the chart's own is left beside a given map, at whichever level it is given."""
    assert _found(chart.render(_values(level, **{key: GIVEN[key]})), key) == GIVEN[key]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("key", ["podSecurityContext", "securityContext"])
def test_empty_map_leaves_the_choice_to_the_cluster(chart: Chart, key: str, level: str) -> None:
    """An empty security context says nothing at all, so that the cluster's own rules decide."""
    assert _found(chart.render(_values(level, **{key: {}})), key) is None


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("key", ["podSecurityContext", "securityContext", "strategy"])
def test_null_is_nothing_given(chart: Chart, key: str, level: str) -> None:
    """With null, the chart's own counts as if the key were left out."""
    assert _found(chart.render(_values(level, **{key: None})), key) == _found(chart.render(), key)


def test_null_of_a_queue_leaves_what_queue_defaults_give(chart: Chart) -> None:
    """A queue that says null has what queueDefaults say, not the chart's own."""
    values = {
        **with_orders(podSecurityContext=None),
        "queueDefaults": {"podSecurityContext": OPENSHIFT},
    }

    assert _found(chart.render(values), "podSecurityContext") == OPENSHIFT


def test_null_takes_a_key_out_of_a_given_map(chart: Chart) -> None:
    """A second values file removes with null what the first one has in such a map."""
    given = {"type": "Recreate", "rollingUpdate": None}

    assert _found(chart.render(_values("queueDefaults", strategy=given)), "strategy") == {
        "type": "Recreate"
    }


def test_pace_of_a_recreation_is_refused(chart: Chart) -> None:
    """What Kubernetes would refuse halfway through an upgrade is refused before it, with the cure."""
    message = chart.refuse(
        _values("queue", strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}})
    )

    assert "queue 'orders', build 'blue': strategy.type is Recreate" in message
    assert "remove rollingUpdate" in message


@pytest.mark.parametrize("key", ["podSecurityContext", "securityContext"])
@pytest.mark.parametrize("given", [{"runAsNonRoot": True}, {}], ids=["map", "empty map"])
def test_given_map_of_hooks_is_used_as_it_is(chart: Chart, key: str, given: Values) -> None:
    """Every Job and the pod of `helm test` have the given security context, and no more."""
    rendered = chart.render({**with_orders(), "hooks": {key: given}})
    pods = {name: pod for name, pod in rendered.pods() if not name.startswith("Deployment")}

    assert len(pods) == 5
    for name, pod in pods.items():
        where = pod["spec"] if key == "podSecurityContext" else pod["spec"]["containers"][0]
        assert where.get("securityContext", {}) == given, name


def test_given_map_of_the_dev_server_is_used_as_it_is(chart: Chart) -> None:
    """The dev server, too, can leave user and group to the cluster."""
    server = {"enabled": True, "podSecurityContext": OPENSHIFT}
    rendered = chart.render({**with_orders(), "temporal": {"devServer": server}})
    pod = rendered.named("Deployment", "fleet-dev-server")["spec"]["template"]["spec"]

    assert pod["securityContext"] == OPENSHIFT

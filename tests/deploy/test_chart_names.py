"""Names of objects: short enough for Kubernetes' own suffixes, and never twice the same."""

from __future__ import annotations

import pytest
from manifests import Chart, Objects, Values, name_of

LONG = "a-task-queue-with-a-name-of-forty-chars-"
LONGEST = 47
"""Kubernetes appends 11 + 5 characters to make the name of a pod, whose limit is 63."""


def _values(queues: list[str], builds: list[str]) -> Values:
    return {
        "temporal": {"address": "temporal:7233"},
        "queueDefaults": {"autoscaling": {"enabled": True}},
        "queues": {
            queue: {
                "builds": {build: {"buildId": f"1.0.{n}"} for n, build in enumerate(builds)},
                "routing": {"current": builds[0]},
            }
            for queue in queues
        },
    }


@pytest.fixture(scope="module")
def long_names(chart: Chart) -> Objects:
    """Two queues and two builds whose keys differ in the last character only, with the longest release name."""
    queues = [f"{LONG[:39]}{last}" for last in "xy"]
    builds = [f"a-build-of-20-chars{last}" for last in "xy"]
    return chart.render(_values(queues, builds), release="r" * 53)


def test_long_names_are_cut(long_names: Objects) -> None:
    """No name that pods are derived from is longer than 47 characters, and none ends in a dash."""
    for each in long_names.of_kind("Deployment", "Job", "HorizontalPodAutoscaler"):
        assert len(name_of(each)) <= LONGEST
        assert name_of(each)[-1].isalnum()


def test_names_that_differ_at_the_end_stay_different(long_names: Objects) -> None:
    """Cut names end in a hash of the whole name, so two queues or builds never share one."""
    names = [name_of(each) for each in long_names.of_kind("Deployment")]

    assert len(set(names)) == 4
    assert len({name_of(each) for each in long_names.of_kind("ServiceAccount")}) >= 3


def test_build_that_would_share_a_name_is_refused(chart: Chart) -> None:
    """Queue `a` with build `b-c` and queue `a-b` with build `c` would have one name: both are named."""
    values = {
        "temporal": {"address": "temporal:7233"},
        "queues": {
            "a": {"builds": {"b-c": {"buildId": "1"}}},
            "a-b": {"builds": {"c": {"buildId": "1"}}},
        },
    }

    message = chart.refuse(values)

    assert "queue 'a-b', build 'c'" in message
    assert "queue 'a', build 'b-c'" in message


def test_name_overrides_are_used_everywhere(chart: Chart) -> None:
    """`fullnameOverride` begins every name, and `nameOverride` becomes the name in labels and selectors."""
    values = {
        "fullnameOverride": "shop",
        "nameOverride": "workers",
        "temporal": {"address": "temporal:7233"},
        "queues": {"orders": {"builds": {"blue": {"buildId": "1"}}}},
    }

    for each in chart.render(values).all:
        assert name_of(each).startswith("shop")
        assert each["metadata"]["labels"]["app.kubernetes.io/name"] == "workers"


def test_two_releases_in_one_namespace_share_nothing(chart: Chart) -> None:
    """Two releases of the chart may live in one namespace: no name and no selector is the same."""
    first, second = chart.render(release="one"), chart.render(release="two")

    names = [{(each["kind"], name_of(each)) for each in objects.all} for objects in (first, second)]
    assert not names[0] & names[1]
    selectors = [objects.only("Deployment")["spec"]["selector"] for objects in (first, second)]
    assert selectors[0] != selectors[1]

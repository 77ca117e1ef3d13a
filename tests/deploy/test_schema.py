"""Rendered objects are what each supported Kubernetes release accepts, unknown fields refused."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from importlib import resources
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from manifests import CHART, KUSTOMIZE, OPTIONAL_APIS, Chart, Kustomize, Object, Objects, name_of
from referencing import Registry, Resource

OLDEST = (1, 29)
CASES = sorted(path.name for path in (CHART / "ci").glob("*-values.yaml"))
OVERLAYS = sorted(path.name for path in (KUSTOMIZE / "overlays").iterdir())
SCHEMAS = resources.files(kubernetes_validate) / "kubernetes-json-schema"


def _supported() -> list[str]:
    releases = {
        each.name[1:].partition("-")[0] for each in SCHEMAS.iterdir() if each.name[0] == "v"
    }
    numbers = sorted(tuple(map(int, release.split("."))) for release in releases)
    return [".".join(map(str, each)) for each in numbers if each >= OLDEST]


def _custom(kind: str) -> bool:
    return kind in CUSTOM


def test_every_mode_has_a_case() -> None:
    """The folder `ci` has values for each way to run the chart; helm's own tools read them too."""
    assert {name.removesuffix("-values.yaml") for name in CASES} >= {
        *("minimal", "blue-green", "hpa", "keda", "tls-api-key", "monitoring", "dev-server"),
        *("unversioned", "everything"),
    }


@pytest.mark.parametrize("release", _supported())
def test_objects_are_valid(release: str, chart: Chart, kustomize: Kustomize) -> None:
    """Everything that the cases and overlays render passes the strict schemas of this Kubernetes release."""
    rendered = [_case(chart, name) for name in CASES]
    rendered += [kustomize.overlay(name) for name in OVERLAYS]
    # Many objects are the same in many cases, and validating is what takes the time.
    different = {json.dumps(each): each for objects in rendered for each in objects.all}
    wrong = [
        f"{each['kind']} {name_of(each)}: {problem}"
        for each in different.values()
        if not _custom(each["kind"])
        for problem in _problems(release, each)
    ]

    assert len(different) > 100
    assert not wrong


@pytest.mark.parametrize("release", [_supported()[0], _supported()[-1]])
def test_rendering_does_not_depend_on_the_release(release: str, chart: Chart) -> None:
    """All supported Kubernetes releases get the same objects, so what is valid for all was tested for all."""
    assert chart.render(kubernetes=release).all == chart.render().all


def test_older_kubernetes_is_refused(chart: Chart) -> None:
    """A release of Kubernetes that the chart does not support is refused by name."""
    result = chart.run("template", "fleet", {}, "--kube-version=1.28.0")

    assert result.returncode
    assert "kubeVersion: >=1.29.0-0" in result.stderr


@pytest.mark.parametrize("name", CASES)
def test_custom_objects_have_what_their_operators_need(name: str, chart: Chart) -> None:
    """Objects for the Prometheus operator and KEDA hold the fields that these require, and no unknown ones."""
    for each in _case(chart, name).all:
        if _custom(each["kind"]):
            CUSTOM[each["kind"]](each["spec"])


def test_custom_objects_are_left_out_without_their_operators(chart: Chart) -> None:
    """On a cluster without the Prometheus operator and KEDA nothing is rendered that it would refuse."""
    values = _values("everything-values.yaml") | {"apiVersions": []}

    assert not [each for each in chart.render(values).all if _custom(each["kind"])]


@pytest.mark.parametrize("name", CASES)
def test_cases_pass_the_lint_of_helm(name: str, chart: Chart) -> None:
    """`helm lint --strict` has nothing to say about any case."""
    result = chart.run("lint", "", _values(name), "--strict")

    assert result.returncode == 0, result.stdout


def _pod_monitor(spec: Object) -> None:
    assert set(spec) == {"selector", "podMetricsEndpoints"}
    for endpoint in spec["podMetricsEndpoints"]:
        _check_endpoint(endpoint)


def _service_monitor(spec: Object) -> None:
    assert set(spec) <= {"selector", "endpoints", "jobLabel", "targetLabels"}
    for endpoint in spec["endpoints"]:
        _check_endpoint(endpoint)


def _check_endpoint(endpoint: Object) -> None:
    allowed = {"interval", "scrapeTimeout", "honorLabels", "relabelings", "metricRelabelings"}
    assert set(endpoint) - allowed == {"port", "path"}


def _prometheus_rule(spec: Object) -> None:
    assert set(spec) == {"groups"}
    for group in spec["groups"]:
        assert set(group) <= {"name", "interval", "rules"}
        assert all(
            "expr" in rule and ("alert" in rule) != ("record" in rule) for rule in group["rules"]
        )


def _scaled_object(spec: Object) -> None:
    assert set(spec) <= {
        *("scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval"),
        *("cooldownPeriod", "fallback", "advanced", "triggers"),
    }
    for trigger in spec["triggers"]:
        assert set(trigger) <= {
            *("type", "name", "metadata", "metricType", "authenticationRef", "useCachedMetrics"),
        }
        # KEDA reads metadata as texts; a number would be refused by the API server.
        assert all(isinstance(value, str) for value in trigger["metadata"].values()), trigger


def _trigger_authentication(spec: Object) -> None:
    for reference in spec["secretTargetRef"]:
        assert set(reference) == {"parameter", "name", "key"}


CUSTOM: dict[str, Callable[[Object], None]] = {
    "PodMonitor": _pod_monitor,
    "ServiceMonitor": _service_monitor,
    "PrometheusRule": _prometheus_rule,
    "ScaledObject": _scaled_object,
    "TriggerAuthentication": _trigger_authentication,
}
"""What has no schema among Kubernetes' own: checked by hand, and the rules by promtool elsewhere."""


@functools.cache
def _values(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CHART / "ci" / name).read_text(encoding="utf-8"))
    return loaded


def _case(chart: Chart, name: str) -> Objects:
    return chart.render(_values(name), apis=OPTIONAL_APIS)


def _problems(release: str, thing: Object) -> list[str]:
    group = thing["apiVersion"].replace(".k8s.io/", "-").replace("/", "-")
    validator = _validator(release, f"{thing['kind'].lower()}-{group}.json")
    return [f"{each.json_path}: {each.message}" for each in validator.iter_errors(thing)]


@functools.cache
def _validator(release: str, file: str) -> Draft202012Validator:
    return Draft202012Validator(_read(release, file), registry=_registry(release))


@functools.cache
def _registry(release: str) -> Registry[Any]:
    definitions = Resource.from_contents(_read(release, "_definitions.json"))
    return definitions @ Registry()


def _read(release: str, file: str) -> Any:
    return json.loads((SCHEMAS / f"v{release}-local-strict" / file).read_text(encoding="utf-8"))

"""Pods of the chart and of Kustomize keep to "restricted" and need no Kubernetes API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from manifests import OPTIONAL_APIS, Chart, Kustomize, Object, Objects, Values

DEV_SERVER: Values = {
    "temporal": {"devServer": {"enabled": True}},
    "queues": {"orders": {"builds": {"blue": {"buildId": "1"}}}},
}
VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}
"""Kinds of volumes that the profile admits.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""


@pytest.fixture(
    scope="module",
    params=["two queues", "dev server", "dev", "production", "blue-green"],
)
def objects(
    request: pytest.FixtureRequest, chart: Chart, kustomize: Kustomize, fleet: Objects
) -> Objects:
    """Everything that makes pods, in turn."""
    if request.param == "two queues":
        return fleet
    if request.param == "dev server":
        return chart.render(DEV_SERVER, apis=OPTIONAL_APIS)
    return kustomize.overlay(request.param)


def test_pods_are_restricted(objects: Objects) -> None:
    """Workers, Jobs, the test and the dev server would all be admitted where "restricted" is enforced."""
    pods = list(objects.pods())
    broken = [f"{name}: {problem}" for name, pod in pods for problem in _problems(pod["spec"])]

    assert pods
    assert not broken


def test_pods_write_to_mounted_directories_only(objects: Objects) -> None:
    """Every container has a read-only root file system and somewhere to put temporary files."""
    for name, pod in objects.pods():
        for container in _containers(pod["spec"]):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, name


def test_pods_have_no_access_to_kubernetes(objects: Objects) -> None:
    """No token is mounted, service links are off, accounts are our own, and no role is bound to anybody."""
    for name, pod in objects.pods():
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        assert pod["spec"]["enableServiceLinks"] is False, name
    for account in objects.of_kind("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert not [each for each in objects.all if "Role" in each["kind"]]


def test_pods_have_limits(objects: Objects) -> None:
    """Each container asks for CPU and memory and has a memory limit, which the runtime sizes itself by."""
    for name, pod in objects.pods():
        for container in _containers(pod["spec"]):
            resources = container["resources"]
            assert set(resources["requests"]) == {"cpu", "memory"}, name
            assert "memory" in resources["limits"], name


def test_images_have_a_tag_that_is_not_latest(objects: Objects) -> None:
    """Every image is named with a tag, and never the moving one."""
    for name, pod in objects.pods():
        for container in _containers(pod["spec"]):
            _, _, tag = container["image"].rpartition(":")
            assert tag not in {"", "latest", container["image"]}, name


def test_jobs_end(objects: Objects) -> None:
    """Every Job has a deadline, few attempts, and is removed after a while."""
    for job in objects.of_kind("Job"):
        assert job["spec"]["activeDeadlineSeconds"] > 0
        assert job["spec"]["backoffLimit"] <= 3
        assert job["spec"]["ttlSecondsAfterFinished"] > 0


def test_secrets_are_given_by_reference(fleet: Objects) -> None:
    """A secret text is in the Secret that holds it and nowhere else, whatever the annotations say."""
    for each in fleet.all:
        if each["kind"] != "Secret":
            assert "postgresql://somewhere" not in str(each)
    for _, pod in fleet.pods():
        for volume in pod["spec"]["volumes"]:
            for secret in [volume.get("secret"), volume.get("projected")]:
                # Readable by the group of the pod, never by everybody.
                assert secret is None or secret["defaultMode"] in {0o440, 0o400}


def test_credentials_are_mounted_without_sub_path(fleet: Objects) -> None:
    """Secrets are mounted as directories: a file mounted by sub-path is never renewed when the secret is."""
    for _, pod in fleet.pods():
        for container in _containers(pod["spec"]):
            assert not [mount for mount in container["volumeMounts"] if "subPath" in mount]


def test_network_policies_admit_nothing_but_names_temporal_and_traces(fleet: Objects) -> None:
    """Workers may be reached on the health port alone, and reach DNS, Temporal and the trace collector."""
    for policy in fleet.of_kind("NetworkPolicy"):
        name = policy["metadata"]["name"]
        ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
        expected = {53, 7233} | ({4318} if name.startswith("fleet-orders-") else set())
        assert ports == expected, name
        assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        ingress = [port for rule in policy["spec"].get("ingress", []) for port in rule["ports"]]
        is_worker = name not in {"fleet-hooks", "fleet-guard-upgrade"}
        assert [port["port"] for port in ingress] == (["health"] if is_worker else []), name


def _problems(spec: Object) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"volume {volume['name']}"
    shared = spec.get("securityContext", {})
    for container in _containers(spec):
        own = container.get("securityContext", {})
        yield from (f"container {container['name']}: {each}" for each in _unsafe(shared, own))
        for port in container.get("ports", []):
            if port.get("hostPort"):
                yield f"container {container['name']}: hostPort"


def _unsafe(shared: Object, own: Object) -> Iterator[str]:
    def effective(field: str) -> Any:
        return own.get(field, shared.get(field))

    if effective("runAsNonRoot") is not True or effective("runAsUser") in {None, 0}:
        yield "may run as root"
    if (effective("seccompProfile") or {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "has no seccomp profile"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if own.get("privileged"):
        yield "is privileged"
    capabilities = own.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield "keeps capabilities"


def _containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", []), *spec["containers"]]

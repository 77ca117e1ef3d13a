"""Overlays hold together by themselves: one build ID, disjoint selectors, and a routing that fits."""

from __future__ import annotations

import json
import shutil
from collections.abc import ItemsView
from pathlib import Path

import pytest
import yaml
from manifests import KUSTOMIZE, REPOSITORY, Kustomize, Object, Objects, name_of, worker_of

from temporal_fleet.rollout.routing_file import read_routing
from temporal_fleet.settings import load_settings

OVERLAYS = sorted(path.name for path in (KUSTOMIZE / "overlays").iterdir())


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, kustomize: Kustomize) -> Objects:
    """Each overlay in turn."""
    return kustomize.overlay(request.param)


def test_image_label_and_variable_are_one_build_id(overlay: Objects) -> None:
    """Image tag, both labels and FLEET_DEPLOYMENT_BUILD_ID are the same text in every build."""
    for deployment in overlay.of_kind("Deployment"):
        build_id = overlay.variables(name_of(deployment))["FLEET_DEPLOYMENT_BUILD_ID"]
        pod = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["metadata"]["labels"]["temporal.io/build-id"] == build_id
        assert pod["temporal.io/build-id"] == build_id
        assert worker_of(deployment)["image"].rpartition(":")[2] == build_id


def test_no_placeholder_is_left(overlay: Objects) -> None:
    """What an overlay has to say is said: no object holds the base's placeholder."""
    assert "set-me" not in json.dumps(overlay.all)


def test_selectors_match_one_build(overlay: Objects) -> None:
    """Builds share no pods, and budgets, policies and autoscalers belong to one of them."""
    pods = {
        name_of(each): each["spec"]["template"]["metadata"]["labels"]
        for each in overlay.of_kind("Deployment")
    }
    for each in overlay.of_kind("Deployment", "PodDisruptionBudget", "NetworkPolicy"):
        wanted = _selected_by(each)
        assert [name for name, labels in pods.items() if wanted <= labels.items()] == [
            name_of(each)
        ]
    for each in overlay.of_kind("HorizontalPodAutoscaler"):
        assert each["spec"]["scaleTargetRef"]["name"] == name_of(each)
        assert "replicas" not in overlay.named("Deployment", name_of(each))["spec"]


def test_every_object_is_in_the_namespace_of_the_overlay(overlay: Objects) -> None:
    """An overlay is applied as a whole to one namespace."""
    assert len({each["metadata"]["namespace"] for each in overlay.all}) == 1


def test_variables_are_settings_of_the_runtime(overlay: Objects) -> None:
    """The runtime accepts every variable of a worker; an unknown one would end it with exit code 3."""
    for deployment in overlay.of_kind("Deployment"):
        variables = overlay.variables(name_of(deployment))
        # The key is mounted in the cluster only.
        variables.pop("TEMPORAL_API_KEY_FILE", None)
        loaded = load_settings(environ=variables).settings
        spec = deployment["spec"]["template"]["spec"]
        drain = (loaded.drain.timeout + loaded.drain.margin).total_seconds()
        assert spec["terminationGracePeriodSeconds"] > drain
        assert loaded.deployment.versioning


def test_routing_names_the_builds_that_run(kustomize: Kustomize, tmp_path: Path) -> None:
    """routing.json and the two builds agree on build IDs, and it is what the runtime reads."""
    objects = kustomize.overlay("blue-green")
    desired = read_routing(KUSTOMIZE / "overlays" / "blue-green" / "routing.json")["orders"]
    running = {
        each["metadata"]["labels"]["temporal-fleet/build"]: each["metadata"]["labels"][
            "temporal.io/build-id"
        ]
        for each in objects.of_kind("Deployment")
    }

    assert desired.builds == running
    assert desired.deployment == objects.variables("orders-blue")["FLEET_DEPLOYMENT_NAME"]


def test_another_routing_is_another_job(kustomize: Kustomize, tmp_path: Path) -> None:
    """A changed routing is a changed Job, which GitOps tools run; the installed one keeps its name."""
    shutil.copytree(KUSTOMIZE, tmp_path / "kustomize")
    folder = tmp_path / "kustomize" / "overlays" / "blue-green"
    routing = folder / "routing.json"
    routing.write_text(routing.read_text().replace('"percentage": 10', '"percentage": 50'))
    before, after = kustomize.overlay("blue-green"), kustomize.build(folder)

    assert (
        before.named("Job", "fleet-routing")["spec"] != after.named("Job", "fleet-routing")["spec"]
    )
    changed = after.named("ConfigMap", "fleet-routing")["data"]["routing.json"]
    assert '"percentage": 50' in changed
    for name in ("orders-blue", "orders-green"):
        assert before.named("Deployment", name) == after.named("Deployment", name)


def test_configuration_restarts_workers(kustomize: Kustomize, tmp_path: Path) -> None:
    """A changed variable changes the pods of its build, since the ConfigMap's name carries a hash."""
    shutil.copytree(KUSTOMIZE, tmp_path / "kustomize")
    folder = tmp_path / "kustomize" / "overlays" / "blue-green"
    green = folder / "green" / "kustomization.yaml"
    green.write_text(
        green.read_text().replace("literals:\n", "literals:\n      - FLEET_LOG_LEVEL=DEBUG\n")
    )
    before, after = kustomize.overlay("blue-green"), kustomize.build(folder)

    assert before.named("Deployment", "orders-blue") == after.named("Deployment", "orders-blue")
    assert before.named("Deployment", "orders-green") != after.named("Deployment", "orders-green")


@pytest.fixture
def another(kustomize: Kustomize, tmp_path: Path) -> Objects:
    """What the overlay builds that the guide prints for another task queue."""
    return _built(kustomize, tmp_path, _printed("another-task-queue"))


def test_guide_builds_another_task_queue(another: Objects) -> None:
    """The overlay that the guide prints for another workload runs it, by its own name and build ID."""
    deployment = another.only("Deployment")

    assert worker_of(deployment)["args"] == ["worker", "payments"]
    assert worker_of(deployment)["image"] == "registry.example:5000/shop/payments:1.4.0"
    assert another.variables("payments")["FLEET_DEPLOYMENT_NAME"] == "payments"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["temporal.io/deployment-name"] == "payments"
    assert labels["temporal.io/build-id"] == "1.4.0"


def test_guide_mounts_the_keys_of_payloads(kustomize: Kustomize, tmp_path: Path) -> None:
    """What the guide prints for encrypted payloads gives the worker the keys where its variable says."""
    base = "resources: [../../base]\ncomponents: [../../components/build-id]\n"
    built = _built(kustomize, tmp_path, base + _printed("encrypted-payloads"))
    deployment = built.only("Deployment")
    variables = built.variables("orders")
    mounts = {each["name"]: each["mountPath"] for each in worker_of(deployment)["volumeMounts"]}
    volumes = deployment["spec"]["template"]["spec"]["volumes"]

    assert mounts["codec-keys"] == variables["FLEET_CODEC_KEYS_DIRECTORY"]
    assert variables["FLEET_CODEC_ENCRYPTION_KEY_ID"] == "2026-11"
    secret = {"secretName": "payload-keys", "defaultMode": 0o440}
    assert {"name": "codec-keys", "secret": secret} in volumes


def _printed(mark: str) -> str:
    """Return the block of the guide behind a mark."""
    guide = (REPOSITORY / "docs" / "how-to" / "kustomize.md").read_text(encoding="utf-8")
    return guide.partition(f"<!-- {mark} -->\n```yaml\n")[2].partition("```")[0]


def _built(kustomize: Kustomize, tmp_path: Path, kustomization: str) -> Objects:
    """Build an overlay beside those of the repository."""
    shutil.copytree(KUSTOMIZE, tmp_path / "kustomize")
    folder = tmp_path / "kustomize" / "overlays" / "guide"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(kustomization)
    return kustomize.build(folder)


@pytest.mark.parametrize("first", OVERLAYS)
def test_another_task_queue_takes_over_nothing(
    another: Objects, kustomize: Kustomize, first: str
) -> None:
    """Beside any overlay, that of the guide has no object of the same name and selects no other pods."""
    beside = kustomize.overlay(first)
    named = [
        {(each["kind"], name_of(each)) for each in objects.all} for objects in (beside, another)
    ]

    assert not named[0] & named[1]
    for ours, theirs in ((another, beside), (beside, another)):
        pods = [pod["metadata"]["labels"] for _, pod in theirs.pods()]
        for each in ours.of_kind("Deployment", "PodDisruptionBudget", "NetworkPolicy"):
            assert not [labels for labels in pods if _selected_by(each) <= labels.items()]


def test_another_task_queue_refers_to_itself(another: Objects) -> None:
    """Its autoscaler, budget, policy and account are those of its own workers."""
    deployment = another.named("Deployment", "payments")
    template = deployment["spec"]["template"]
    kinds = ("HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount")

    assert {name_of(another.only(kind)) for kind in kinds} == {"payments"}
    assert another.only("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "payments"
    assert "replicas" not in deployment["spec"]
    assert template["spec"]["serviceAccountName"] == "payments"
    for each in another.of_kind("Deployment", "PodDisruptionBudget", "NetworkPolicy"):
        assert _selected_by(each) <= template["metadata"]["labels"].items()


def test_no_kustomization_uses_what_is_deprecated() -> None:
    """No file uses `commonLabels`, which writes into selectors, nor other fields that Kustomize gives up."""
    old = {"commonLabels", "bases", "vars", "patchesStrategicMerge", "patchesJson6902"}
    for file in KUSTOMIZE.rglob("kustomization.yaml"):
        fields = set(yaml.safe_load(file.read_text(encoding="utf-8")))
        assert not fields & old, file


def _selected_by(thing: Object) -> ItemsView[str, str]:
    selector = thing["spec"].get("selector") or thing["spec"]["podSelector"]
    labels: dict[str, str] = selector["matchLabels"]
    return labels.items()

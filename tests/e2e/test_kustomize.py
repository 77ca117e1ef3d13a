"""The Kustomize overlays, applied."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e_cluster import Namespace
from e2e_credentials import GATEWAY, gateway, key_secret
from e2e_load import start
from e2e_rollout import Laptop
from e2e_temporal import TemporalNamespace
from e2e_values import FleetValues, Images

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

KUSTOMIZE = Path(__file__).parents[2] / "deploy" / "kustomize"
DEPLOYMENT = "orders"
"""Name that the overlays give the Worker Deployment; the workload is that of these tests."""
ROUTED_TIMEOUT = timedelta(seconds=150)

# What people change for a workload of their own: its image, and which one the image runs.
OWN_WORKLOAD = [
    {"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": ["worker", "e2e"]}
]


class Overlay:
    """An overlay with the address of these tests' server, the tests' workload and their namespace."""

    def __init__(self, folder: Path, name: str, images: Images, values: FleetValues) -> None:
        self._folder = folder / "kustomize"
        shutil.copytree(KUSTOMIZE, self._folder)
        self._name = name
        self._image = images.reference("e2e").partition(":")[0]
        self._address = values.address

    def replace(self, path: str, old: str, new: str) -> None:
        """Change a file of the overlay, as an editor does."""
        file = self._folder / "overlays" / self._name / path
        text = file.read_text()
        assert old in text, f"{old!r} is not in {file}"
        file.write_text(text.replace(old, new))

    async def render(self, namespace: Namespace) -> list[dict[str, Any]]:
        """Return the objects of the overlay in a namespace of these tests."""
        environment = self._folder / "base" / "worker.env"
        lines = [
            f"TEMPORAL_ADDRESS={self._address}"
            if line.startswith("TEMPORAL_ADDRESS=")
            else f"TEMPORAL_NAMESPACE={namespace.name}"
            if line.startswith("TEMPORAL_NAMESPACE=")
            else line
            for line in environment.read_text().splitlines()
        ]
        environment.write_text("\n".join(lines) + "\n")
        last = self._folder / "overlays" / "of-the-test"
        last.mkdir()
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": namespace.name,
            "resources": [f"../{self._name}"],
            "images": [{"name": "fleet-orders", "newName": self._image}],
            "patches": [{"patch": json.dumps(OWN_WORKLOAD), "target": {"kind": "Deployment"}}],
        }
        (last / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        rendered = await namespace.kubectl("kustomize", str(last))
        return [each for each in yaml.safe_load_all(rendered.stdout) if each]


async def apply(namespace: Namespace, objects: list[dict[str, Any]]) -> None:
    """Apply objects and wait for all Deployments among them."""
    await namespace.apply(*objects)
    for each in objects:
        if each["kind"] == "Deployment":
            await namespace.rolled_out(each["metadata"]["name"])


async def test_dev_overlay_runs_and_works(
    tmp_path: Path,
    images: Images,
    namespace: Namespace,
    values: FleetValues,
    temporal: TemporalNamespace,
    laptop: Laptop,
) -> None:
    """The overlay `dev` with one build ID changed becomes a worker that executes workflows."""
    overlay = Overlay(tmp_path, "dev", images, values)
    overlay.replace("kustomization.yaml", "0.1.0", images.first)
    await apply(namespace, await overlay.render(namespace))
    await laptop.rollout("promote", DEPLOYMENT, images.first, "--yes")

    report = await (await start(temporal.client)).result()
    assert report["workflow_builds"] == [images.first]


async def test_blue_green_overlay_routes_by_its_job(
    tmp_path: Path,
    images: Images,
    namespace: Namespace,
    values: FleetValues,
    temporal: TemporalNamespace,
) -> None:
    """The overlay `blue-green` runs two builds, and its Job makes the routing what routing.json says."""
    overlay = Overlay(tmp_path, "blue-green", images, values)
    for path in ("blue/kustomization.yaml", "routing.json"):
        overlay.replace(path, "0.1.0", images.first)
    for path in ("green/kustomization.yaml", "routing.json"):
        overlay.replace(path, "0.2.0", images.second)
    await apply(namespace, await overlay.render(namespace))
    await namespace.wait("job/fleet-routing", "condition=Complete", timeout=ROUTED_TIMEOUT)

    routing = await temporal.routing(DEPLOYMENT)
    assert routing.current_deployment_version.build_id == images.first
    assert routing.ramping_deployment_version.build_id == images.second
    assert routing.ramping_version_percentage == 10
    assert (await (await start(temporal.client)).result())["steps"]


async def test_production_overlay_runs_with_tls_and_an_api_key(
    tmp_path: Path,
    images: Images,
    namespace: Namespace,
    values: FleetValues,
    temporal: TemporalNamespace,
    laptop: Laptop,
) -> None:
    """The overlay `production` connects with TLS and the API key of its Secret, under an autoscaler."""
    connection = await gateway(namespace, images, values, accepted=["production-key"])
    overlay = Overlay(tmp_path, "production", images, values)
    overlay.replace("kustomization.yaml", "0.1.0", images.first)
    overlay.replace(
        "kustomization.yaml", "TEMPORAL_NAMESPACE=production", f"TEMPORAL_NAMESPACE={temporal.name}"
    )
    overlay.replace(
        "kustomization.yaml",
        "TEMPORAL_API_KEY_FILE=",
        f"TEMPORAL_ADDRESS={connection['address']}\n"
        "      - TEMPORAL_TLS_SERVER_CA_CERT_PATH=/etc/fleet/api-key/ca.crt\n"
        "      - TEMPORAL_API_KEY_FILE=",
    )
    objects = await overlay.render(namespace)
    authority = (await namespace.get("secret", "authority"))["data"]
    secret = key_secret("production-key")
    secret["metadata"]["name"] = "temporal-api-key"
    secret["data"].update(authority)
    await namespace.apply(secret)
    await apply(namespace, [each for each in objects if "monitoring" not in each["apiVersion"]])
    await laptop.rollout("promote", DEPLOYMENT, images.first, "--yes")

    assert (await (await start(temporal.client)).result())["steps"]
    assert "accepted production-key" in await namespace.logs(f"deployment/{GATEWAY}")
    assert await namespace.objects("horizontalpodautoscalers,poddisruptionbudgets")

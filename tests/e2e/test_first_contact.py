"""What people see when the server, the namespace or the credentials of an installation are wrong."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from e2e_cluster import Namespace, Release, watched_pods
from e2e_credentials import GATEWAY, gateway, key_secret
from e2e_load import start
from e2e_temporal import SERVER, TemporalNamespace, server_objects
from e2e_values import FleetValues, Images, merged
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

WORKERS = "temporal-fleet/build=blue"
STARTUP_FAILED = 3
PATIENCE = {"settings": {"connectionDeadlineSeconds": 4, "connectionAttemptTimeoutSeconds": 2}}
CONTACT_TIMEOUT = timedelta(seconds=90)


async def failed_start(namespace: Namespace, release: Release, values: dict[str, object]) -> str:
    """Install, wait until a worker has ended with the code of a failed start, and return its log."""
    async with watched_pods(namespace, WORKERS) as watch:
        failed = await release.install(values, check=False, timeout=25)
        assert failed.code
        assert "context deadline exceeded" in failed.text, failed

        def ended() -> list[str]:
            return [
                name
                for name, pod in watch.pods.items()
                for status in pod["status"].get("containerStatuses", [])
                if status["lastState"].get("terminated", {}).get("exitCode") == STARTUP_FAILED
            ]

        await watch.until(ended, "a worker with exit code 3", CONTACT_TIMEOUT)
        pod = ended()[0]
    # The kubelet restarts it again and again: CrashLoopBackOff is what `kubectl get pods` shows.
    await namespace.kubectl(
        *("wait", f"pod/{pod}", "--timeout=60s"),
        "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff",
        timeout=CONTACT_TIMEOUT,
    )
    return await namespace.logs(pod, "--previous")


async def test_wrong_namespace_is_named_in_the_log_and_the_worker_exits_with_3(
    namespace: Namespace, release: Release, values: FleetValues
) -> None:
    """A Temporal namespace that does not exist is named, and the pods show CrashLoopBackOff with code 3."""
    wrong = merged(values.one(**PATIENCE), {"temporal": {"namespace": "orderz"}})
    log = await failed_start(namespace, release, wrong)

    assert "orderz" in log
    assert "TEMPORAL_NAMESPACE" in log


async def test_server_absent_is_named_in_the_log_and_the_worker_exits_with_3(
    namespace: Namespace, release: Release, values: FleetValues
) -> None:
    """An address where nobody listens is named with the setting that it came from."""
    address = f"nobody.{namespace.name}.svc:7233"
    absent = merged(values.one(**PATIENCE), {"temporal": {"address": address}})
    log = await failed_start(namespace, release, absent)

    assert address in log
    assert "FLEET_CONNECTION_DEADLINE_SECONDS" in log


async def test_wrong_api_key_is_told_without_showing_it(
    images: Images, namespace: Namespace, release: Release, values: FleetValues
) -> None:
    """A refused API key is told as such, with the setting that it came from, and never shown."""
    connection = await gateway(namespace, images, values, accepted=["right-key"])
    await namespace.apply(key_secret("wrong-key"))
    log = await failed_start(
        namespace, release, merged(values.one(**PATIENCE), {"temporal": connection})
    )

    assert "UNAUTHENTICATED" in log.upper()
    assert "TEMPORAL_API_KEY" in log
    assert "wrong-key" not in log
    assert "refused wrong-key" in await namespace.logs(f"deployment/{GATEWAY}")


async def test_server_that_comes_later_is_waited_for(
    images: Images,
    namespace: Namespace,
    release: Release,
    values: FleetValues,
) -> None:
    """Workers that start before their server wait for it without a restart, and then work."""
    here = {"address": f"{SERVER}.{namespace.name}.svc:7233", "namespace": "default"}
    patient = {"settings": {"connectionDeadlineSeconds": 120}}
    wanted = merged(values.one(**patient), {"temporal": here, "hooks": {"enabled": False}})
    await release.install(wanted, wait=False)
    await namespace.kubectl(
        *("wait", "pod", "--selector", WORKERS, "--for=condition=PodReadyToStartContainers"),
        "--timeout=60s",
        timeout=CONTACT_TIMEOUT,
    )
    (pod,) = await namespace.pods(WORKERS)
    name = str(pod["metadata"]["name"])
    waiting = json.loads(await namespace.logged(f"pod/{name}", "connection attempt failed"))
    assert waiting["address"] == here["address"]
    await namespace.apply(*server_objects(images.reference("dev-server"), {}))
    await namespace.wait(f"pod/{name}", "condition=Ready")

    (after,) = await namespace.pods(WORKERS)
    assert after["metadata"]["name"] == name
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0


async def test_hooks_wait_for_a_server_that_comes_later(
    images: Images, namespace: Namespace, release: Release, temporal: TemporalNamespace
) -> None:
    """An installation with its own dev server works at once, though everything starts at the same time."""
    tag = images.tags["dev-server"][0]
    values = merged(
        FleetValues(images, temporal).one(),
        {"temporal": {"address": "", "namespace": "default", "devServer": {"enabled": True}}},
    )
    values["temporal"]["devServer"]["image"] = {"registry": images.registry, "tag": tag}
    await release.install(values, wait=False)
    async with namespace.forwarded("service/fleet-dev-server", 7233) as port:
        client = await Client.connect(f"127.0.0.1:{port}", data_converter=pydantic_data_converter)
        report = await (await start(client)).result()

    assert report["workflow_builds"] == [images.first]

"""Credentials that are rotated in the cluster."""

from __future__ import annotations

from datetime import timedelta

import pytest
from e2e_cluster import Namespace, Release
from e2e_credentials import GATEWAY, gateway, key_secret
from e2e_load import start
from e2e_temporal import TemporalNamespace
from e2e_values import FleetValues, Images, merged

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

WORKERS = "temporal-fleet/build=blue"
PROPAGATION_TIMEOUT = timedelta(seconds=150)
"""The kubelet renews mounted Secrets when it looks after a pod, which may be more than a minute away."""


async def test_rotated_api_key_reaches_the_running_worker(
    images: Images,
    namespace: Namespace,
    release: Release,
    values: FleetValues,
    temporal: TemporalNamespace,
) -> None:
    """A changed Secret is used by the worker that runs, without a restart, and work goes on."""
    connection = await gateway(namespace, images, values, accepted=["first-key", "second-key"])
    await namespace.apply(key_secret("first-key"))
    await release.install(merged(values.one(), {"temporal": connection}))
    (before,) = await namespace.pods(WORKERS)
    assert (await (await start(temporal.client)).result())["workflow_builds"] == [images.first]

    await namespace.apply(key_secret("second-key"))
    # Any change of a pod makes the kubelet look after it.
    await namespace.kubectl("annotate", "pod", before["metadata"]["name"], "looked-after=now")
    await namespace.logged(
        f"deployment/{GATEWAY}", "accepted second-key Poll", timeout=PROPAGATION_TIMEOUT
    )

    assert (await (await start(temporal.client)).result())["workflow_builds"] == [images.first]
    (after,) = await namespace.pods(WORKERS)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0

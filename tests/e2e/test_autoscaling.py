"""Workers that are added and removed by their use of CPU."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from e2e_cluster import Namespace, Release, is_staying, watched_pods
from e2e_load import load, start
from e2e_temporal import TemporalNamespace, audit
from e2e_values import FleetValues

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

FLOOR, MOST = 2, 4
SCALING_TIMEOUT = timedelta(seconds=150)
NAP_SECONDS = 6
"""Longer than it takes to end a pod that does nothing, shorter than the drain."""

SCALED = {
    "resources": {
        "requests": {"cpu": "60m", "memory": "96Mi"},
        "limits": {"cpu": "250m", "memory": "384Mi"},
    },
    "autoscaling": {
        "enabled": True,
        "minReplicas": FLOOR,
        "maxReplicas": MOST,
        "cpu": 100,
        # Production's minutes, shortened; `null` removes a policy of the defaults.
        "behavior": {
            "scaleUp": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]},
            "scaleDown": {
                "stabilizationWindowSeconds": 0,
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
            },
        },
    },
}


async def test_cpu_bound_workers_scale_out_and_in_without_losing_activities(
    namespace: Namespace, release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """CPU-bound work adds workers, its end removes them, activities go on, and the floor always stands."""
    await release.install(values.one(**SCALED))
    async with watched_pods(namespace, "temporal-fleet/build=blue") as watch:

        def staying() -> int:
            return sum(
                is_staying(pod) for name, pod in watch.pods.items() if name not in watch.gone
            )

        fewest = FLOOR

        async def note_fewest() -> None:
            nonlocal fewest
            while True:
                fewest = min(fewest, staying())
                await asyncio.sleep(0.1)

        await watch.until(lambda: staying() == FLOOR, f"{FLOOR} workers")
        noting = asyncio.create_task(note_fewest())
        computing = [
            await start(temporal.client, activity="compute", seconds=10, steps=5) for _ in range(8)
        ]
        await watch.until(lambda: staying() > FLOOR, "more workers", SCALING_TIMEOUT)
        for handle in computing:
            await handle.signal("stop")
        async with load(temporal.client, rate=2, activity="nap", seconds=NAP_SECONDS) as traffic:
            await watch.until(lambda: staying() == FLOOR, "the floor again", SCALING_TIMEOUT)
        napping = await traffic.finish()
        noting.cancel()
        removed = [name for name, pod in watch.pods.items() if not is_staying(pod)]
        await watch.until_gone(*removed)

    assert fewest == FLOOR
    assert removed, "no worker was removed"
    assert {watch.ends(name)["exitCode"] for name in removed} == {0}
    assert not napping.audit.problems
    await asyncio.gather(*(each.result() for each in computing))
    assert not (await audit(temporal.client, [each.id for each in computing])).problems

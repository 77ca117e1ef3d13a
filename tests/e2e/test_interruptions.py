"""What happens to work when its pods are stopped: restarts, evictions, deletions."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from e2e_cluster import Namespace, Release, names, watched_pods
from e2e_load import activity_running, load, start
from e2e_temporal import TemporalNamespace, audit
from e2e_values import DRAIN_SECONDS, FleetValues

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

DEPLOYMENT = "fleet-e2e-blue"
WORKERS = "temporal-fleet/build=blue"
RATE = 5
STOPPED_PODS = 4


async def test_rolling_restart_and_evictions_under_load_lose_nothing(
    namespace: Namespace, release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """A rolling restart, then the eviction of every pod, end no work and repeat none."""
    await release.install(values.one(replicas=2))
    old = names(await namespace.pods(WORKERS))
    async with (
        watched_pods(namespace, WORKERS) as watch,
        load(temporal.client, rate=RATE, activity="nap", seconds=1) as traffic,
    ):
        await traffic.more(2 * RATE)
        await namespace.kubectl("rollout", "restart", f"deployment/{DEPLOYMENT}")
        await namespace.rolled_out(DEPLOYMENT)
        await watch.until_gone(*old)
        restarted = names(await namespace.pods(WORKERS))
        for pod in restarted:
            await namespace.evict(pod)
            await watch.until_gone(pod)
            await namespace.rolled_out(DEPLOYMENT)
        await traffic.more(RATE)
    result = await traffic.finish()

    assert not result.audit.problems
    assert result.audit.attempts == len(result.all)
    assert len(result.audit.redelivered) <= STOPPED_PODS, result.audit.redelivered
    assert {watch.ends(pod)["exitCode"] for pod in [*old, *restarted]} == {0}


async def test_budget_refuses_the_second_eviction_at_once(
    namespace: Namespace, release: Release, values: FleetValues
) -> None:
    """The disruption budget lets one worker of a build go at a time."""
    await release.install(values.one(replicas=2))
    first, second = names(await namespace.pods(WORKERS))
    await namespace.evict(first)
    with pytest.raises(AssertionError, match="disruption budget"):
        await namespace.evict(second)


async def test_deleted_pod_finishes_its_activities_and_exits_with_0(
    namespace: Namespace, release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """What fits into the drain timeout is finished in its first attempt by the pod that is being deleted."""
    await release.install(values.one())
    work = [await start(temporal.client, activity="nap", seconds=8) for _ in range(4)]
    await asyncio.gather(*map(activity_running, work))
    (pod,) = names(await namespace.pods(WORKERS))
    async with watched_pods(namespace, WORKERS) as watch:
        await namespace.kubectl("delete", "pod", pod, "--wait=false")
        reports = await asyncio.gather(*(each.result() for each in work))
        await watch.until_gone(pod)

    assert watch.ends(pod)["exitCode"] == 0
    assert {report["steps"][0]["pod"] for report in reports} == {pod}
    assert not (await audit(temporal.client, [each.id for each in work])).problems


async def test_deleted_pod_hands_over_what_outlives_its_drain(
    namespace: Namespace, release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """What is longer than the drain is cancelled and retried elsewhere; the pod still ends itself in time."""
    drain = 4
    await release.install(values.one(settings={"drainTimeoutSeconds": drain}))
    work = await start(temporal.client, activity="nap", seconds=drain + 8)
    await activity_running(work)
    (pod,) = names(await namespace.pods(WORKERS))
    async with watched_pods(namespace, WORKERS) as watch:
        await namespace.kubectl("delete", "pod", pod, "--wait=false")
        log = await namespace.logged(f"pod/{pod}", "drain timeout passed, activity cancelled")
        report = await work.result()
        await watch.until_gone(pod)

    (step,) = report["steps"]
    assert "nap" in log
    assert step["attempt"] == 2
    assert step["pod"] != pod
    end = watch.ends(pod)
    assert end["exitCode"] == 0
    spare = watch.deadlines[pod] - datetime.fromisoformat(end["finishedAt"])
    assert spare > timedelta(seconds=5), f"only {spare} was left of the grace period"


async def test_grace_period_is_longer_than_the_drain(
    namespace: Namespace, release: Release, values: FleetValues
) -> None:
    """The kubelet waits longer than the worker's own deadline, so that nothing is ever killed by it."""
    await release.install(values.one())
    (pod,) = await namespace.pods(WORKERS)

    assert pod["spec"]["terminationGracePeriodSeconds"] > DRAIN_SECONDS + 10

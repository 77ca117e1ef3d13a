"""Two builds side by side, from the first pod of the second to the last of the first."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from e2e_cluster import Namespace, Release, names
from e2e_load import first_step_done, load, start
from e2e_rollout import Laptop
from e2e_temporal import TemporalNamespace, audit
from e2e_values import QUEUE, FleetValues, Values, merged

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

RATE = 20
WINDOW = 6 * RATE
"""Workflows that are started on each step of the ramp."""
FORGOTTEN_TIMEOUT = timedelta(seconds=120)
"""How long the server may take to forget who has polled a task queue."""
BUSY: Values = {"resources": {"requests": {"cpu": "300m"}}}


@pytest.mark.heavy
async def test_green_takes_over_from_blue_under_load_without_failed_or_repeated_work(
    namespace: Namespace, release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """Under 20 workflows a second: ramp 10, 50, 100, promote, drain, retire; pinned runs stay on blue."""
    blue, green = values.images.first, values.images.second
    await release.install(values.one(**BUSY))
    old = [await start(temporal.client, steps=3, waits=True) for _ in range(10)]
    moving = await start(temporal.client, "AutoUpgradeSteps", steps=2, waits=True)
    await asyncio.gather(*map(first_step_done, [*old, moving]))
    marks: dict[float, tuple[float, float]] = {}
    async with load(temporal.client, rate=RATE) as traffic:
        await release.upgrade(values.both("blue", **BUSY))
        beside = traffic.now
        for percentage in (10, 50, 100):
            await release.upgrade(values.both("blue", "green", percentage, **BUSY))
            begin = traffic.now
            await traffic.more(WINDOW)
            marks[percentage] = (begin, traffic.now)
        await release.upgrade(values.both("green", **BUSY))
        promoted = traffic.now
        for handle in [*old, moving]:
            await handle.signal("proceed")
        await traffic.more(WINDOW)
    result = await traffic.finish()

    assert not result.audit.problems, result.audit.problems[:10]
    assert result.audit.attempts == len(result.all)
    assert len(result.audit.redelivered) <= len(result.all) / 100, result.audit.redelivered[:10]
    assert result.builds(until=beside) == {blue: result.builds(until=beside)[blue]}
    assert 0.02 < share(result.builds(*marks[10]), green) < 0.25
    assert 0.35 < share(result.builds(*marks[50]), green) < 0.65
    assert set(result.builds(*marks[100])) == {green}
    assert set(result.builds(since=promoted)) == {green}
    assert set(result.builds()) == {blue, green}, "a pinned workflow was executed by both builds"

    assert (await moving.result())["workflow_builds"] == [blue, green]
    for handle in old:
        await handle.signal("proceed")
    reports = await asyncio.gather(*(each.result() for each in old))
    assert [report["workflow_builds"] for report in reports] == [[blue] * 3] * 10
    assert not (await audit(temporal.client, [each.id for each in old])).problems

    await temporal.drained(QUEUE, blue)
    await release.upgrade(values.of({"green": values.green}))
    assert names(await namespace.objects("deployments")) == ["fleet-e2e-green"]


async def test_rollback_mid_ramp_sends_new_work_to_the_old_build_again(
    release: Release,
    values: FleetValues,
    temporal: TemporalNamespace,
    laptop: Laptop,
) -> None:
    """`fleet rollout rollback` in the middle of a ramp ends it; what the new build began, it finishes."""
    blue, green = values.images.first, values.images.second
    await release.install(values.both("blue"))
    async with load(temporal.client, rate=5) as traffic:
        await laptop.rollout("ramp", QUEUE, green, "--percentage", "50", "--yes")
        await traffic.more(40)
        await laptop.rollout("rollback", QUEUE, "--yes")
        rolled_back = traffic.now
        await traffic.more(20)
    result = await traffic.finish()

    assert not result.audit.problems
    assert result.builds(until=rolled_back)[green] > 5
    assert set(result.builds(since=rolled_back)) == {blue}
    assert not (await temporal.routing(QUEUE)).ramping_deployment_version.build_id


async def test_helm_rollback_mid_ramp_restores_the_routing_of_the_revision(
    release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """`helm rollback` brings back pods and routing of an earlier revision, a ramp that goes down included."""
    blue = values.images.first
    await release.install(values.both("blue"))
    await release.upgrade(values.both("blue", "green", 50))
    assert (await temporal.routing(QUEUE)).ramping_version_percentage == 50
    await release.rollback(1)

    routing = await temporal.routing(QUEUE)
    assert routing.current_deployment_version.build_id == blue
    assert not routing.ramping_deployment_version.build_id
    reports = [await (await start(temporal.client)).result() for _ in range(5)]
    assert {report["workflow_builds"][0] for report in reports} == {blue}


async def test_upgrade_refuses_a_ramp_that_goes_down_unasked(
    release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """A smaller share than the server's is refused with a reason, unless the values allow it."""
    await release.install(values.both("blue", "green", 50))
    refused = await release.upgrade(values.both("blue", "green", 10), check=False)
    assert refused.code
    assert (await temporal.routing(QUEUE)).ramping_version_percentage == 50

    allowed: Values = {"rollout": {"allowRampDown": True}}
    await release.upgrade(values.both("blue", "green", 10, **allowed))
    assert (await temporal.routing(QUEUE)).ramping_version_percentage == 10


async def test_build_that_never_gets_ready_never_gets_traffic(
    namespace: Namespace, release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """Helm waits in vain for a build whose dependency is away, says so, and new work stays where it was."""
    blue = values.images.first
    await release.install(values.one())
    broken = merged(values.green, {"env": {"E2E_DEPENDENCY": "away"}})
    wanted = values.of({"blue": values.blue, "green": broken}, routing={"current": "green"})
    async with load(temporal.client, rate=2) as traffic:
        failed = await release.upgrade(wanted, check=False, timeout=30)
        await traffic.more(6)
    result = await traffic.finish()

    assert failed.code
    assert "context deadline exceeded" in failed.text
    assert not result.audit.problems
    assert set(result.builds()) == {blue}
    assert (await temporal.routing(QUEUE)).current_deployment_version.build_id == blue
    (pod,) = await namespace.pods("temporal-fleet/build=green")
    await namespace.logged(f"pod/{pod['metadata']['name']}", "the dependency is away")


async def test_build_that_never_polls_never_gets_traffic(
    namespace: Namespace, release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """Without --wait the Job waits for pollers in vain, names build and task queue, and changes nothing."""
    blue, green = values.images.first, values.images.second
    await release.install(values.one())
    broken = merged(values.green, {"env": {"FLEET_NO_SUCH_SETTING": "1"}})
    wanted = merged(
        values.of({"blue": values.blue, "green": broken}, routing={"current": "green"}),
        {"hooks": {"routing": {"pollerTimeoutSeconds": 15}}},
    )
    failed = await release.upgrade(wanted, check=False, wait=False)

    assert failed.code
    message = failed.text + await namespace.logs("job/fleet-routing")
    assert green in message
    assert (await temporal.routing(QUEUE)).current_deployment_version.build_id == blue
    assert (await (await start(temporal.client)).result())["workflow_builds"] == [blue]


async def test_progressive_apply_walks_the_steps(
    release: Release, values: FleetValues, temporal: TemporalNamespace, laptop: Laptop
) -> None:
    """`fleet rollout apply --steps` ramps step by step to what the values say and then promotes."""
    green = values.images.second
    manual: Values = {"rollout": {"mode": "manual"}}
    await release.install(values.both("blue"))
    await release.upgrade(values.both("green", **manual))
    assert (await temporal.routing(QUEUE)).current_deployment_version.build_id != green
    routing = await laptop.routing_file()
    planned = await laptop.rollout("plan", "--routing", routing, "--steps", "10,50,100")
    assert green in planned.stdout
    applied = await laptop.rollout(
        *("apply", "--routing", routing, "--yes", "--steps", "10,50,100", "--pause", "2s")
    )

    assert [step for step in ("10", "50") if f"{step} %" not in applied.text] == []
    assert (await temporal.routing(QUEUE)).current_deployment_version.build_id == green
    again = await laptop.rollout("apply", "--routing", routing, "--yes")
    assert again.code == 0


async def test_drained_build_is_retired_and_an_open_one_is_not(
    release: Release, values: FleetValues, temporal: TemporalNamespace, laptop: Laptop
) -> None:
    """`fleet rollout retire` explains what blocks it, and deletes the record once nothing does."""
    blue = values.images.first
    await release.install(values.both("blue"))
    run = await start(temporal.client, steps=2, waits=True)
    await first_step_done(run)
    await release.upgrade(values.both("green"))
    blocked = await laptop.rollout("retire", QUEUE, blue, "--yes", check=False)
    assert blocked.code == 1
    assert run.id in blocked.text, blocked

    await run.signal("proceed")
    await run.result()
    await temporal.drained(QUEUE, blue)
    await release.upgrade(values.of({"green": values.green}))
    async with asyncio.timeout(FORGOTTEN_TIMEOUT.total_seconds()):
        while (retired := await laptop.rollout("retire", QUEUE, blue, "--yes", check=False)).code:
            assert "poll" in retired.text, retired
            await asyncio.sleep(5)
    assert await temporal.build_ids(QUEUE) == {values.images.second}


def share(counts: dict[str, int], build_id: str) -> float:
    """Return the part of the workflows that one build executed."""
    return counts[build_id] / sum(counts.values())

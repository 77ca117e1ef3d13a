"""What the guard lets go, with real open workflows; and the way from unversioned workers to builds and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from rollout_workers import (
    SHOWN_UNVERSIONED,
    build,
    fast_server,
    fleet,
    observed_until,
    route,
    start_fleet,
    start_orders,
    write_routing,
)
from temporalio.client import Client, WorkflowHandle
from temporalio.common import VersioningBehavior

from temporal_fleet.rollout import Server, observe, observe_twice
from temporal_fleet.versioning import UNVERSIONED, BuildStatus, Routing

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    # Workers, commands and server share the processors, with other tests beside them.
    pytest.mark.timeout(150),
]

PINNED, AUTO = VersioningBehavior.PINNED, VersioningBehavior.AUTO_UPGRADE


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    """A client of a server that drains quickly; each test has a Worker Deployment of its own."""
    async with fast_server() as connected:
        yield connected


async def builds_of(order: WorkflowHandle[object, list[str]]) -> list[str]:
    """Let an order finish; returns the builds that worked on it."""
    await order.signal("finish")
    return await order.result()


async def test_guard_without_an_installed_file_or_a_removed_build_needs_no_server(
    client: Client, tmp_path: Path
) -> None:
    """Before the first installation there is no server to ask, and nothing to lose."""
    routing = write_routing(tmp_path / "routing.json", "same", {"blue": "v1"}, "blue")
    nowhere = {"TEMPORAL_ADDRESS": "127.0.0.1:1"}

    first = await start_fleet(
        client, "rollout", "guard", "--installed", str(tmp_path / "no.json"), **nowhere
    )
    same = await start_fleet(
        client, "rollout", "guard", "--installed", routing, "--next", routing, **nowhere
    )
    piped = await start_fleet(client, "rollout", "guard", "--installed", "-", **nowhere)

    assert (await first.ended()).code == 0
    assert (await piped.ended()).code == 0
    assert (await same.ended()).code == 0


async def test_guard_refuses_to_remove_a_build_with_open_pinned_runs_and_names_them(
    client: Client, tmp_path: Path
) -> None:
    """An upgrade that would leave workflows without workers is refused; by name it can be forced."""
    name = "guarded"
    installed = write_routing(tmp_path / "a.json", name, {"blue": "v1", "green": "v2"}, "green")
    wanted = write_routing(tmp_path / "b.json", name, {"green": "v2"}, "green")
    guard = ("rollout", "guard", "--installed", installed, "--next", wanted)
    async with build(client, name, "v1"), build(client, name, "v2"):
        await route(client, name, "v1")
        orders = await start_orders(client, name, 2)
        await observed_until(client, name, lambda seen: seen.builds["v1"].open_pinned.count == 2)
        await route(client, name, "v2")

        refused = await fleet(client, *guard)
        forced = await fleet(client, *guard, "--force", "guarded/v1", "--force", "other/v1")
        for order in orders:
            await order.signal("finish")
        await observed_until(
            client, name, lambda seen: seen.builds["v1"].status is BuildStatus.DRAINED
        )
        allowed = await fleet(client, *guard)

    assert refused.code == 1
    assert "guarded/v1 must not go" in refused.err
    assert "2 open pinned runs would have no workers" in refused.err
    for order in orders:
        assert f"{order.id} (run {order.first_execution_run_id})" in refused.err
    assert forced.code == 0
    assert "guarded/v1 goes because it is FORCED" in forced.out
    assert "--force other/v1" in forced.out
    assert (allowed.code, "guarded/v1 may go: it is drained" in allowed.out) == (0, True)


async def test_guard_refuses_to_remove_one_of_two_keys_that_share_a_build_with_open_runs(
    client: Client, tmp_path: Path
) -> None:
    """A build stays current, but the key that alone runs the activities of its open run may not go."""
    name, builds = "split", {"blue": "v1"}
    both = {"brain": "workflows", "muscle": "activities"}
    installed = write_routing(tmp_path / "a.json", name, builds, "blue", workers=both)
    wanted = write_routing(
        tmp_path / "b.json", name, builds, "blue", workers={"brain": "workflows"}
    )
    guard = ("rollout", "guard", "--installed", installed, "--next", wanted)
    async with build(client, name, "v1"):
        await route(client, name, "v1")
        (order,) = await start_orders(client, name)
        await observed_until(client, name, lambda seen: seen.builds["v1"].open_pinned.count == 1)
        refused = await fleet(client, *guard)
        forced = await fleet(client, *guard, "--force", "muscle/v1")
        await order.signal("finish")

    assert refused.code == 1
    assert "muscle/v1 must not go" in refused.err
    assert "split-order-0" in refused.err
    assert "none of its workers would run the workload 'activities' any more" in refused.err
    assert forced.code == 0, forced.text


async def test_observe_twice_sees_a_run_that_began_a_moment_ago(client: Client) -> None:
    """The list of runs lags behind, so a build that seems to have none is looked at again."""
    name = "moment"
    async with build(client, name, "v1"):
        await route(client, name, "v1")
        (order,) = await start_orders(client, name)
        seen = await observe_twice(Server(client), name, ["v1"])
        await order.signal("finish")

    assert seen.builds["v1"].open_pinned.count == 1


async def test_guard_of_an_uninstallation_asks_for_open_runs_only(
    client: Client, tmp_path: Path
) -> None:
    """A fleet may go although a build is current, but not while any workflow is open."""
    name = "uninstalled"
    installed = write_routing(tmp_path / "a.json", name, {"blue": "v1"}, "blue")
    async with build(client, name, "v1", behavior=AUTO):
        await route(client, name, "v1")
        (order,) = await start_orders(client, name)
        await observed_until(client, name, lambda seen: seen.builds["v1"].open_runs.count == 1)
        refused = await fleet(client, "rollout", "guard", "--installed", installed)
        await order.signal("finish")
        await observed_until(client, name, lambda seen: not seen.builds["v1"].open_runs.count)
        allowed = await fleet(client, "rollout", "guard", "--installed", installed)

    assert refused.code == 1
    assert "1 open run would have no workers: uninstalled-order-0" in refused.err
    assert "`helm upgrade` with the values in use" in refused.err
    assert allowed.code == 0, allowed.text


async def test_guard_of_a_move_to_another_namespace_asks_the_one_that_is_left(
    client: Client, tmp_path: Path
) -> None:
    """Runs that workers would leave behind are seen in their namespace, though settings name the new one."""
    name, address = "moved", client.service_client.config.target_host
    there = {"address": address, "namespace": client.namespace}
    builds = {"blue": "v1"}
    installed = write_routing(tmp_path / "a.json", name, builds, "blue", temporal=there)
    elsewhere = {**there, "namespace": "elsewhere"}
    wanted = write_routing(tmp_path / "b.json", name, builds, "blue", temporal=elsewhere)
    guard = ("rollout", "guard", "--installed", installed, "--next", wanted)
    async with build(client, name, "v1"):
        await route(client, name, "v1")
        (order,) = await start_orders(client, name)
        await observed_until(client, name, lambda seen: seen.builds["v1"].open_runs.count == 1)
        refused = await fleet(client, *guard, TEMPORAL_NAMESPACE="elsewhere")
        await order.signal("finish")
        await observed_until(client, name, lambda seen: not seen.builds["v1"].open_runs.count)
        allowed = await fleet(client, *guard, TEMPORAL_NAMESPACE="elsewhere")

    assert refused.code == 1
    assert "moved-order-0" in refused.err
    assert "namespace 'default' becomes 'elsewhere'" in refused.err
    assert 'forceRemoveBuilds: ["moved/v1"]' in refused.err
    assert allowed.code == 0, allowed.text


async def test_guard_that_cannot_ask_says_what_it_did_not_do_and_the_way_around(
    client: Client, tmp_path: Path
) -> None:
    """Without an answer nothing is allowed; people are told once what is waited for, and how to go on."""
    installed = write_routing(tmp_path / "a.json", "unreachable", {"blue": "v1"}, "blue")
    nowhere = {"TEMPORAL_ADDRESS": "127.0.0.1:1", "FLEET_CONNECTION_DEADLINE_SECONDS": "2"}
    ended = await fleet(client, "rollout", "guard", "--installed", installed, **nowhere)

    assert ended.code == 3
    assert ended.err.count("waiting for Temporal at 127.0.0.1:1") == 1
    assert "nothing was changed" in ended.err
    assert "--no-hooks" in ended.err


@pytest.mark.parametrize("behavior", [PINNED, AUTO])
async def test_open_runs_move_from_unversioned_to_the_first_build_with_their_next_task(
    client: Client, behavior: VersioningBehavior
) -> None:
    """Runs without versioning continue on the current build, and from then on behave as it declares."""
    name = f"migrated-{behavior.name.lower().replace('_', '-')}"
    async with build(client, name, UNVERSIONED):
        (order,) = await start_orders(client, name)
        before = await observed_until(
            client, name, lambda seen: seen.builds[UNVERSIONED].open_runs.count == 1
        )
        async with build(client, name, "v1", behavior=behavior):
            still = await observe(Server(client), name)
            await route(client, name, "v1")
            # The unversioned worker keeps polling, and gets nothing any more.
            await order.signal("poke")
            after = await observed_until(
                client, name, lambda seen: seen.builds["v1"].open_runs.count == 1
            )
            builds = await builds_of(order)

    assert not before.exists
    assert before.builds[UNVERSIONED].status is BuildStatus.CURRENT
    assert still.routing == Routing(None)
    assert after.builds["v1"].open_pinned.count == (1 if behavior is PINNED else 0)
    assert builds == [SHOWN_UNVERSIONED, "v1"]


async def test_open_runs_on_the_way_back_to_unversioned_stay_when_pinned(client: Client) -> None:
    """Pinned runs end on their build; auto-upgrade runs continue on unversioned workers."""
    name = "back"
    auto = f"{name}-auto"
    # Without a cache, as after a restart: a cached run stays with its worker until that stops.
    async with (
        build(client, name, UNVERSIONED),
        build(client, name, "v1", cache=0),
        build(client, auto, UNVERSIONED),
        build(client, auto, "v1", behavior=AUTO, cache=0),
    ):
        for deployment in (name, auto):
            await route(client, deployment, "v1")
        (pinned,) = await start_orders(client, name)
        (follows,) = await start_orders(client, auto)
        for deployment in (name, auto):
            await observed_until(
                client, deployment, lambda seen: seen.builds["v1"].open_runs.count == 1
            )
            await route(client, deployment, UNVERSIONED)
        (new,) = await start_orders(client, name, prefix="new")
        ended = [await builds_of(order) for order in (pinned, follows, new)]
        seen = await observe(Server(client), name)

    assert ended == [["v1"], ["v1", SHOWN_UNVERSIONED], [SHOWN_UNVERSIONED]]
    assert seen.routing == Routing(None)
    assert seen.builds["v1"].status in (BuildStatus.DRAINING, BuildStatus.DRAINED)


async def test_guard_that_cannot_ask_where_the_work_is_says_with_what_it_asked(
    client: Client, tmp_path: Path
) -> None:
    """Who moves to a server with other credentials is told that the old one was asked with the new ones."""
    name, builds = "left", {"blue": "v1"}
    old = {"address": "127.0.0.1:1", "namespace": client.namespace}
    new = {**old, "address": client.service_client.config.target_host}
    installed = write_routing(tmp_path / "a.json", name, builds, "blue", temporal=old)
    wanted = write_routing(tmp_path / "b.json", name, builds, "blue", temporal=new)
    guard = ("rollout", "guard", "--installed", installed, "--next", wanted)
    ended = await fleet(client, *guard, FLEET_CONNECTION_DEADLINE_SECONDS="2")

    assert ended.code == 3
    assert "The affected runs are on 127.0.0.1:1, which the new values no longer use" in ended.err
    assert "queried with the new values' credentials" in ended.err
    assert "--no-hooks" in ended.err

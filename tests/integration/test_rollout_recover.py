"""Runs that are stuck on a bad build are moved off it, on a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from rollout_workers import (
    BrokenOrder,
    build,
    fast_server,
    fleet,
    observed_until,
    pinned_count,
    route,
    start_orders,
    until,
)
from temporalio.client import Client, WorkflowHandle

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    # Workers, commands and server share the processors, with other tests beside them.
    pytest.mark.timeout(150),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    """A client of a server; each test has a Worker Deployment of its own."""
    async with fast_server() as connected:
        yield connected


@asynccontextmanager
async def stuck_orders(
    client: Client, deployment: str, count: int
) -> AsyncIterator[Sequence[WorkflowHandle[Any, Any]]]:
    """Run a bad and a good build, of which the good one is current again, with stuck orders on the bad one."""
    async with (
        build(client, deployment, "good"),
        build(client, deployment, "bad", order=BrokenOrder),
    ):
        await route(client, deployment, "bad")
        orders = await start_orders(client, deployment, count)
        await observed_until(
            client, deployment, lambda seen: seen.builds["bad"].open_pinned.count == count
        )
        for order in orders:
            await order.signal("finish")
        for order in orders:
            await until(order.describe, is_stuck)
        await route(client, deployment, "good")
        yield [client.get_workflow_handle(order.id) for order in orders]


def is_stuck(description: Any) -> bool:
    """Return whether a workflow task of a run has failed and is tried again."""
    return bool(description.raw_description.pending_workflow_task.attempt > 1)


async def test_recover_to_a_good_build_lets_stuck_runs_finish_there(client: Client) -> None:
    """Runs go on from where they are, on the build that they are pinned to instead."""
    name = "moved"
    async with stuck_orders(client, name, 3) as orders:
        dry = await fleet(
            client, "rollout", "recover", name, "--from", "bad", "--to", "good", "--dry-run"
        )
        untouched = await pinned_count(client, name, "bad")
        moved = await fleet(
            client, "rollout", "recover", name, "--from", "bad", "--to", "good", "--yes"
        )
        results = [await order.result() for order in orders]

    assert dry.code == 0, dry.text
    assert "3 open runs pinned to build ID 'bad'" in dry.out
    assert "moved-order-2" in dry.out
    assert untouched == 3
    assert moved.code == 0, moved.text
    assert "3 moved" in moved.out
    assert "0 open runs left there" in moved.out
    assert results == [["bad", "good"]] * 3


@pytest.mark.parametrize("reset", ["first-workflow-task", "last-workflow-task"])
async def test_recover_by_reset_starts_runs_anew_on_the_current_build(
    client: Client, reset: str
) -> None:
    """A reset run is a new run on the good build; signals that came later are applied again."""
    name = f"reset-{reset[:5].rstrip('-')}"
    async with stuck_orders(client, name, 2) as orders:
        moved = await fleet(
            client,
            *("rollout", "recover", name, "--from", "bad", "--reset", reset, "--yes"),
            *("--output", "json"),
        )
        results = [await order.result() for order in orders]

    assert moved.code == 0, moved.text
    report = json.loads(moved.out)
    assert report["counts"] == {"moved": 2}
    assert report["recovery"]["to"] == "good"
    for result in report["results"]:
        assert result["new_run_id"] not in (None, result["run"]["run_id"])
    assert results == [["good"]] * 2


async def test_recover_with_a_query_moves_only_what_matches_to_follow_the_routing(
    client: Client,
) -> None:
    """One run can be tried first; with auto-upgrade it goes where new work goes."""
    name = "some"
    recover = ("rollout", "recover", name, "--from", "bad", "--auto-upgrade", "--yes")
    async with stuck_orders(client, name, 2) as orders:
        moved = await fleet(client, *recover, "--query", "WorkflowId = 'some-order-1'")
        result = await orders[1].result()
        left = await pinned_count(client, name, "bad")
        wrong = await fleet(client, *recover, "--query", "WorkflowId is what")
        await orders[0].terminate()

    assert moved.code == 0, moved.text
    assert "1 moved" in moved.out
    assert result == ["bad", "good"]
    assert left == 1
    assert wrong.code == 1
    assert "is refused by the server" in wrong.err


async def test_recover_to_where_nobody_polls_or_runs_would_stay_is_refused(
    client: Client,
) -> None:
    """Runs are never moved to where no worker waits for them, nor to the bad build itself."""
    name = "nowhere"
    async with build(client, name, "good"):
        pass
    async with build(client, name, "bad", order=BrokenOrder):
        await route(client, name, "bad")
        await observed_until(client, name, lambda seen: not seen.builds["good"].has_pollers)
        recover = ("rollout", "recover", name, "--from", "bad", "--yes")
        unpolled = await fleet(client, *recover, "--to", "good")
        same = await fleet(client, *recover, "--auto-upgrade")

    assert unpolled.code == 1
    assert "nobody polls task queue 'nowhere' (workflow)" in unpolled.err
    assert same.code == 1
    assert "Roll back first" in same.err


async def test_recover_without_a_target_is_a_usage_error(client: Client) -> None:
    """Where to is for people to say."""
    ended = await fleet(client, "rollout", "recover", "any", "--from", "bad", "--yes")

    assert ended.code == 2
    assert "say where to" in ended.err

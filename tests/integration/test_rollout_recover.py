"""Runs that are stuck on a bad build are moved off it, on a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from rollout_workers import (
    BrokenOrder,
    Order,
    build,
    fast_server,
    fleet,
    observed_until,
    pinned_count,
    route,
    start_orders,
    until,
)
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from temporal_fleet.rollout import (
    Outcome,
    Recovery,
    ResetTo,
    RunResult,
    Server,
    find_runs,
    recover_runs,
)
from temporal_fleet.versioning import OpenRun

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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def left(client: Client) -> AsyncIterator[Sequence[WorkflowHandle[Any, Any]]]:
    """Two orders of Worker Deployment ``brackets``: one of its bad build, one of its good one."""
    async with left_orders(client, "brackets", 2) as (order, ended):
        await ended.terminate()
        await observed_until(
            client, "brackets", lambda seen: seen.builds["bad"].open_pinned.count == 1
        )
        yield [order, client.get_workflow_handle("brackets-kept-0")]
        await order.terminate()


@asynccontextmanager
async def stuck_orders(
    client: Client, deployment: str, count: int, *, poked: bool = False
) -> AsyncIterator[Sequence[WorkflowHandle[Any, Any]]]:
    """Run a bad and a good build, of which the good one is current again, with stuck orders on the bad one.

    Those that were poked got stuck in their third workflow task, the others in their second.
    """
    async with (
        build(client, deployment, "good"),
        build(client, deployment, "bad", order=BrokenOrder),
    ):
        await route(client, deployment, "bad")
        orders = await start_orders(client, deployment, count)
        await observed_until(
            client, deployment, lambda seen: seen.builds["bad"].open_pinned.count == count
        )
        for order in orders if poked else ():
            await order.signal("poke")
            await until(partial(completed_tasks, order), lambda count: count > 1)
        for order in orders:
            await order.signal("finish")
        for order in orders:
            await until(order.describe, is_stuck)
        await route(client, deployment, "good")
        yield [client.get_workflow_handle(order.id) for order in orders]


@workflow.defn(name="Order")
class EndlessOrder:
    """Continues as new whenever it is poked."""

    def __init__(self) -> None:
        self.pokes = 0

    @workflow.run
    async def run(self) -> None:
        """Wait, and begin again."""
        await workflow.wait_condition(lambda: self.pokes > 0)
        workflow.continue_as_new()

    @workflow.signal
    def poke(self) -> None:
        """Let it go on in another run."""
        self.pokes += 1


@asynccontextmanager
async def left_orders(
    client: Client, deployment: str, count: int, *, order: type = Order
) -> AsyncIterator[Sequence[WorkflowHandle[Any, Any]]]:
    """Run two builds that both work, with orders that are pinned to the bad one; the good one is current."""
    async with (
        build(client, deployment, "good", order=order),
        build(client, deployment, "bad", order=order),
    ):
        await route(client, deployment, "good")
        kept = await start_orders(client, deployment, prefix="kept")
        await observed_until(
            client, deployment, lambda seen: seen.builds["good"].open_pinned.count == 1
        )
        await route(client, deployment, "bad")
        orders = await start_orders(client, deployment, count)
        await observed_until(
            client, deployment, lambda seen: seen.builds["bad"].open_pinned.count == count
        )
        await route(client, deployment, "good")
        yield [client.get_workflow_handle(order.id) for order in orders]
        await kept[0].terminate()


async def override_of(order: WorkflowHandle[Any, Any]) -> str | None:
    """Return the build ID that an order is pinned to by an override; None without an override."""
    info = (await order.describe()).raw_description.workflow_execution_info.versioning_info
    return info.versioning_override.pinned.version.build_id or None


async def completed_tasks(order: WorkflowHandle[Any, Any]) -> int:
    """Return how many workflow tasks of an order were completed."""
    events = (await order.fetch_history()).events
    kinds = [event.event_type for event in events]
    return kinds.count(EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)


async def carried_out(server: Server, recovery: Recovery, runs: Sequence[OpenRun]) -> RunResult:
    """Carry out a recovery of one run."""
    results: list[RunResult] = []
    await recover_runs(server, recovery, runs, results.append)
    assert len(results) == 1
    return results[0]


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
    assert "no worker polls task queue 'nowhere' (workflow, activity)" in unpolled.err
    assert same.code == 1
    assert "Roll back first" in same.err


async def test_recover_without_a_target_is_a_usage_error(client: Client) -> None:
    """Where to is for people to say."""
    ended = await fleet(client, "rollout", "recover", "any", "--from", "bad", "--yes")

    assert ended.code == 2
    assert "say where to" in ended.err


@pytest.mark.parametrize(
    ("reset", "expected"),
    [("first-workflow-task", ["mended"]), ("last-workflow-task", ["bad", "mended"])],
)
async def test_recover_by_reset_to_a_named_build_lands_there_wherever_it_starts(
    client: Client, reset: str, expected: list[str]
) -> None:
    """The named build works on a reset run, although another is current and the bad one was at work before."""
    name = f"named-{reset[:5].rstrip('-')}"
    recover = ("rollout", "recover", name, "--from", "bad", "--reset", reset, "--to", "mended")
    async with build(client, name, "mended"), stuck_orders(client, name, 1, poked=True) as orders:
        moved = await fleet(client, *recover, "--yes")
        async with asyncio.timeout(40):
            result = await orders[0].result()

    assert moved.code == 0, moved.text
    assert "1 moved" in moved.out
    assert result == expected


@pytest.mark.parametrize("reset", [None, *ResetTo])
async def test_recover_of_a_run_that_completed_meanwhile_leaves_it_completed(
    client: Client, reset: ResetTo | None
) -> None:
    """What is done is not begun anew: people took it for open when they looked at the list."""
    name, server = f"completed-{reset}", Server(client)
    recovery = Recovery(name, "bad", "good", reset)
    async with left_orders(client, name, 1) as (order,):
        runs = await find_runs(server, recovery)
        await order.signal("finish")
        await order.result()
        result = await carried_out(server, recovery, runs)
        now = await order.describe()

    assert result.outcome is Outcome.ENDED
    assert now.status is WorkflowExecutionStatus.COMPLETED
    assert now.run_id == runs[0].run_id


@pytest.mark.parametrize("reset", [None, *ResetTo])
async def test_recover_of_a_run_that_continued_as_new_meanwhile_leaves_the_next_one_running(
    client: Client, reset: ResetTo | None
) -> None:
    """The run that goes on under the same workflow ID is not terminated for a reset of the one before."""
    name, server = f"continued-{reset}", Server(client)
    recovery = Recovery(name, "bad", "good", reset)
    async with left_orders(client, name, 1, order=EndlessOrder) as (order,):
        runs = await find_runs(server, recovery)
        await order.signal("poke")
        after = await until(order.describe, lambda now: now.run_id != runs[0].run_id)
        result = await carried_out(server, recovery, runs)
        now = await order.describe()
        await order.terminate()

    assert result.outcome is Outcome.ENDED
    assert now.run_id == after.run_id
    assert now.status is WorkflowExecutionStatus.RUNNING


async def test_recover_with_alternatives_in_the_query_moves_runs_of_the_bad_build_only(
    client: Client,
) -> None:
    """A query chooses among the runs of the bad build, also when it holds an OR."""
    name = "either"
    query = f"WorkflowId = '{name}-order-1' OR WorkflowId = '{name}-kept-0'"
    recover = ("rollout", "recover", name, "--from", "bad", "--auto-upgrade", "--yes")
    async with left_orders(client, name, 2) as orders:
        moved = await fleet(client, *recover, "--query", query, "--output", "json")
        left = await pinned_count(client, name, "bad")
        for order in orders:
            await order.terminate()

    assert moved.code == 0, moved.text
    results = json.loads(moved.out)["results"]
    assert [each["run"]["workflow_id"] for each in results] == [f"{name}-order-1"]
    assert left == 1


@pytest.mark.parametrize(
    "query",
    [
        "WorkflowType = 'X') OR (WorkflowType = 'Order'",
        "WorkflowType = 'X')) OR ((WorkflowType = 'Order'",
        "WorkflowType = 'X')) OR WorkflowId = 'brackets-order-1' OR ((WorkflowType = 'X'",
        "",
    ],
)
async def test_recover_with_a_query_that_leaves_its_brackets_moves_nothing(
    client: Client, left: Sequence[WorkflowHandle[Any, Any]], query: str
) -> None:
    """No query reaches runs of other builds, or closed ones, and an empty one does not stand for all."""
    recover = ("rollout", "recover", "brackets", "--from", "bad", "--to", "good", "--yes")

    ended = await fleet(client, *recover, "--query", query)

    assert ended.code == 1, ended.text
    assert repr(query) in ended.err
    assert ("its brackets do not match" if query else "is refused by the server") in ended.err
    assert [await override_of(order) for order in left] == [None, None]


async def test_recover_of_an_idle_run_hands_it_over_and_says_when_it_moves(client: Client) -> None:
    """Nobody can confirm that a run has moved that has no workflow task; its next one lands there."""
    name = "idle"
    recover = ("rollout", "recover", name, "--from", "bad", "--to", "good", "--yes")
    async with left_orders(client, name, 1) as (order,):
        handed = await fleet(client, *recover)
        await order.signal("finish")
        result = await order.result()

    assert handed.code == 0, handed.text
    assert "1 handed over" in handed.out
    assert "it has no workflow task now and moves with its next one" in handed.out
    assert "0 open runs left there" in handed.out
    assert result == ["bad", "good"]


async def test_recover_to_unversioned_workers_is_refused_unless_runs_follow_the_routing(
    client: Client,
) -> None:
    """No run can be pinned to workers without versioning."""
    name = "back-there"
    async with build(client, name, "bad"):
        await route(client, name, "bad")
        refused = await fleet(
            client, "rollout", "recover", name, "--from", "bad", "--to", "__unversioned__", "--yes"
        )

    assert refused.code == 1
    assert "With --auto-upgrade they follow the routing" in refused.err


async def test_recover_from_a_build_that_gets_new_work_warns(client: Client) -> None:
    """Runs that begin on the bad build meanwhile would be left there, so people are told what comes first."""
    name = "leak"
    dry = ("rollout", "recover", name, "--from", "bad", "--to", "good", "--dry-run")
    ramp = ("rollout", "ramp", name, "bad", "--percentage", "10", "--yes")
    async with build(client, name, "good"), build(client, name, "bad"):
        await route(client, name, "bad")
        current = await fleet(client, *dry)
        await route(client, name, "good")
        former = await fleet(client, *dry)
        ramped = await fleet(client, *ramp)
        ramping = await fleet(client, *dry)

    cure = f"Route it away first: fleet rollout rollback {name}"
    assert [each.code for each in (current, former, ramped, ramping)] == [0] * 4
    assert "warning: build ID 'bad' is current, so new work still lands there" in current.err
    assert "is ramping, so 10 % of new work still lands there" in ramping.err
    assert cure in current.err
    assert cure in ramping.err
    assert "warning" not in former.err

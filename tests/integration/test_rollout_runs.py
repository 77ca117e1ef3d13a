"""Open runs of builds are found in the list of a real server, paused ones too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

import pytest
import pytest_asyncio
from rollout_workers import (
    FAST_DRAINAGE,
    build,
    fleet,
    observed_until,
    route,
    start_orders,
    until,
)
from temporalio.api.workflowservice.v1 import (
    PauseWorkflowExecutionRequest,
    UnpauseWorkflowExecutionRequest,
)
from temporalio.client import Client
from temporalio.common import VersioningBehavior

from temporal_fleet.rollout import Server, runs
from temporal_fleet.rollout.runs import (
    count_runs,
    list_runs,
    pinned_runs_of,
    read_open_runs,
    read_runs_of_builds,
    runs_of,
    unversioned_runs_on,
)
from temporal_fleet.testing import dev_server

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    # Workers, commands and server share the processors, with other tests beside them.
    pytest.mark.timeout(150),
]

PAUSING = ("--dynamic-config-value", "frontend.WorkflowPauseEnabled=true")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    """A client of a server that can pause runs; each test has a Worker Deployment of its own."""
    async with dev_server(extra_args=(*FAST_DRAINAGE, *PAUSING)) as environment:
        yield environment.client


async def pause(client: Client, workflow_id: str) -> None:
    """Pause a run."""
    request = PauseWorkflowExecutionRequest(
        namespace=client.namespace, workflow_id=workflow_id, identity="test", reason="test"
    )
    await client.workflow_service.pause_workflow_execution(request)


async def unpause(client: Client, workflow_id: str) -> None:
    """Let a run go on."""
    request = UnpauseWorkflowExecutionRequest(
        namespace=client.namespace, workflow_id=workflow_id, identity="test", reason="test"
    )
    await client.workflow_service.unpause_workflow_execution(request)


async def test_list_and_count_with_a_paused_run_find_it(client: Client) -> None:
    """A run that is paused needs its build like any other, so it is open."""
    name, server = "resting", Server(client)
    condition = pinned_runs_of(name, "v1")
    paused = f"{condition} AND ExecutionStatus = 'Paused'"
    async with build(client, name, "v1"):
        await route(client, name, "v1")
        orders = await start_orders(client, name, 2)
        await until(
            partial(list_runs, server, condition, at_most=None), lambda some: len(some) == 2
        )
        await pause(client, orders[0].id)
        await until(partial(count_runs, server, paused), lambda count: count == 1)
        found = await list_runs(server, condition, at_most=None)
        count = await count_runs(server, condition)
        summary = await read_open_runs(server, condition)
        for order in orders:
            await order.terminate()

    assert [run.workflow_id for run in found] == [order.id for order in orders]
    assert count == 2
    assert summary.count == 2


async def test_recover_of_a_paused_run_moves_it_and_leaves_it_paused(client: Client) -> None:
    """It goes on, on the build that it was moved to, when somebody lets it."""
    name = "woken"
    async with build(client, name, "good"), build(client, name, "bad"):
        await route(client, name, "bad")
        (order,) = await start_orders(client, name)
        await observed_until(client, name, lambda seen: seen.builds["bad"].open_pinned.count == 1)
        await pause(client, order.id)
        await route(client, name, "good")
        paused = f"{pinned_runs_of(name, 'bad')} AND ExecutionStatus = 'Paused'"
        await until(partial(count_runs, Server(client), paused), lambda count: count == 1)
        moved = await fleet(
            client, "rollout", "recover", name, "--from", "bad", "--to", "good", "--yes"
        )
        await unpause(client, order.id)
        await order.signal("finish")
        result = await order.result()

    assert moved.code == 0, moved.text
    # It waits for a signal, so no worker has had a task of it yet.
    assert "1 open run handed over" in moved.out
    assert "0 open runs left there" in moved.out
    assert result == ["bad", "good"]


async def test_list_and_count_on_a_server_that_knows_no_pausing_find_what_runs(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that refuses the name of a status which is new to it is asked without it."""
    name, server = "older", Server(client)
    condition = f"WorkflowId = '{name}-order-0'"
    # To this server another status is as unknown as pausing is to an older one.
    monkeypatch.setattr(runs, "_OPEN", "ExecutionStatus IN ('Running', 'Dreaming')")
    (order,) = await start_orders(client, name)
    await until(partial(count_runs, server, condition), lambda count: count == 1)
    found = await list_runs(server, condition, at_most=None)
    await order.terminate()

    assert [run.workflow_id for run in found] == [order.id]


async def test_runs_of_names_with_quotes_are_found(client: Client) -> None:
    """Temporal allows single quotes in names, so a run behind one must not be overlooked."""
    name, bad, server = "o'clock", "it's", Server(client)
    recover = ("rollout", "recover", name, "--from", bad, "--auto-upgrade", "--yes")
    async with build(client, name, "good"), build(client, name, bad):
        await route(client, name, bad)
        (order,) = await start_orders(client, name)
        await observed_until(client, name, lambda seen: seen.builds[bad].open_pinned.count == 1)
        await route(client, name, "good")
        moved = await fleet(client, *recover)
        await order.signal("finish")
        result = await order.result()
    await client.start_workflow("Order", id="unversioned's", task_queue=name)
    waiting = await until(
        partial(list_runs, server, unversioned_runs_on({name, "other"}), at_most=None), bool
    )
    await client.get_workflow_handle("unversioned's").terminate()

    assert moved.code == 0, moved.text
    # It waits for a signal, so no worker has had a task of it yet.
    assert "1 open run handed over" in moved.out
    assert result == [bad, "good"]
    assert [run.workflow_id for run in waiting] == ["unversioned's"]


async def test_list_runs_over_several_pages_reads_as_many_as_wanted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are read, the oldest first; with a limit, those that were started last."""
    name, server = "pages", Server(client)
    condition = f"TaskQueue = '{name}'"
    monkeypatch.setattr(runs, "_PAGE", 2)
    orders = await start_orders(client, name, 5)
    everything = await until(
        partial(list_runs, server, condition, at_most=None), lambda found: len(found) >= 5
    )
    latest = await list_runs(server, condition, at_most=3)
    for order in orders:
        await order.terminate()

    ids = [order.id for order in orders]
    assert [run.workflow_id for run in everything] == ids
    assert [run.workflow_id for run in latest] == ids[-3:]
    assert all(run.started.utcoffset() == timedelta(0) for run in everything)


@pytest.mark.parametrize("page", [1000, 2], ids=["one-call", "a-call-for-each-build"])
async def test_runs_of_builds_are_told_apart_however_many_there_are(
    client: Client, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Each build has its own runs, pinned and not, whether they are read in one call or build by build."""
    name, server = f"apart-{page}", Server(client)
    monkeypatch.setattr(runs, "_PAGE", page)
    auto = VersioningBehavior.AUTO_UPGRADE
    async with build(client, name, "v1"), build(client, name, "v2", behavior=auto):
        await route(client, name, "v1")
        pinned = await start_orders(client, name, 2, prefix="pinned")
        await first_tasks_done(client, name, "v1", 2)
        await route(client, name, "v2")
        moving = await start_orders(client, name, 1, prefix="moving")
        await first_tasks_done(client, name, "v2", 1)
        found = await read_runs_of_builds(server, name, ["v1", "v2", "v3"])
        for order in (*pinned, *moving):
            await order.terminate()

    shown = {
        build_id: tuple((each.count, {run.workflow_id for run in each.sample}) for each in both)
        for build_id, both in found.items()
    }
    old, new = {order.id for order in pinned}, {order.id for order in moving}
    nothing: tuple[int, set[str]] = (0, set())
    assert shown == {
        "v1": ((2, old), (2, old)),
        "v2": (nothing, (1, new)),
        "v3": (nothing, nothing),
    }


async def first_tasks_done(client: Client, deployment: str, build_id: str, count: int) -> None:
    """Wait until the list shows so many open runs that a build worked on."""
    condition = runs_of(deployment, build_id)
    await until(partial(count_runs, Server(client), condition), lambda found: found == count)

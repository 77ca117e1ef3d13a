"""Where work waits that a worker cannot begin: on the server, or as briefly as can be in the worker."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from running_worker import RunningWorker, address, running_worker
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client, WorkflowHandle

pytestmark = pytest.mark.integration

STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED


ONE_THREAD = {"FLEET_CONCURRENCY_THREADS": "1"}


async def start_activities(
    client: Client, workload: str, function: str, folder: Path, seconds: float, count: int
) -> list[WorkflowHandle[Any, Any]]:
    """Start workflows that each run an activity once."""
    return [
        await client.start_workflow(
            "RunActivity",
            args=[function, str(folder), seconds],
            id=f"{function}-{uuid.uuid4()}",
            task_queue=workload,
        )
        for _ in range(count)
    ]


async def pending(handles: list[WorkflowHandle[Any, Any]]) -> list[PendingActivityInfo]:
    """Return the pending activities once each workflow has one."""
    async with asyncio.timeout(20):
        while True:
            found = [(await handle.describe()).raw_description for handle in handles]
            if all(each.pending_activities for each in found):
                return [each.pending_activities[0] for each in found]


async def spinning(folder: Path, processes: int) -> None:
    """Wait until that many processes have computed."""
    async with asyncio.timeout(30):
        while len(list(folder.glob("spinning.*"))) < processes:
            await asyncio.sleep(0.02)


async def waiting(worker: RunningWorker, pool: str, activities: int) -> None:
    """Wait until the metrics tell that so many activities wait for a process, or a thread."""
    async with asyncio.timeout(20):
        while True:
            lines = (await worker.get("/metrics"))[1].splitlines()
            found = [line for line in lines if line.startswith(f"fleet_{pool}_pool_waiting{{")]
            if found and float(found[0].split()[-1]) == activities:
                return


async def test_backlog_of_a_computing_worker_stays_on_the_server(
    client: Client, tmp_path: Path
) -> None:
    """A worker whose activities all compute accepts one for each process; one started later gets the next."""
    async with running_worker(address(client), "computing") as first:
        await first.logged("polling")
        handles = await start_activities(client, "computing", "spin", tmp_path, 40, 4)
        await spinning(tmp_path, 1)
        states = [activity.state for activity in await pending(handles)]
        assert states.count(STARTED) == 1

        async with running_worker(address(client), "computing"):
            await spinning(tmp_path, 2)
        for handle in handles:
            await handle.terminate()


@pytest.mark.parametrize(("function", "pool"), [("spin", "process"), ("nap_thread", "thread")])
async def test_activity_that_waits_in_a_worker_is_given_back_at_a_drain(
    client: Client, tmp_path: Path, function: str, pool: str
) -> None:
    """What runs may finish; what waits for a process or thread is handed out again, and never begins here."""
    async with running_worker(address(client), environment=ONE_THREAD) as worker:
        await worker.logged("polling")
        handles = await start_activities(client, "sample", function, tmp_path, 3, 3)
        await waiting(worker, pool, 2)
        worker.signal()
        assert await worker.exit_code() == 0

    assert worker.events("drained")[0]["seconds"] < 20, "the drain timeout is 30 s"
    descriptions = [(await handle.describe()).raw_description for handle in handles]
    given_back = [each.pending_activities[0] for each in descriptions if each.pending_activities]
    assert len(given_back) == 2
    for activity in given_back:
        assert activity.last_failure.application_failure_info.type == "WorkerShutdown"
        assert activity.attempt == 2
    assert len(list(tmp_path.iterdir())) == 1


async def test_local_activity_that_waits_for_a_thread_is_given_back_at_a_drain(
    client: Client, tmp_path: Path
) -> None:
    """One that waits never begins here: its retry becomes a timer of the workflow; one that runs may finish."""
    async with running_worker(address(client), environment=ONE_THREAD) as worker:
        await worker.logged("polling")
        handles = [
            await client.start_workflow(
                "RunLocalActivity",
                args=["nap_thread", str(tmp_path), 3.0],
                id=f"local-waits-{uuid.uuid4()}",
                task_queue="sample",
            )
            for _ in range(2)
        ]
        await waiting(worker, "thread", 1)
        worker.signal()
        assert await worker.exit_code() == 0

    assert worker.events("drained")[0]["seconds"] < 20, "the drain timeout is 30 s"
    histories = [(await handle.fetch_history()).events for handle in handles]
    timers = [
        any(event.HasField("timer_started_event_attributes") for event in events)
        for events in histories
    ]
    assert sorted(timers) == [False, True]
    assert (await handles[timers.index(False)].result()) == "attempt 1"
